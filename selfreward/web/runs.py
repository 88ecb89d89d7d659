"""The tree of runs, and a run: its iterations in a table, where it stands, plots, events."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, Request, Response

from selfreward.progress import RunStatus
from selfreward.store.lineage import RunNode
from selfreward.types import CheckpointRow, EvaluationRow, Metric, RunRow, Suite
from selfreward.web.charting import Source, charts
from selfreward.web.figures import ViewRow
from selfreward.web.kept import Kept, KeptNeeded
from selfreward.web.live import news, told
from selfreward.web.rendering import render
from selfreward.web.site import RunNeeded, Site, SiteNeeded

router = APIRouter()

SUMMED = ("prompts", "candidates", "judgements", "pairs")


@dataclass(frozen=True, kw_only=True)
class Branch:
    """A run in the tree."""

    name: str
    from_iteration: int | None
    standing: RunStatus
    newest: CheckpointRow | None
    done: int
    """Iterations of its own that are done."""
    sums: Mapping[str, int]
    """Over its own iterations."""
    accuracy: EvaluationRow | None
    win_rate: EvaluationRow | None
    forks: tuple["Branch", ...]


@router.get("/")
def runs(request: Request, site: SiteNeeded, kept: KeptNeeded) -> Response:
    """Every run of the database below the one it was forked from."""
    tree, done = site.store.runs.tree(), site.store.runs.iterations_done()
    roots = [_branch(site, kept, tree, node, done) for node in tree.values() if node.parent_id is None]
    return render(request, "runs.html", roots=roots)


@router.get("/runs/{run}")
def run_page(request: Request, site: SiteNeeded, kept: KeptNeeded, run: RunNeeded) -> Response:
    """One run. Of its plots the page has the figures; the pictures come after it."""
    status = kept.watching.status(run)
    return render(
        request,
        "run.html",
        run=run.name,
        standing=status,
        news=news(status),
        page=told(status),
        newest=_newest(status.checkpoints),
        iterations=_iterations(kept, run),
        charts=charts(Source(store=site.store, figures=kept.figures, run=run)),
    )


def _branch(
    site: Site, kept: Kept, tree: Mapping[int, RunNode], node: RunNode, done: Mapping[int, int]
) -> Branch:
    run = site.store.runs.find(node.name)
    assert run is not None
    status = kept.watching.status(run)
    own = [
        row for row in kept.figures.rows("iteration_summary", run.id, fresh=True) if row["run"] == run.name
    ]
    return Branch(
        name=run.name,
        from_iteration=node.parent_iteration,
        standing=status,
        newest=_newest(status.checkpoints),
        done=done.get(node.id, 0),
        sums={column: sum(row[column] or 0 for row in own) for column in SUMMED},
        accuracy=_latest(site, run, Suite.JUDGE, Metric.PAIRWISE_ACCURACY),
        win_rate=_latest(site, run, Suite.ASSISTANT, Metric.WIN_RATE_FIRST),
        forks=tuple(
            _branch(site, kept, tree, fork, done) for fork in tree.values() if fork.parent_id == node.id
        ),
    )


def _newest(checkpoints: Sequence[CheckpointRow]) -> CheckpointRow | None:
    """The end of the line M_0, M_1, …"""
    line = [row for row in checkpoints if row.name == f"M_{row.version}"]
    return line[-1] if line else None


def _latest(site: Site, run: RunRow, suite: Suite, metric: Metric) -> EvaluationRow | None:
    rows = site.store.evaluations.rows(run.id)
    found = [row for row in rows if row.suite is suite and row.metric is metric and row.value is not None]
    return max(found, key=lambda row: int(row.checkpoint.split("_")[1]), default=None)


def _iterations(kept: Kept, run: RunRow) -> list[dict[str, Any]]:
    """iteration_summary with judge_health beside it, by iteration."""
    health: dict[tuple[str, int], ViewRow] = {
        (row["run"], row["t"]): row for row in kept.figures.rows("judge_health", run.id, fresh=True)
    }
    rows = kept.figures.rows("iteration_summary", run.id, fresh=True)
    return [{**row, "health": health.get((row["run"], row["t"]))} for row in rows]
