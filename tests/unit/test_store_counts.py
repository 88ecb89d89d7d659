"""What counts for an iteration: its own rows, judged by its own judge, whatever else is in the database."""

from selfreward.types import CheckpointKind, StageName
from tests.conftest import Filled


def judged_twice(filled: Filled) -> int:
    """A prompt with two candidates, judged by the iteration's judge and by another; returns the other."""
    filled.candidates(filled.prompt("Which is better?"), ["good", "bad"])
    filled.judgements(1, [5.0, None])
    own = filled.judge
    filled.judge = filled.store.candidates.judge(filled.checkpoint.id, "rubric", "other.jinja", "1" * 64, {})
    filled.judgements(1, [1.0, 1.0, 1.0])
    filled.judgements(2, [2.0])
    filled.judge, other = own, filled.judge
    return other


def another_run(filled: Filled) -> Filled:
    """A second run in the same database, with the same judge."""
    other = Filled(filled.store)
    other.run = filled.store.runs.ensure("other")
    other.checkpoint = filled.store.runs.add_checkpoint(
        other.run.id, 1, CheckpointKind.BASE, "models/M_1", "digest-1"
    )
    other.iteration = filled.store.runs.open_iteration(other.run.id, 1, other.checkpoint.id, other.settings)
    other.judge = filled.judge
    return other


def test_only_the_iterations_judge_counts(filled: Filled) -> None:
    other = judged_twice(filled)
    store, iteration = filled.store, filled.iteration
    assert store.journal.count(iteration, StageName.JUDGE) == 2
    assert store.candidates.judgement_count(iteration.id, filled.judge) == 2
    assert store.candidates.judgement_count(iteration.id, other) == 4
    store.runs.set_judge(iteration.id, other)
    assert store.journal.count(iteration, StageName.JUDGE) == 4


def test_a_judge_is_told_by_iteration(filled: Filled) -> None:
    """A fork may be judged by its parent's judge: their figures stay apart."""
    judged_twice(filled)
    other = another_run(filled)
    other.candidates(other.prompt("And of these?", draw=7), ["first", "second"])
    other.judgements(3, [4.0, 3.0])
    judged = filled.store.candidates.judged
    assert judged(filled.iteration.id, filled.judge) == (2, 1, 5.0)
    assert judged(other.iteration.id, filled.judge) == (2, 2, 3.5)


def test_each_count_is_the_one_of_all(filled: Filled) -> None:
    judged_twice(filled)
    journal = filled.store.journal
    counts = journal.counts(filled.iteration)
    assert {stage: number for stage, number in counts.items() if number} == {
        StageName.SELF_INSTRUCT: 1,
        StageName.SAMPLE: 2,
        StageName.JUDGE: 2,
    }
    assert all(journal.count(filled.iteration, stage) == number for stage, number in counts.items())


def test_a_page_of_prompts_has_its_own_candidates_only(filled: Filled) -> None:
    """What another run wrote in between, and judged with the same judge, is not in it."""
    other = another_run(filled)
    first = filled.prompt("The first of ours?")
    between = other.prompt("One of theirs?", draw=8)
    last = filled.prompt("The last of ours?", draw=2)
    filled.candidates(first, ["one", "two"])
    other.candidates(between, ["not ours"])
    filled.candidates(last, ["three"])
    for candidate in (1, 3, 4):
        filled.judgements(candidate, [float(candidate)])
    page = filled.store.pairs.undecided(filled.iteration.id, filled.judge, 0, 500)
    assert [(prompt.id, [each.text for each in prompt.candidates]) for prompt in page] == [
        (first, ["one", "two"]),
        (last, ["three"]),
    ]
    assert [each.scores for prompt in page for each in prompt.candidates] == [(1.0,), (), (4.0,)]
    assert filled.store.pairs.undecided(filled.iteration.id, filled.judge, last, 500) == []
