"""One iteration: what it made, how long that took, under which settings, and what was wrong."""

from collections.abc import Iterator, Mapping
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse
from sqlalchemy import select

from selfreward.config.changes import toml
from selfreward.errors import BadInput
from selfreward.store.browse import Browse
from selfreward.store.browsed import IterationDetail
from selfreward.store.schema import ItemFailure, Stage
from selfreward.web.charting import Source, chart
from selfreward.web.figures import ViewRow
from selfreward.web.kept import Kept, KeptNeeded
from selfreward.web.rendering import render
from selfreward.web.site import Missing, Number, RunNeeded, Site, SiteNeeded

router = APIRouter()

MOST_FAILURES = 20
SCORES = 6


@router.get("/runs/{run}/iterations/{t}")
def iteration(request: Request, site: SiteNeeded, kept: KeptNeeded, run: RunNeeded, t: Number) -> Response:
    """Iteration t of a run; one that a fork has from another run is shown with that run."""
    try:
        detail = Browse(site.store.database).iteration(run.id, t)
    except BadInput as error:
        raise Missing(error.message, error.hint) from None
    if detail.run != run.name:
        return RedirectResponse(f"/runs/{detail.run}/iterations/{t}")
    numbers = [own.t for own in kept.figures.history(run.id)]
    source = Source(store=site.store, figures=kept.figures, run=run, t=t)
    return render(
        request,
        "iteration.html",
        run=run.name,
        it=detail,
        before=max((other for other in numbers if other < t), default=None),
        after=min((other for other in numbers if other > t), default=None),
        health=next(iter(source.rows("judge_health")), None),
        length=next(iter(source.rows("length_by_iteration")), None),
        rates=_rates(kept, source),
        scores=_scores(detail),
        charts=[made for name in ("scores", "training") if (made := chart(source, name))],
        settings=list(_flat(detail.settings)),
        changed=[(change.key, toml(change.old), toml(change.new)) for change in detail.changed],
        failures=_failures(site, detail),
    )


def _rates(kept: Kept, source: Source) -> Mapping[str, ViewRow]:
    return {row["stage"]: row for row in source.rows("throughput")}


def _scores(detail: IterationDetail) -> list[tuple[str, int, float]]:
    """(score, judgements, share of all): rounded to whole points, what could not be read last."""
    counts = [0] * SCORES
    for score, count in detail.scores.items():
        counts[min(SCORES - 1, int(score + 0.5))] += count
    total = int(detail.counts["judgements"] or 0)
    rest = total - sum(counts)
    named = [*((str(score), count) for score, count in enumerate(counts)), ("unreadable", rest)]
    return [(name, count, count / max(total, 1)) for name, count in named] if total else []


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, toml(value)


def _failures(site: Site, detail: IterationDetail) -> list[dict[str, Any]]:
    """Items of its stages of which a try has failed, those with the most tries first."""
    query = (
        select(Stage.name, ItemFailure.item_id, ItemFailure.attempts, ItemFailure.last_error)
        .join(Stage, Stage.id == ItemFailure.stage_id)
        .where(Stage.iteration_id == detail.id)
        .order_by(ItemFailure.attempts.desc(), ItemFailure.item_id)
        .limit(MOST_FAILURES)
    )
    with site.store.database.read() as connection:
        return [dict(row) for row in connection.execute(query).mappings()]
