"""Held-out answers and their comparisons, on both databases: what is missing, what was found."""

import pytest

from selfreward.store import Store
from selfreward.types import CandidateStatus, Comparison, Seed, Split, StageName, Verdict
from tests.measured_run import Measured, answers_compared


@pytest.fixture
def measured(store: Store) -> Measured:
    """A store with held-out seeds in it."""
    return Measured(store)


def test_unanswered_prompts_are_this_checkpoints_own(measured: Measured) -> None:
    other = measured.more(2)
    measured.answer(measured.checkpoint, measured.first, CandidateStatus.FAILED)
    find = measured.store.answers.missing
    assert [row.id for row in find(measured.checkpoint.id, measured.held_out, 0, 9)] == [measured.second]
    assert [row.id for row in find(other.id, measured.held_out, 0, 9)] == measured.held_out
    assert [(row.id, row.missing) for row in find(other.id, measured.held_out, 0, 1)] == [
        (measured.first, (0,))
    ]
    assert [row.id for row in find(other.id, measured.held_out, measured.first, 9)] == [measured.second]
    assert find(other.id, [], 0, 9) == []


def test_held_out_prompts_are_seeds_held_out_up_to_a_number(measured: Measured) -> None:
    measured.store.prompts.add_seeds(measured.run.id, [Seed(instruction="Third?", split=Split.HELD_OUT)])
    everyone = measured.store.answers.prompts(measured.run.id, 99)
    assert len(everyone) == 3 and measured.learnt not in everyone
    assert measured.store.answers.prompts(measured.run.id, 2) == everyone[:2]
    assert measured.store.answers.prompts(measured.run.id, 0) == []


def test_answers_are_stored_once_and_come_in_the_order_of_the_prompts(measured: Measured) -> None:
    for prompt_id in (measured.second, measured.first, measured.second):
        measured.answer(measured.checkpoint, prompt_id)
    measured.answer(measured.more(2), measured.first)
    rows = measured.store.answers.of(measured.checkpoint.id)
    assert [(row.prompt_id, row.prompt, row.text) for row in rows] == [
        (measured.first, "First?", f"M_1 to {measured.first}"),
        (measured.second, "Second?", f"M_1 to {measured.second}"),
    ]
    assert all(row.status is CandidateStatus.OK for row in rows)
    assert measured.store.answers.of(measured.checkpoint.id, [measured.second]) == rows[1:]
    assert measured.stage(StageName.ANSWER_HELD_OUT).cursor == measured.second


def test_answers_are_to_be_compared_in_both_orders(measured: Measured) -> None:
    other, ids = answers_compared(measured)
    mine, theirs = ids["M_2", measured.first], ids["M_1", measured.first]
    find = measured.store.answers.uncompared
    tasks = find(measured.judge, other.id, [measured.checkpoint.id], measured.held_out, 0, 9)
    assert [task.id for task in tasks] == [mine, ids["M_2", measured.second]]
    assert tasks[0].missing == ((mine, theirs), (theirs, mine))
    assert tasks[0].prompt_text == "First?"
    assert dict(tasks[0].texts) == {mine: f"M_2 to {measured.first}", theirs: f"M_1 to {measured.first}"}
    measured.compare(theirs, mine, None)
    tasks = find(measured.judge, other.id, [measured.checkpoint.id], measured.held_out, 0, 1)
    assert [task.missing for task in tasks] == [((mine, theirs),)]
    later = find(measured.judge, other.id, [measured.checkpoint.id], measured.held_out, mine, 9)
    assert [task.id for task in later] == [ids["M_2", measured.second]]


def test_another_judge_compares_anew(measured: Measured) -> None:
    other, ids = answers_compared(measured)
    measured.compare(ids["M_2", measured.first], ids["M_1", measured.first], Verdict.FIRST)
    independent = measured.store.candidates.judge(None, "pairwise", "c.jinja", "0" * 64, {"model": "x"})
    [task] = measured.store.answers.uncompared(
        independent, other.id, [measured.checkpoint.id], [measured.first], 0, 9
    )
    assert len(task.missing) == 2
    assert measured.store.answers.comparison_count(independent, other.id) == 0


def test_an_opponent_without_an_answer_is_left_out(measured: Measured) -> None:
    other, failed = measured.more(2), measured.more(3)
    measured.answer(other, measured.first)
    measured.answer(failed, measured.first, CandidateStatus.FAILED)
    opponents = [measured.checkpoint.id, failed.id]
    [task] = measured.store.answers.uncompared(measured.judge, other.id, opponents, measured.held_out, 0, 9)
    assert task.missing == () and list(task.texts) == [task.id]
    assert (
        measured.store.answers.uncompared(measured.judge, failed.id, [other.id], measured.held_out, 0, 9)
        == []
    )
    assert measured.store.answers.comparisons(measured.judge, other.id, measured.checkpoint.id) == []


def test_empty_and_cut_answers_are_compared_like_any(measured: Measured) -> None:
    other = measured.more(2)
    measured.answer(other, measured.first, CandidateStatus.EMPTY)
    measured.answer(measured.checkpoint, measured.first, CandidateStatus.TRUNCATED)
    [task] = measured.store.answers.uncompared(
        measured.judge, other.id, [measured.checkpoint.id], measured.held_out, 0, 9
    )
    assert len(task.missing) == 2


def test_comparisons_tell_the_orders_apart_from_either_side(measured: Measured) -> None:
    other, ids = answers_compared(measured)
    first, second = measured.held_out
    measured.compare(ids["M_2", first], ids["M_1", first], Verdict.FIRST)
    measured.compare(ids["M_1", first], ids["M_2", first], Verdict.SECOND)
    measured.compare(ids["M_2", second], ids["M_1", second], Verdict.SECOND)
    measured.compare(ids["M_1", second], ids["M_2", second], None)
    read = measured.store.answers.comparisons
    assert read(measured.judge, other.id, measured.checkpoint.id) == [
        Comparison(prompt_id=first, shown_first=Verdict.FIRST, shown_second=Verdict.SECOND),
        Comparison(prompt_id=second, shown_first=Verdict.SECOND, shown_second=None),
    ]
    assert read(measured.judge, measured.checkpoint.id, other.id) == [
        Comparison(prompt_id=first, shown_first=Verdict.SECOND, shown_second=Verdict.FIRST),
        Comparison(prompt_id=second, shown_first=None, shown_second=Verdict.SECOND),
    ]
    assert measured.store.answers.comparison_count(measured.judge, other.id) == 4


def test_a_replay_of_a_comparison_changes_nothing(measured: Measured) -> None:
    other, ids = answers_compared(measured)
    pair = ids["M_2", measured.first], ids["M_1", measured.first]
    measured.compare(*pair, Verdict.FIRST)
    measured.compare(*pair, Verdict.SECOND)
    [row] = measured.store.answers.comparisons(measured.judge, other.id, measured.checkpoint.id)
    assert row.shown_first is Verdict.FIRST


def test_comparisons_with_a_third_checkpoint_are_not_mixed_in(measured: Measured) -> None:
    other, ids = answers_compared(measured)
    third = measured.more(3)
    measured.answer(third, measured.first)
    [(key,)] = measured.sql(f"SELECT id FROM answer WHERE checkpoint_id = {third.id}")
    measured.compare(ids["M_2", measured.first], key, Verdict.FIRST)
    assert measured.store.answers.comparisons(measured.judge, other.id, measured.checkpoint.id) == []
    assert len(measured.store.answers.comparisons(measured.judge, other.id, third.id)) == 1
