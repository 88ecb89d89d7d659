"""Rates and time left from given samples; what a run is doing, and how it goes on."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from selfreward.progress import Meter, Mood
from selfreward.progress.activity import left, working
from selfreward.progress.rates import recent_rate, seconds_left, thinned
from selfreward.store.progress import Request
from selfreward.types import ControlAction, EventRow, LeaseRow

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
    assert left(None, None, None, "").mood is Mood.NEW, "a fork that waits for its start"
