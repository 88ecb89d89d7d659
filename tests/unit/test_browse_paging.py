"""Pages of prompts, put together, are the list: nothing twice, nothing missing, forward and back."""

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selfreward.store.browsed import PromptFilter, PromptListRow
from selfreward.types import PairOutcome, PromptStatus, RejectReason
from tests.browsed_run import VOCABULARY, Browsed, make_browsed, open_copy

OUTCOMES = (
    None,
    PairOutcome.PAIRED,
    PairOutcome.TIE,
    PromptStatus.ACCEPTED,
    RejectReason.SIMILAR,
)
FILTERS = st.builds(
    PromptFilter,
    t=st.sampled_from((None, 1)),
    outcome=st.sampled_from(OUTCOMES),
    least_score=st.sampled_from((None, 2.0)),
    most_margin=st.sampled_from((None, 2.0)),
    words=st.lists(st.sampled_from((*VOCABULARY, "s", "na")), max_size=2).map(" ".join),
)


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def browsed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browsed]:
    """Two iterations of 12 prompts, to read."""
    store = open_copy(request, tmp_path_factory.mktemp("paged"))
    yield make_browsed(store, prompts=12)
    store.close()


@given(wanted=FILTERS, limit=st.integers(3, 12), forked=st.booleans(), forward=st.booleans())
@settings(max_examples=25, deadline=None)
def test_pages_put_together_are_the_list(
    browsed: Browsed, wanted: PromptFilter, limit: int, forked: bool, forward: bool
) -> None:
    run = browsed.fork if forked else browsed.run
    everything = browsed.browse.prompts(run.id, limit=1_000).rows
    expected = [row.id for row in everything if _meets(row, wanted)]
    assert list(_walked(browsed, run.id, wanted, limit, forward)) == expected


def _walked(browsed: Browsed, run_id: int, wanted: PromptFilter, limit: int, forward: bool) -> Iterator[int]:
    """Ids, page by page, in the order of the ids."""
    pages, place = [], None if forward else 2**62
    while forward or place is not None:
        where: dict[str, Any] = {"after" if forward else "before": place}
        page = browsed.browse.prompts(run_id, wanted, limit=limit, **where)
        assert len(page.rows) <= limit
        pages.append([row.id for row in page.rows])
        place = page.after if forward else page.before
        if place is None:
            break
    for ids in pages if forward else reversed(pages):
        yield from ids


def _meets(row: PromptListRow, wanted: PromptFilter) -> bool:
    """The filter as a sentence says it."""
    *whole, beginning = wanted.words.lower().split() or [""]
    words = row.text.lower().split()
    return (
        wanted.t in (None, row.t)
        and wanted.outcome in (None, row.outcome, row.status, row.reject_reason)
        and (wanted.least_score is None or (row.best_score or 0) >= wanted.least_score)
        and (wanted.most_margin is None or (row.margin is not None and row.margin <= wanted.most_margin))
        and set(whole) <= set(words)
        and any(word.startswith(beginning) for word in words)
    )


def test_the_way_back_leads_where_one_came_from(browsed: Browsed) -> None:
    first = browsed.browse.prompts(browsed.run.id, limit=7)
    second = browsed.browse.prompts(browsed.run.id, limit=7, after=first.after)
    assert first.before is None and second.before == second.rows[0].id
    back = browsed.browse.prompts(browsed.run.id, limit=7, before=second.before)
    assert back.rows == first.rows and back.before is None and back.after == first.after
    assert asdict(back) == asdict(first)


@pytest.mark.parametrize("place", [-5, 0, 2**62])
def test_a_place_out_of_range_is_an_empty_page_or_the_first(browsed: Browsed, place: int) -> None:
    page = browsed.browse.prompts(browsed.run.id, after=place, limit=5)
    assert len(page.rows) == (5 if place <= 0 else 0)
    assert browsed.browse.prompts(browsed.run.id, before=min(place, 0)).rows == ()
