"""Where a run stands: rates and time left, totals by stage, what the run is doing and how it goes on."""

import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from selfreward.config import Settings
from selfreward.errors import BadInput
from selfreward.progress import Meter, Mood, RunStatus, as_json, gather
from selfreward.progress.activity import left, working
from selfreward.progress.rates import recent_rate, seconds_left, thinned
from selfreward.progress.totals import expected
from selfreward.store.progress import Request
from selfreward.types import (
    ControlAction,
    EventRow,
    LeaseRow,
    MetricPoint,
    PairDecision,
    PairOutcome,
    StageName,
    Status,
)
from tests.conftest import Filled

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def seconds_ago(*seconds: float) -> list[datetime]:
    return [NOW - timedelta(seconds=each) for each in seconds]


def metered(samples: Sequence[tuple[float, float]]) -> Meter:
    meter = Meter()
    for moment, number in samples:
        meter.see("rows", moment, number)
    return meter


def life(kind: str, message: str = "", **data: object) -> EventRow:
    return EventRow(id=1, at=NOW, kind=kind, message=message, data=data)


def look(filled: Filled, settings: Settings | None = None) -> RunStatus:
    return gather(filled.store, settings or filled.settings)


# Rates


def test_the_rate_is_that_of_the_last_minute() -> None:
    slow_then_fast = [(float(second), 1.0 * second) for second in range(100)]
    slow_then_fast += [(float(second), 100 + 5.0 * (second - 100)) for second in range(100, 200)]
    assert metered(slow_then_fast).rate("rows") == pytest.approx(5.0)


def test_a_stall_shows_within_a_minute() -> None:
    samples = [(float(second), min(second, 100) * 2.0) for second in range(0, 161)]
    assert metered(samples[:131]).rate("rows") == pytest.approx(1.0, abs=0.1)
    assert metered(samples).rate("rows") == 0.0


def test_looks_that_lie_too_close_tell_no_rate() -> None:
    assert metered([(0.0, 0.0), (5.0, 50.0)]).rate("rows") is None
    assert Meter().rate("rows") is None
    assert metered([(0.0, 0.0), (10.0, 50.0)]).rate("rows") == 5.0


def test_very_frequent_looks_keep_the_whole_window() -> None:
    samples = [(place / 100, place / 100) for place in range(30_000)]
    assert metered(samples).rate("rows") == pytest.approx(1.0)


@pytest.mark.parametrize("last", [(40.0, 60.0), (60.0, 10.0)], ids=["clock set back", "rows gone"])
def test_another_clock_or_other_rows_begin_anew(last: tuple[float, float]) -> None:
    assert metered([(0.0, 0.0), (50.0, 50.0), last]).rate("rows") is None


def test_a_counter_in_steps_has_the_rate_between_its_changes() -> None:
    """Noted every five seconds, looked at every second."""
    samples = [(float(second), 100.0 * (second // 5)) for second in range(43)]
    assert metered(samples).step_rate("rows") == pytest.approx(20.0)
    assert metered([*samples, (60.0, 800.0), (80.0, 800.0)]).step_rate("rows") == 0.0


def test_the_newest_rows_tell_a_rate_at_the_first_look() -> None:
    every_second = seconds_ago(*range(120))
    assert recent_rate(every_second, NOW) == pytest.approx(1.0, abs=0.05)
    assert recent_rate(every_second[:20], NOW, more=True) == pytest.approx(1.0, abs=0.1)
    assert recent_rate(every_second[:10], NOW, begun=NOW - timedelta(seconds=10)) == pytest.approx(1.0)
    assert recent_rate(seconds_ago(300, 400), NOW) == 0.0
    assert recent_rate([], NOW) == 0.0
    assert recent_rate(seconds_ago(0, 0, 0), NOW, begun=NOW) == 3.0, "never from less than a second"


def test_time_left_takes_the_first_rate_that_is_known() -> None:
    assert seconds_left(10, 110, 5.0, 1.0) == 20
    assert seconds_left(10, 110, None, 1.0) == 100
    assert seconds_left(10, 110, 0.0, 1.0) == 100, "a pause of a minute is not for ever"
    assert seconds_left(10, None, 5.0) is None and seconds_left(10, 110, None) is None
    assert seconds_left(120, 110, 5.0) == 0


def test_a_curve_is_thinned_out_and_keeps_its_ends() -> None:
    curve = [(step, float(step)) for step in range(1, 1001)]
    few = thinned(curve, 50)
    assert len(few) == 50 and few[0] == curve[0] and few[-1] == curve[-1]
    assert thinned(curve[:3], 50) == tuple(curve[:3])


# What it is doing


def test_a_pause_says_how_to_go_on() -> None:
    paused = working(life("paused", "resting: pause", reasons=["pause"]), None, None, " --dir x")
    assert (paused.mood, paused.reason) == (Mood.PAUSED, "asked to pause")
    assert "selfreward resume --dir x" in paused.remedy


@pytest.mark.parametrize(
    ("reason", "remedy"),
    [
        ("gate", "selfreward resume"),
        ("engine", "selfreward resume"),
        ("disk", "free some disk"),
        ("database", "by itself"),
        ("window", "20:00-08:00"),
        ("something new", "selfreward resume"),
    ],
)
def test_every_reason_to_rest_has_a_way_out(reason: str, remedy: str) -> None:
    event = life("paused", f"resting: {reason}: the cause", reasons=[reason])
    resting = working(event, None, "20:00-08:00", "")
    assert resting.mood is Mood.RESTING and resting.reason.endswith(": the cause")
    assert remedy in resting.remedy


def test_several_reasons_are_all_told() -> None:
    event = life("paused", "resting: gate, window: readable_share: 3%", reasons=["gate", "window"])
    resting = working(event, None, "20:00-08:00", "")
    assert resting.reason == "held by a health gate, outside of its hours: readable_share: 3%"
    assert "resume" in resting.remedy and "20:00-08:00" in resting.remedy


def test_what_was_asked_and_is_not_done_yet_is_told() -> None:
    later = NOW + timedelta(seconds=1)
    pause = Request(action=ControlAction.PAUSE, requested_at=later, taken_up=False)
    assert "not heard it yet" in working(life("started"), pause, None, "").reason
    pausing = working(life("started"), replace(pause, taken_up=True), None, "")
    assert pausing.mood is Mood.PAUSING and "in flight" in pausing.reason
    stop = replace(pause, action=ControlAction.STOP, taken_up=True)
    assert working(life("paused", reasons=["pause"]), stop, None, "").mood is Mood.PAUSING
    assert working(life("resumed"), replace(pause, requested_at=NOW), None, "").mood is Mood.RUNNING
    resumed = replace(pause, action=ControlAction.RESUME, taken_up=True)
    assert working(life("started"), resumed, None, "").mood is Mood.RUNNING


def test_a_run_without_a_daemon_says_why() -> None:
    lease = LeaseRow(run_id=1, owner="host:1", fence=1, heartbeat_at=NOW, released=False)
    gone = left(life("resumed"), lease, 2, "")
    assert gone.mood is Mood.GONE and "03:04:05" in gone.reason and "selfreward start" in gone.remedy
    done = left(life("stopped", "all iterations are done"), lease, 2, "")
    assert done.mood is Mood.DONE and done.remedy.endswith("selfreward start --iterations 3")
    assert left(life("stopped", "stopped"), lease, 2, "").mood is Mood.STOPPED
    halted = left(life("halted", "too few pairs"), lease, 2, "")
    assert (halted.mood, halted.reason) == (Mood.HALTED, "too few pairs")
    assert left(life("failed", "no"), lease, 2, "").mood is Mood.FAILED


# Totals


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


def test_the_figures_of_a_server_that_ended_stay(filled: Filled) -> None:
    runs = filled.store.runs
    session = runs.begin_session(filled.iteration.id, filled.checkpoint.id, "fake", 7)
    runs.note_session(session, 10, 20)
    runs.end_session(session, None, None)
    runs.note_session(session, 0, 0)
    [row] = filled.store.progress.sessions(filled.iteration.id)
    assert (row.prompt_tokens, row.generated_tokens) == (10, 20) and row.finished_at is not None


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


def test_a_run_that_was_not_started_is_a_users_mistake(filled: Filled) -> None:
    with pytest.raises(BadInput, match="has not been started yet"):
        gather(filled.store, Settings.model_validate({"name": "other"}))
