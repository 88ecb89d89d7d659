"""What is counted as rows are stored is what a recount finds, whatever is stored, and however often."""

from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from selfreward.store.counting import tenth
from selfreward.store.recount import wrong_tallies
from selfreward.types import CandidateStatus, JudgementStatus, NewCandidate, NewJudgement, StageName
from tests.conftest import Filled

PROMPTS, CANDIDATES, SAMPLES = 2, 3, 3
SCORES = st.sampled_from([0.0, 1e-200, 0.05, 0.25, 2.55, 3.0, 4.95, 5.0]) | st.floats(0, 5)
NEW_CANDIDATES = st.lists(
    st.builds(
        NewCandidate,
        prompt_id=st.integers(1, PROMPTS),
        index=st.integers(0, CANDIDATES - 1),
        text=st.just("An answer."),
        status=st.sampled_from(CandidateStatus),
        finish_reason=st.just("stop"),
        token_count=st.integers(0, 2000),
        mean_logprob=st.none(),
    ),
    max_size=4,
)
JUDGED = st.lists(
    st.tuples(st.integers(0, 99), st.integers(0, SAMPLES - 1), SCORES | st.none(), st.integers(0, 500)),
    max_size=6,
)
STORES = st.lists(st.tuples(NEW_CANDIDATES, JUDGED), min_size=1, max_size=4)


def judgement(candidate_id: int, sample: int, score: float | None, tokens: int) -> NewJudgement:
    return NewJudgement(
        candidate_id=candidate_id,
        sample=sample,
        raw_text="",
        status=JudgementStatus.UNREADABLE if score is None else JudgementStatus.READ,
        score=score,
        token_count=tokens,
        finish_reason="stop",
    )


def store_both(filled: Filled, candidates: list[NewCandidate], judged: list[tuple[Any, ...]]) -> None:
    """Candidates, then judgements of any of those that are there by now."""
    store, sample, judge = filled.store, filled.stage(StageName.SAMPLE), filled.stage(StageName.JUDGE)
    store.candidates.add(filled.iteration.id, sample.id, None, candidates, 1)
    with store.database.read() as connection:
        there = connection.execute(text("SELECT id FROM candidate ORDER BY id")).scalars().all()
    rows = [judgement(there[place % len(there)], *rest) for place, *rest in judged if there]
    store.candidates.add_judgements(filled.judge, judge.id, None, rows, 1)


def wrong(filled: Filled) -> list[str]:
    with filled.store.database.read() as connection:
        return wrong_tallies(connection)[1]


@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(stores=STORES)
def test_tallies_are_what_the_rows_add_up_to(filled: Filled, stores: list[tuple[Any, Any]]) -> None:
    """The rows of all examples come together: what an earlier one has stored is a replay in a later one."""
    for draw in range(1, PROMPTS + 1):
        filled.prompt(f"Prompt {draw}?", draw=draw)
    for candidates, judged in [*stores, stores[0]]:
        store_both(filled, candidates, judged)
        assert wrong(filled) == []


def test_a_replay_is_not_counted(filled: Filled) -> None:
    prompt = filled.prompt("Which is better?")
    for _ in range(2):
        filled.candidates(prompt, ["good", "not so good"])
        filled.judgements(1, [5.0, 4.0, None])
    filled.candidates(prompt, ["not so good", "bad"], first=1)
    assert filled.store.candidates.statuses(filled.iteration.id) == {"ok": 3}
    assert filled.store.candidates.judged(filled.iteration.id, filled.judge) == (3, 2, 4.5)
    with filled.store.database.read() as connection:
        tallies = connection.execute(text("SELECT status, candidates, tokens FROM candidate_tally"))
        assert tallies.all() == [("ok", 3, 5)]


def test_a_tally_that_differs_is_found(filled: Filled) -> None:
    filled.candidates(filled.prompt("Which is better?"), ["good", "bad"])
    filled.judgements(1, [5.0, 4.0])
    assert wrong(filled) == []
    with filled.store.database.write() as connection:
        connection.execute(text("DELETE FROM judgement WHERE id = 1"))
        connection.execute(text("UPDATE candidate_tally SET tokens = 7"))
    answers, judgements = wrong(filled)
    assert (
        answers == "candidate_tally of iteration_id 1, status ok: the sums are (7.0,), and should be (2.0,)"
    )
    assert judgements.startswith("judgement_tally of iteration_id 1, judge_id 1, status read, tenth 50: ")
    assert judgements.endswith("1 are counted, and there are 0")


def test_scores_are_tallied_in_tenths() -> None:
    scores = (None, 0.0, 0.04, 0.05, 2.549, 2.55, 4.95, 5.0)
    assert [tenth(score) for score in scores] == [0, 0, 0, 1, 25, 26, 50, 50]
