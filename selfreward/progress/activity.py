"""What a run is doing, why it does not work, and how it goes on: read from its lease and its events."""

from selfreward import rest
from selfreward.progress.figures import Activity, Mood
from selfreward.store.progress import Request
from selfreward.types import ControlAction, EventRow, LeaseRow

ALL_DONE = "all iterations are done"
"""What a daemon says that had nothing more to do."""
REASONS = {
    rest.PAUSE: "asked to pause",
    rest.WINDOW: "outside of its hours",
    rest.GATE: "held by a health gate",
    rest.ENGINE: "the engine failed again and again",
    rest.DISK: "the disk is full",
    rest.DATABASE: "the database cannot be reached",
}


def working(last: EventRow | None, request: Request | None, window: str | None, where: str) -> Activity:
    """Of a run whose daemon is alive: by the last event of its life and the last request."""
    if last is None:
        return Activity(mood=Mood.RUNNING)
    if request is not None and request.requested_at > last.at and _matters(request, last):
        return _asked(request, where)
    if last.kind != "paused":
        return Activity(mood=Mood.RUNNING, since=last.at)
    reasons = [str(reason) for reason in last.data.get("reasons", ())]
    told = [REASONS.get(reason, reason) for reason in reasons]
    cause = last.message.removeprefix("resting: ").removeprefix(", ".join(reasons)).removeprefix(": ")
    return Activity(
        mood=Mood.PAUSED if reasons == [rest.PAUSE] else Mood.RESTING,
        reason=": ".join([part for part in (", ".join(told), cause) if part]),
        remedy="; ".join(dict.fromkeys(_remedy(reason, window, where) for reason in reasons)),
        since=last.at,
    )


def left(last: EventRow | None, lease: LeaseRow | None, newest: int | None, where: str) -> Activity:
    """Of a run without a daemon. `newest` is t of its newest iteration."""
    start = f"selfreward start{where}"
    if last is None:
        return Activity(mood=Mood.NEW, reason="it has not been started yet", remedy=f"start it: {start}")
    if last.kind in ("started", "paused", "resumed"):
        seen = f", last seen {lease.heartbeat_at:%Y-%m-%d %H:%M:%S} UTC" if lease else ""
        reason = f"its daemon ended without a word{seen}"
        remedy = f"it goes on from the last committed row: {start}"
        return Activity(
            mood=Mood.GONE, reason=reason, remedy=remedy, since=lease.heartbeat_at if lease else None
        )
    if last.kind == "stopped" and last.message == ALL_DONE:
        more = f"one more iteration: {start} --iterations {(newest or 0) + 1}"
        return Activity(mood=Mood.DONE, reason=ALL_DONE, remedy=more, since=last.at)
    if last.kind == "stopped":
        return Activity(mood=Mood.STOPPED, reason="asked to stop", remedy=f"go on: {start}", since=last.at)
    mood = Mood.HALTED if last.kind == "halted" else Mood.FAILED
    return Activity(mood=mood, reason=last.message, remedy=f"then go on: {start}", since=last.at)


def _matters(request: Request, last: EventRow) -> bool:
    """Whether it is still to be done: one that is, has an event of its own."""
    if request.action is ControlAction.PAUSE:
        return last.kind != "paused"
    return request.action is ControlAction.STOP or not request.taken_up


def _asked(request: Request, where: str) -> Activity:
    if request.action is ControlAction.RESUME:
        return Activity(mood=Mood.PAUSED, reason="asked to go on", since=request.requested_at)
    waits = "what is in flight is finished first" if request.taken_up else "the daemon has not heard it yet"
    resume = f"selfreward resume{where}" if request.action is ControlAction.PAUSE else ""
    return Activity(
        mood=Mood.PAUSING,
        reason=f"asked to {request.action}: {waits}",
        remedy=resume,
        since=request.requested_at,
    )


def _remedy(reason: str, window: str | None, where: str) -> str:
    resume = f"selfreward resume{where}"
    return {
        rest.PAUSE: f"go on: {resume}",
        rest.WINDOW: f"goes on by itself in its hours, {window or 'daemon.run_window'}",
        rest.GATE: f"let it pass: {resume}, or stop, change the settings and start again",
        rest.ENGINE: f"when that is mended: {resume}",
        rest.DISK: "free some disk: it goes on by itself",
        rest.DATABASE: "it goes on by itself when the database answers",
    }.get(reason, f"go on: {resume}")
