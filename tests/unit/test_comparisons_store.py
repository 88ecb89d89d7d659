"""Comparisons of candidates on both databases: what is missing, what is stored once, what the order did."""

import pytest
from sqlalchemy import func, select

from selfreward.store.comparisons import unsettled
from selfreward.store.schema import CandidateComparison, Judgement
from selfreward.types import JudgementStatus, NewCandidateComparison, NewJudgement, Shown, StageName
from tests.conftest import Filled

READ, FAILED = JudgementStatus.READ, JudgementStatus.FAILED


@pytest.fixture
def judge(filled: Filled) -> int:
    """A judge that compares, and a prompt with candidates 1 and 2, one with 3 and 4."""
    for draw in (1, 2):
        filled.candidates(filled.prompt(f"Prompt {draw}.", draw=draw), ["one", "two"])
    return filled.store.candidates.judge(filled.checkpoint.id, "pairwise", "t.jinja", "1" * 64, {})


def compared(first: int, second: int, probability: float | None) -> NewCandidateComparison:
    status = FAILED if probability is None else READ
    return NewCandidateComparison(
        first_id=first, second_id=second, status=status, probability_first=probability
    )


def scored(candidate: int, score: float) -> NewJudgement:
    return NewJudgement(
        candidate_id=candidate,
        sample=0,
        raw_text="",
        status=READ,
        score=score,
        token_count=0,
        finish_reason="comparison",
    )


def test_a_prompt_is_missing_until_its_candidates_are_judged(filled: Filled, judge: int) -> None:
    store, stage = filled.store, filled.stage(StageName.JUDGE)
    add, mine = store.comparisons.add, (filled.iteration.id, judge)
    for _ in range(2):  # a commit that comes again adds nothing
        add(*mine, None, [compared(1, 2, 0.75), compared(2, 1, None)])
    first, second = store.comparisons.unsettled(*mine, 2, 0, 9)
    assert (first.id, second.id) == (2, 4)
    assert first.orders == {
        (1, 2): Shown(status=READ, probability_first=0.75),
        (2, 1): Shown(status=FAILED, probability_first=None),
    }
    assert second.orders == {}
    add(*mine, None, [], [scored(1, 4.0), scored(2, 1.0)], (stage.id, 2))
    assert [each.id for each in store.comparisons.unsettled(*mine, 2, 0, 9)] == [4]
    assert store.comparisons.unsettled(*mine, 3, 0, 9) == [], "a third candidate is still to come"
    assert store.candidates.judged(*mine) == (2, 2, 2.5)
    with store.database.read() as connection:
        counts = [connection.scalar(select(func.count(t.id))) for t in (CandidateComparison, Judgement)]
    assert counts == [2, 2]
    assert filled.stage(StageName.JUDGE).cursor == 2


def test_what_the_order_did_is_counted(filled: Filled, judge: int) -> None:
    store, mine = filled.store, (filled.iteration.id, judge)
    assert store.comparisons.position_bias(*mine) == (0, 0, 0)
    rows = [compared(1, 2, 0.75), compared(2, 1, 0.6), compared(3, 4, 0.9), compared(4, 3, None)]
    store.comparisons.add(*mine, None, rows)
    assert store.comparisons.position_bias(*mine) == (4, 1, 1)


def test_the_work_query_pages_by_its_index(filled: Filled, judge: int) -> None:
    store = filled.store
    if not store.database.is_sqlite:
        pytest.skip("its planner looks at how few rows there are")
    query = unsettled(filled.iteration.id, judge, 2, 0, 9, False)
    sql = query.compile(store.database.engine, compile_kwargs={"literal_binds": True})
    with store.database.read() as connection:
        steps = "\n".join(row[-1] for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {sql}"))
    assert "ix_candidate_work" in steps and "SCAN" not in steps and "TEMP B-TREE" not in steps, steps
