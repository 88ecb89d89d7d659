"""A checkpoint: where it comes from, what it was trained on, how good it is, and what it answers."""

from collections.abc import Sequence
from itertools import groupby
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from fastapi import Path as InPath

from selfreward.errors import BadInput
from selfreward.places import root_of
from selfreward.report.data import ReportData
from selfreward.report.table import LEGEND, Section, sections
from selfreward.store.browse import Browse
from selfreward.store.browse_answers import outcome
from selfreward.store.browsed import AnswersRow, CheckpointDetail
from selfreward.types import CheckpointKind, CheckpointRow, RunRow, Verdict
from selfreward.web.rendering import render
from selfreward.web.search import query_of, read_places
from selfreward.web.site import Missing, RunNeeded, Site, SiteNeeded

router = APIRouter()

ANSWERS = 10
"""Held-out prompts on a page: each has two answers, shown whole."""
Name = Annotated[str, InPath(max_length=64)]


@router.get("/runs/{run}/checkpoints/{name}")
def checkpoint(
    request: Request,
    site: SiteNeeded,
    run: RunNeeded,
    name: Name,
    against: Annotated[str, Query(max_length=64)] = "",
) -> Response:
    """One checkpoint; `against` names the one whose answers stand beside its own, M_{t−1} if empty."""
    places = read_places(request.query_params)
    checkpoints = _measurable(site.store.runs.checkpoints(run.id))
    detail = _detail(site, run, name)
    other = _other(checkpoints, detail, against)
    context: dict[str, Any] = {"summary": None, "answers": None}
    if other is not None:
        browse = Browse(site.store.database)
        context["summary"] = browse.answers_summary(other.id, detail.id)
        context["answers"] = browse.answers_side_by_side(other.id, detail.id, **places, limit=ANSWERS)
    return render(
        request,
        "checkpoint.html",
        run=run.name,
        checkpoint=detail,
        other=other,
        choices=[row.name for row in checkpoints if row.id != detail.id],
        shown=_columns(checkpoints, detail),
        tables=_figures(site, run, checkpoints),
        legend=LEGEND,
        preferences=preferences,
        link=lambda **places: query_of(_kept(against) | {key: str(place) for key, place in places.items()}),
        **context,
    )


def preferences(row: AnswersRow, first: str, second: str) -> list[tuple[str, str]]:
    """Who judged two answers, and what came of it, in words."""
    said = {Verdict.FIRST: f"prefers {first}", Verdict.SECOND: f"prefers {second}", None: "undecided"}
    by_judge = groupby(row.verdicts, key=lambda verdict: verdict.judged_by)
    return [(judge, said[outcome([*verdicts])]) for judge, verdicts in by_judge]


def _measurable(checkpoints: Sequence[CheckpointRow]) -> list[CheckpointRow]:
    """Those that answer and judge: a reward model does neither."""
    return [row for row in checkpoints if row.kind is not CheckpointKind.REWARD]


def _kept(against: str) -> dict[str, str]:
    return {"against": against} if against else {}


def _detail(site: Site, run: RunRow, name: str) -> CheckpointDetail:
    try:
        return Browse(site.store.database).checkpoint(run.id, name, root_of(site.directory))
    except BadInput as problem:
        raise Missing(problem.message, problem.hint) from None


def _other(
    checkpoints: Sequence[CheckpointRow], detail: CheckpointDetail, against: str
) -> CheckpointRow | None:
    """The checkpoint that is asked for. Raises Missing when there is none of that name."""
    if not against:
        return _previous(checkpoints, detail)
    found = next((row for row in checkpoints if row.name == against and row.id != detail.id), None)
    if found is None:
        names = ", ".join(row.name for row in checkpoints if row.id != detail.id) or "none"
        raise Missing(f"there is no checkpoint {against!r} to compare with", f"There are: {names}.")
    return found


def _previous(checkpoints: Sequence[CheckpointRow], detail: CheckpointDetail) -> CheckpointRow | None:
    """M_{t−1}; what it was trained from for the SFT baseline, which stands beside the line."""
    by_name = {row.name: row for row in checkpoints}
    parent = detail.ancestors[0].name if detail.ancestors else ""
    if detail.kind is CheckpointKind.REWARD:
        return None
    before = f"M_{detail.version - 1}"
    return by_name.get(before if before in by_name else parent)


def _columns(checkpoints: Sequence[CheckpointRow], detail: CheckpointDetail) -> list[tuple[int, str]]:
    """Position and name of M_{t−1} and of the checkpoint, as far as they are there."""
    before = _previous(checkpoints, detail)
    wanted = {detail.id, before.id if before else None}
    return [(place, row.name) for place, row in enumerate(checkpoints) if row.id in wanted]


def _figures(site: Site, run: RunRow, checkpoints: Sequence[CheckpointRow]) -> tuple[Section, ...]:
    """As a judge and as an assistant; nothing where nothing was measured."""
    rows = site.store.evaluations.rows(run.id)
    return sections(ReportData(run=run.name, rows=rows, checkpoints=checkpoints))[:2] if rows else ()
