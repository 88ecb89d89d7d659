"""Judgements of ranked replies, expected scores and the bootstrap's examples, on both databases."""

import pytest

from selfreward.store import Store
from selfreward.types import DropReason, ExampleKind, JudgementStatus, NewJudgement, StageName
from tests.measured_run import Measured, examples_of

PROBABILITIES = (0.0, 0.125, 0.125, 0.25, 0.25, 0.125)


@pytest.fixture
def measured(store: Store) -> Measured:
    """A store with held-out seeds in it."""
    return Measured(store)


def test_replies_lack_judgements_by_sample_and_canaries_do_too(measured: Measured) -> None:
    good, poor = measured.reply_ids(measured.first)
    measured.reply_judgements(good, [5.0, None])
    measured.reply_judgements(poor, [1.0])
    find = measured.store.replies.short_of_judgements
    tasks = find([measured.first], measured.judge, 2, 0, 10)
    assert [(task.id, task.missing) for task in tasks] == [(poor, (1,)), (measured.canary(), (0, 1))]
    assert (tasks[0].prompt_id, tasks[0].prompt_text, tasks[0].text) == (measured.first, "First?", "Poor.")
    assert [task.id for task in find([measured.first], measured.judge, 2, poor, 10)] == [measured.canary()]
    assert [task.id for task in find([measured.first], measured.judge, 2, 0, 1)] == [poor]
    assert find([measured.learnt], measured.judge, 0, 0, 10) == []


def test_another_judge_has_judged_nothing_yet(measured: Measured) -> None:
    good, poor = measured.reply_ids(measured.second)
    measured.reply_judgements(good, [5.0])
    other = measured.judge_of(measured.more(2))
    find = measured.store.replies.short_of_judgements
    assert [task.id for task in find([measured.second], other, 1, 0, 10)] == [good, poor]


def test_a_replay_of_judgements_adds_nothing_and_the_cursor_moves_on(measured: Measured) -> None:
    good, poor = measured.reply_ids(measured.first)
    measured.reply_judgements(poor, [2.0])
    stage = measured.reply_judgements(good, [5.0, None])
    measured.reply_judgements(good, [1.0, 1.0])
    assert stage.cursor == poor
    assert measured.store.replies.judgement_count(measured.judge, [measured.first]) == 3
    assert measured.store.replies.judgement_count(measured.judge, [measured.second]) == 0
    assert [row.scores for row in measured.store.replies.judged(measured.judge, [measured.first])] == [
        (5.0,), (2.0,),
    ]  # fmt: skip


def test_judged_replies_tell_scores_tries_and_canaries(measured: Measured) -> None:
    good, poor = measured.reply_ids(measured.first)
    canary = measured.canary()
    measured.reply_judgements(canary, [5.0])
    measured.reply_judgements(good, [4.0, None, 3.0])
    measured.reply_judgements(poor, [None])
    rows = measured.store.replies.judged(measured.judge, measured.held_out)
    assert [(row.reply_id, row.rank, row.scores, row.samples, row.canary_of) for row in rows] == [
        (good, 0, (4.0, 3.0), 3, None),
        (poor, 1, (), 1, None),
        (canary, 1, (5.0,), 1, poor),
    ]
    assert [(row.prompt_id, row.length) for row in rows] == [
        (measured.first, 12), (measured.first, 5), (measured.first, 14),
    ]  # fmt: skip


def test_judging_alike_is_the_same_way_by_another_checkpoint(measured: Measured) -> None:
    second, third = measured.more(2), measured.more(3)
    good, _ = measured.reply_ids(measured.first)
    measured.reply_judgements(good, [4.0])
    measured.reply_judgements(good, [2.0], measured.judge_of(second))
    alike = measured.store.replies.judged_alike
    before = alike(measured.judge_of(second), measured.checkpoint.id, measured.held_out)
    assert [row.scores for row in before] == [(4.0,)]
    assert alike(measured.judge, third.id, measured.held_out) == []
    other_way = measured.store.candidates.judge(third.id, "rubric", "t.jinja", "1" * 64, {"guided": False})
    measured.reply_judgements(good, [1.0], other_way)
    assert alike(measured.judge, third.id, measured.held_out) == []


def test_readings_are_the_readable_ones_in_sample_order(measured: Measured) -> None:
    good, poor = measured.reply_ids(measured.learnt)
    measured.reply_judgements(good, [None, 4.5, 5.0])
    measured.reply_judgements(poor, [None])
    measured.reply_judgements(measured.reply_ids(measured.first)[0], [1.0])
    found = measured.store.replies.readings(measured.judge, [measured.learnt])
    assert {key: [(row.sample, row.score, row.raw_text) for row in rows] for key, rows in found.items()} == {
        good: [(1, 4.5, "Score: 4.5"), (2, 5.0, "Score: 5.0")]
    }


def test_counts_of_replies_take_canaries_in(measured: Measured) -> None:
    assert measured.store.replies.count([measured.first]) == 3
    assert measured.store.replies.count(measured.held_out) == 5
    assert measured.store.replies.count([]) == 0


def test_a_judge_without_a_checkpoint_is_one_row(measured: Measured) -> None:
    def ask(checkpoint: int | None, model: str) -> int:
        return measured.store.candidates.judge(checkpoint, "pairwise", "c.jinja", "0" * 64, {"model": model})

    assert ask(None, "a") == ask(None, "a")
    assert len({ask(None, "a"), ask(None, "b"), ask(measured.checkpoint.id, "a")}) == 3
    assert measured.sql("SELECT count(*) FROM judge WHERE checkpoint_id IS NULL") == [(2,)]


@pytest.mark.parametrize("table", ["judgement", "reply_judgement"])
def test_a_sampled_score_has_no_probabilities_in_sql(measured: Measured, table: str) -> None:
    measured.candidates(measured.prompt("Write a line about rain."), ["one"])
    measured.judgements(1, [3.0, None])
    measured.reply_judgements(measured.reply_ids(measured.first)[0], [3.0, None])
    query = f"SELECT count(*) FROM {table} WHERE probabilities IS NULL AND lost_mass IS NULL"
    assert measured.sql(query) == [(2,)]


@pytest.mark.parametrize("table", ["judgement", "reply_judgement"])
def test_an_expected_score_brings_its_probabilities_and_what_was_lost(measured: Measured, table: str) -> None:
    reply = measured.reply_ids(measured.first)[0]
    measured.reply_judgements(reply, [3.25], probabilities=PROBABILITIES)
    measured.candidates(measured.prompt("Write a line about rain."), ["one"])
    judgement = NewJudgement(
        candidate_id=1,
        sample=0,
        raw_text="",
        status=JudgementStatus.READ,
        score=3.25,
        token_count=1,
        finish_reason="stop",
        probabilities=PROBABILITIES,
    )
    stage = measured.stage(StageName.JUDGE)
    measured.store.candidates.add_judgements(measured.judge, stage.id, None, [judgement], 1)
    sqlite = measured.store.database.is_sqlite
    element = "json_extract(probabilities, '$[3]')" if sqlite else "(probabilities ->> 3)::float"
    length = "json_array_length(probabilities)" if sqlite else "jsonb_array_length(probabilities)"
    assert measured.sql(f"SELECT score, lost_mass, {element}, {length} FROM {table}") == [
        (3.25, 0.125, 0.25, 6)
    ]


def test_probabilities_that_round_above_one_lose_nothing(measured: Measured) -> None:
    reply = measured.reply_ids(measured.first)[0]
    measured.reply_judgements(reply, [0.5], probabilities=(0.5, 0.5000001, 0.0, 0.0, 0.0, 0.0))
    assert measured.sql("SELECT lost_mass FROM reply_judgement") == [(0.0,)]


def test_examples_are_stored_once_and_only_kept_ones_are_trained_on(measured: Measured) -> None:
    examples = measured.store.examples
    for _ in range(2):
        examples.add(measured.iteration.id, examples_of(measured))
    kept = list(examples.kept(measured.iteration.id, ExampleKind.IFT, ExampleKind.EFT))
    assert [(row.input, row.completion) for row in kept] == [("ask", "say"), ("judge", "Score")]
    assert [row.input for row in examples.kept(measured.iteration.id, ExampleKind.EFT)] == ["judge"]
    assert list(examples.kept(measured.iteration.id + 1, *ExampleKind)) == []
    assert examples.counts(measured.iteration.id) == {
        (ExampleKind.IFT, None): 1,
        (ExampleKind.EFT, None): 1,
        (ExampleKind.EFT, DropReason.COMMON_SCORE): 1,
    }


def test_a_dropped_example_is_kept_no_longer_and_says_why(measured: Measured) -> None:
    examples = measured.store.examples
    examples.add(measured.iteration.id, examples_of(measured))
    [asking] = examples.kept(measured.iteration.id, ExampleKind.IFT)
    examples.drop([asking.example_id], DropReason.TOO_LONG)
    assert list(examples.kept(measured.iteration.id, ExampleKind.IFT)) == []
    assert examples.counts(measured.iteration.id)[ExampleKind.IFT, DropReason.TOO_LONG] == 1
    examples.drop([], DropReason.SURPLUS)
    assert len(list(examples.kept(measured.iteration.id, ExampleKind.EFT))) == 1
