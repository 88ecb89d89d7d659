"""Prompts: the list with its search, and one prompt with all that was answered, judged and made of it."""

from collections.abc import Callable
from dataclasses import replace
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import RedirectResponse

from selfreward.differences import Difference, differences
from selfreward.errors import BadInput
from selfreward.store.browse import Browse
from selfreward.store.browsed import CandidateDetail, PairRow, PromptDetail
from selfreward.types import PairOutcome, PromptSource, PromptStatus, RejectReason, RunRow
from selfreward.web.rendering import render
from selfreward.web.search import BEST, PromptSearch, query_of, read_search, typed
from selfreward.web.site import Missing, Number, RunNeeded, Site, SiteNeeded

router = APIRouter()

Found = TypeVar("Found")
PAGE = 50
GROUPS = {
    "Kept or not": tuple(PromptStatus),
    "When pairs were drawn": tuple(PairOutcome),
    "Turned away": tuple(RejectReason),
}
"""What can become of a prompt, as the form lists it."""


@router.get("/runs/{run}/prompts")
def prompt_list(request: Request, site: SiteNeeded, run: RunNeeded) -> Response:
    """Prompts of a run, by what the form asks for. What it cannot ask for is said above it, with 400."""
    context: dict[str, Any] = {
        "run": run.name,
        "groups": GROUPS,
        "sources": tuple(PromptSource),
        "best": BEST,
    }
    try:
        search = read_search(request.query_params)
        places = {"after": search.after, "before": search.before}
        page = _browse(site).prompts(run.id, search.wanted, **places, limit=PAGE)
    except BadInput as problem:
        context |= {"values": typed(request.query_params), "search": None, "page": None, "problem": problem}
        return render(request, "prompts.html", 400, **context)
    context |= {"values": search.values, "search": search, "page": page, "problem": None}
    return render(request, "prompts.html", **context)


@router.get("/runs/{run}/prompts/{prompt_id}")
def prompt(
    request: Request,
    site: SiteNeeded,
    run: RunNeeded,
    prompt_id: Number,
    judgement: Annotated[str, Query(max_length=20)] = "",
    pair: Annotated[str, Query(max_length=20)] = "",
) -> Response:
    """One prompt. `judgement` is the id of the one to show opened, or "all"; `pair` that to compare."""
    search = read_search(request.query_params)
    detail = _found(lambda: _browse(site).prompt(run.id, prompt_id, search.wanted.t))
    shown = next((each for each in detail.pairs if str(each.id) == pair), detail.pair)
    back, on = _found(lambda: _neighbours(site, run, search, detail))
    return render(
        request,
        "prompt.html",
        run=run.name,
        prompt=detail,
        search=search,
        pair=shown,
        difference=_difference(detail, shown),
        opened=judgement,
        back=back,
        on=on,
    )


@router.get("/candidates/{candidate_id}")
def candidate(site: SiteNeeded, candidate_id: Number) -> Response:
    """To the prompt that it answers."""
    found = _found(lambda: _browse(site).candidate(candidate_id))
    return _to(found, f"candidate-{found.id}")


@router.get("/judgements/{judgement_id}")
def judgement(site: SiteNeeded, judgement_id: Number) -> Response:
    """To the prompt whose answer it judges, where it is shown opened."""
    found = _found(lambda: _browse(site).judged_candidate(judgement_id))
    return _to(found, f"judgement-{judgement_id}", judgement=str(judgement_id))


@router.get("/pairs/{pair_id}")
def pair(site: SiteNeeded, pair_id: Number) -> Response:
    """To the prompt as the run sees it that trains on the pair."""
    found = _found(lambda: _browse(site).pair(pair_id)).pair
    where = f"/runs/{found.run}/prompts/{found.prompt_id}?t={found.t}&pair={found.id}"
    return RedirectResponse(f"{where}#pair-{found.id}", 303)


def _browse(site: Site) -> Browse:
    return Browse(site.store.database)


def _found(look: Callable[[], Found]) -> Found:
    """What is looked for. Raises Missing, a page with 404, when it is not there."""
    try:
        return look()
    except BadInput as problem:
        raise Missing(problem.message, problem.hint) from None


def _to(found: CandidateDetail, anchor: str, **parameters: str) -> Response:
    where = f"/runs/{found.run}/prompts/{found.prompt_id}"
    return RedirectResponse(f"{where}{query_of(parameters)}#{anchor}", 303)


def _neighbours(
    site: Site, run: RunRow, search: PromptSearch, detail: PromptDetail
) -> tuple[int | None, int | None]:
    """Ids of the prompts before and after this one among what the search finds."""
    wanted = replace(search.wanted, source=detail.source)
    if wanted.t is None and not search.values:
        wanted = replace(wanted, t=detail.t)
    before = _browse(site).prompts(run.id, wanted, before=detail.id, limit=1).rows
    after = _browse(site).prompts(run.id, wanted, after=detail.id, limit=1).rows
    return before[0].id if before else None, after[0].id if after else None


def _difference(detail: PromptDetail, pair: PairRow | None) -> Difference | None:
    """From the rejected answer to the chosen one."""
    if pair is None:
        return None
    texts = {candidate.id: candidate.text for candidate in detail.candidates}
    return differences(texts[pair.rejected_id], texts[pair.chosen_id])
