"""Where a run stands: what each stage has done and is to do, and all that a look finds."""

import json
from datetime import UTC, datetime, timedelta

import pytest

from selfreward.config import Settings
from selfreward.errors import BadInput
from selfreward.progress import Meter, Mood, RunStatus, as_json, gather
from selfreward.progress.totals import count, expected
from selfreward.types import (
    CheckpointKind,
    JudgementStatus,
    MetricPoint,
    NewReplyJudgement,
    PairDecision,
    PairOutcome,
    RankedReply,
    Seed,
    Split,
    StageName,
    Status,
)
from tests.conftest import Filled
from tests.unit.test_query_plans import asked_of, plan_of, scans

on_one = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
"""What asks both databases nothing that other tests here do not."""


def look(filled: Filled, settings: Settings | None = None) -> RunStatus:
    return gather(filled.store, settings or filled.settings)


# Totals


@on_one
def test_totals_come_from_the_settings_in_force(filled: Filled) -> None:
    filled.prompt("One of a thousand?")
    status = look(filled)
    target, candidates, judgements = 1000, 4, 3
    totals = {stage.name: stage.total for stage in status.stages}
    assert totals[StageName.SELF_INSTRUCT] == target
    assert totals[StageName.SAMPLE] == target * candidates
    assert totals[StageName.JUDGE] == target * candidates * judgements
    assert totals[StageName.CHECK] is None
    others = look(filled, Settings.model_validate({"self_instruct": {"target": 5}}))
    assert others.stages[0].total == target, "the iteration was begun with others than the file's"


def test_totals_follow_what_there_is_in_the_end(filled: Filled) -> None:
    """Fewer prompts than wanted; an empty answer is not judged."""
    store, settings = filled.store, filled.settings
    filled.candidates(filled.prompt("The only one?"), ["good", "bad"])
    store.runs.finish_stage(filled.stage(StageName.SELF_INSTRUCT).id, "1 of 9 accepted")
    status = look(filled, settings)
    sample, judge = status.stage(StageName.SAMPLE), status.stage(StageName.JUDGE)
    assert sample is not None and (sample.done, sample.total) == (2, 4)
    assert judge is not None and judge.total == 12
    assert status.stage(StageName.PAIR).total == 1  # type: ignore[union-attr]


def test_the_steps_of_a_training_are_those_of_its_pairs(filled: Filled) -> None:
    for place in range(17):
        filled.candidates(filled.prompt(f"Prompt {place}?", draw=place), ["good", "bad"])
    pair = filled.stage(StageName.PAIR)
    decisions = [PairDecision(prompt_id=1 + place, outcome=PairOutcome.PAIRED) for place in range(17)]
    filled.store.pairs.decide(filled.iteration.id, filled.judge, pair.id, decisions, 17)
    assert look(filled).stage(StageName.TRAIN).total is None  # type: ignore[union-attr]
    filled.store.runs.finish_stage(pair.id, "17 pairs")
    train = filled.stage(StageName.TRAIN)
    points = [
        MetricPoint(step=1, name="loss", value=0.7),
        MetricPoint(step=1, name="rewards/margins", value=0),
    ]
    filled.store.journal.add_metrics(filled.iteration.id, StageName.TRAIN, train.attempts, points)
    status = look(filled)
    told = status.stage(StageName.TRAIN)
    assert told is not None and (told.done, told.total) == (1, 2)
    assert status.training is not None and status.training.loss == ((1, 0.7),)
    assert status.pairs == {PairOutcome.PAIRED: 17}


@on_one
def test_the_stages_to_come_are_told_too(filled: Filled) -> None:
    filled.prompt("Begun?")
    stages = look(filled).stages
    assert [stage.name for stage in stages] == list(expected(1, filled.settings))
    assert [stage.status for stage in stages] == [Status.RUNNING] + [Status.PENDING] * (len(stages) - 1)


def test_a_bootstrap_has_stages_of_its_own() -> None:
    settings = Settings.model_validate({"bootstrap": {"mode": "sft"}, "evaluation": {"enabled": False}})
    assert expected(0, settings) == (
        StageName.BASELINE,
        StageName.JUDGE,
        StageName.MEASURE_BASELINE,
        StageName.SELECT,
        StageName.TRAIN,
    )
    without = settings.model_copy(update={"bootstrap": settings.bootstrap.model_copy(update={"eft": "none"})})
    assert expected(0, without) == (StageName.SELECT, StageName.TRAIN)


def test_other_methods_have_stages_of_their_own() -> None:
    plain = {"evaluation": {"enabled": False}}
    settings = Settings.model_validate(
        {
            **plain,
            "judge": {"meta": {"enabled": True, "last_iteration": 1}},
            "pair": {"rule": "anchored"},
            "train": {"objective": "cream"},
        }
    )
    before = (StageName.SELF_INSTRUCT, StageName.SAMPLE, StageName.JUDGE)
    after = (StageName.PAIR, StageName.CHECK, StageName.TRAIN)
    assert expected(1, settings) == (
        *before,
        StageName.META_JUDGE,
        StageName.JUDGE_PREVIOUS,
        StageName.ANCHOR,
        *after,
    )
    earlier = (StageName.JUDGE_PREVIOUS, StageName.ANCHOR, StageName.JUDGE_ANCHOR)
    assert expected(2, settings) == (*before, *earlier, *after)
    rewards = Settings.model_validate({**plain, "train": {"objective": "reward_model"}})
    assert expected(1, rewards) == (*before, *after, StageName.TRAIN_REWARD)
    assert expected(1, Settings.model_validate(plain)) == (*before, *after)


@on_one
def test_comparisons_of_judgements_are_foretold_once_all_are_judged(filled: Filled) -> None:
    settings = Settings.model_validate({"judge": {"meta": {"enabled": True, "max_judgements": 2}}})
    filled.store.runs.open_iteration(filled.run.id, 1, filled.checkpoint.id, settings)
    filled.candidates(filled.prompt("Which?"), ["a", "b"])
    filled.judgements(1, [1.0, 3.0, 5.0])
    filled.judgements(2, [4.0, 4.0, 4.0])

    def total() -> int | None:
        return look(filled, settings).stage(StageName.META_JUDGE).total  # type: ignore[union-attr]

    assert total() is None
    filled.store.runs.finish_stage(filled.stage(StageName.JUDGE).id, "all of them")
    assert total() == 2, "one answer is disputed: two of its judgements, in both orders"


def test_what_a_bootstrap_judges_is_told_apart(filled: Filled) -> None:
    """M_0 judges what is held out; the baseline judges that too, and what examples are made of."""
    store, run = filled.store, filled.run
    replies = (RankedReply(text="good", rank=0), RankedReply(text="bad", rank=1))
    seeds = [Seed(instruction=f"For {split}?", split=split, replies=replies) for split in Split]
    store.prompts.add_seeds(run.id, seeds)
    base = store.runs.add_checkpoint(run.id, 0, CheckpointKind.BASE, "models/M_0", "d0")
    name = "M_0_ift"
    baseline = store.runs.add_checkpoint(run.id, 0, CheckpointKind.SFT, f"models/{name}", "d1", base.id, name)
    iteration = store.runs.open_iteration(run.id, 0, base.id, filled.settings)
    own, others = (
        store.candidates.judge(checkpoint.id, "rubric", "t.jinja", "0" * 64, {})
        for checkpoint in (base, baseline)
    )
    stage = store.runs.begin_stage(iteration.id, StageName.JUDGE)
    train, held_out = (store.replies.prompts(run.id, split) for split in (Split.TRAIN, Split.HELD_OUT))
    for judge, prompts, samples in ((own, held_out, 1), (others, train, 3), (others, held_out, 2)):
        tasks = store.replies.short_of_judgements(prompts, judge, samples, 0, 10)
        rows = [
            NewReplyJudgement(
                reply_id=task.id,
                sample=sample,
                raw_text="Score: 3",
                status=JudgementStatus.READ,
                score=3.0,
                token_count=3,
                finish_reason="stop",
            )
            for task in tasks
            for sample in task.missing
        ]
        store.replies.add_judgements(judge, stage.id, None, rows, 0)
    names = (StageName.JUDGE_HELD_OUT, StageName.JUDGE, StageName.MEASURE_BASELINE)
    assert [count(store, iteration, name) for name in names] == [2, 6, 4]
    assert [len(store.progress.newest(name, iteration).made) for name in names[1:]] == [6, 4]


# All of it


def test_rows_of_a_daemon_at_work_have_rates(filled: Filled) -> None:
    store = filled.store
    store.leases.take(filled.run.id, 60)
    store.journal.event(filled.run.id, "started", "daemon 1 took the run")
    session = store.runs.begin_session(filled.iteration.id, filled.checkpoint.id, "fake", 7)
    store.runs.session_ready(session)
    filled.candidates(filled.prompt("Which is better?"), ["good one", "bad"])
    filled.judgements(1, [5.0, 3.4, None])
    at = datetime.now(UTC) + timedelta(seconds=10)
    meter = Meter()
    first = gather(store, filled.settings, meter, at)
    sample = first.stage(StageName.SAMPLE)
    assert sample is not None and sample.rate == pytest.approx(0.2, rel=0.2)
    assert sample.seconds_left == pytest.approx(3998 / sample.rate)
    assert first.activity.mood is Mood.RUNNING and first.uptime_s == pytest.approx(10, abs=2)
    assert first.tokens_per_second.generated == pytest.approx((3 + 9) / 10, rel=0.3)
    assert (first.histogram.scores, first.histogram.unreadable) == ((0, 0, 0, 1, 0, 1), 1)
    assert first.histogram.mean == pytest.approx(4.2)
    # The next looks count: two more candidates in 20 seconds; and what the daemon notes of its engine.
    store.runs.note_session(session, 1000, 100)
    gather(store, filled.settings, meter, at + timedelta(seconds=1))
    filled.candidates(1, ["third", "fourth"], first=2)
    store.runs.note_session(session, 3000, 600)
    gather(store, filled.settings, meter, at + timedelta(seconds=10))
    store.runs.note_session(session, 5000, 1100)
    last = gather(store, filled.settings, meter, at + timedelta(seconds=20))
    assert last.stage(StageName.SAMPLE).rate == pytest.approx(0.1)  # type: ignore[union-attr]
    assert last.tokens_per_second.generated == pytest.approx(50)
    assert last.tokens_per_second.prompt == pytest.approx(200)


@on_one
def test_the_figures_of_a_server_that_ended_stay(filled: Filled) -> None:
    runs = filled.store.runs
    session = runs.begin_session(filled.iteration.id, filled.checkpoint.id, "fake", 7)
    runs.note_session(session, 10, 20)
    runs.end_session(session, None, None)
    runs.note_session(session, 0, 0)
    [row] = filled.store.progress.sessions(filled.iteration.id)
    assert (row.prompt_tokens, row.generated_tokens) == (10, 20) and row.finished_at is not None


@on_one
def test_json_holds_all_that_is_shown(filled: Filled) -> None:
    filled.candidates(filled.prompt("Which is better?"), ["good", "bad"])
    filled.judgements(1, [5.0, None])
    filled.store.journal.event(filled.run.id, "note", "\x1b[31mred\x1b[0m", figure=1)
    plain = json.loads(json.dumps(as_json(look(filled))))
    documented = {"run", "forked_from", "from_iteration", "running", "lease", "iteration"}
    documented |= {"stages", "details", "checkpoints", "events"}
    assert documented <= plain.keys()
    more = {"activity", "uptime_s", "engine", "tokens_per_second", "histogram", "pairs", "training", "gates"}
    assert more <= plain.keys() and "evaluation" in plain
    assert {"name", "status", "done", "total", "rate", "seconds_left"} <= plain["stages"][0].keys()
    assert plain["histogram"] == {"scores": [0, 0, 0, 0, 0, 1], "unreadable": 1, "mean": 5.0, "judgements": 2}
    assert datetime.fromisoformat(plain["events"][-1]["at"]).tzinfo is not None


@on_one
def test_a_run_that_was_not_started_is_a_users_mistake(filled: Filled) -> None:
    with pytest.raises(BadInput, match="has not been started yet"):
        gather(filled.store, Settings.model_validate({"name": "other"}))


@on_one
def test_no_look_goes_through_a_long_table(filled: Filled) -> None:
    """What it costs does not grow with the run: by an index, or the newest rows alone."""
    filled.store.leases.take(filled.run.id, 60)
    filled.candidates(filled.prompt("Which is better?"), ["good", "bad"])
    filled.judgements(1, [5.0])
    for name in expected(1, filled.settings):
        filled.stage(name)
    with asked_of(filled.store) as statements:
        look(filled)
    asked = [one for one in statements if one[0].startswith("SELECT")]
    assert len(asked) > 20
    through = {statement: scans(plan_of(filled.store, statement, values)) for statement, values in asked}
    assert [statement for statement, found in through.items() if found and "LIMIT" not in statement] == []
