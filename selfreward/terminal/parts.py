"""The parts of the status screen. Each tells its forms, the fullest first, for a number of columns."""

import textwrap
from datetime import datetime

from rich.text import Text

from selfreward.progress import Mood, RunStatus
from selfreward.terminal.drawing import (
    BAD,
    DIM,
    GOOD,
    LABEL,
    MARK,
    WARN,
    Forms,
    alone,
    cells,
    clock,
    labelled,
    one_line,
    rate,
)
from selfreward.types import Status

MOODS = {
    Mood.NEW: DIM,
    Mood.RUNNING: GOOD,
    Mood.PAUSING: WARN,
    Mood.PAUSED: WARN,
    Mood.RESTING: WARN,
    Mood.STOPPED: DIM,
    Mood.DONE: GOOD,
    Mood.HALTED: BAD,
    Mood.FAILED: BAD,
    Mood.GONE: BAD,
}
TOLD_LINES = 4
"""Of why it does not work."""
EVENTS = 20
WORRYING = ("failed", "halted", "gate", "engine_failed", "engine_stalled", "disk", "database")


def head(status: RunStatus, width: int) -> Forms:
    """Run, mood, iteration, owner; why it does not work, and how it goes on."""
    activity = status.activity
    left = Text.assemble(
        (one_line(status.run), MARK), "  ", (activity.mood.value, f"bold {MOODS[activity.mood]}")
    )
    up = f"up {clock(status.uptime_s)} · " if status.uptime_s is not None else ""
    first = _ends(left, Text(f"{up}{status.at:%H:%M:%S} UTC", style=DIM), width)
    second = _ends(_iteration(status), Text(_owner(status), style=DIM), width)
    why = _told(activity.reason, "", width, MOODS[activity.mood])
    how = _told(activity.remedy, "→ ", width, "")
    return ((first, second, *why, *how), (first, second, *why[:1], *how[:1]), (first,))


def engine(status: RunStatus, width: int) -> Forms:
    """The engine and how fast it makes tokens."""
    session, tokens = status.engine, status.tokens_per_second
    if session is None or not status.running or session.finished_at:
        return ((),)
    if session.ready_at is None:
        starting = (
            f"{session.engine} on {session.checkpoint} is starting, for {_ago(status, session.started_at)}"
        )
        return alone(labelled("engine", [starting], width))
    told = [f"{session.engine} on {session.checkpoint}"]
    if tokens.generated is not None:
        told.append(f"{rate(tokens.generated)[:-2]} tokens/s written")
    if tokens.prompt is not None:
        told.append(f"{rate(tokens.prompt)[:-2]} read")
    told.append(f"for {_ago(status, session.ready_at)}")
    if status.engine_sessions > 1:
        told.append(f"started {status.engine_sessions} times")
    return alone(labelled("engine", told, width))


def checkpoints(status: RunStatus, width: int) -> Forms:
    """All of them with their files; only their names where there is little room."""
    if not status.checkpoints:
        return ((),)
    full = [
        Text.assemble(
            (cells(checkpoint.name, LABEL), MARK),
            f"{cells(checkpoint.kind, 5)} {checkpoint.path}  {checkpoint.digest[:12]}",
            ("  pinned" if checkpoint.pinned else "", DIM),
            ("  removed" if checkpoint.removed else "", DIM),
        )
        for checkpoint in status.checkpoints
    ]
    names = [checkpoint.name for checkpoint in status.checkpoints]
    most = max(1, (width - LABEL) // (len(names[-1]) + 3))
    cut_off = f"… {', '.join(names[-most + 1 :])}" if len(names) > most else ", ".join(names)
    return (full, [labelled("models", [cut_off], width)], ())


def events(status: RunStatus, width: int) -> Forms:
    """The last ones, newest last."""
    drawn = [
        Text.assemble(
            (f"{event.at:%m-%d %H:%M:%S} ", DIM),
            (f"{one_line(event.kind)}: ", BAD if event.kind in WORRYING else MARK),
            one_line(event.message),
        )
        for event in status.events[-EVENTS:]
    ]
    for line in drawn:
        line.truncate(width, overflow="ellipsis")
    return [drawn[place:] for place in range(len(drawn) + 1)]


def _iteration(status: RunStatus) -> Text:
    if status.iteration is None:
        return Text("no iteration has begun yet")
    t = status.iteration.t
    if status.iteration.status is Status.PENDING:
        return Text(f"M_{t} is measured")
    state = "" if status.iteration.status is Status.RUNNING else f"  {status.iteration.status}"
    text = Text.assemble("iteration ", (str(t), MARK), f"  M_{t} → M_{t + 1}{state}")
    if status.forked_from is not None:
        text.append(f"  fork of {one_line(status.forked_from)} from {status.from_iteration}", style=DIM)
    return text


def _owner(status: RunStatus) -> str:
    if status.lease is None:
        return ""
    return one_line(status.lease.owner if status.running else f"last {status.lease.owner}")


def _told(text: str, before: str, width: int, style: str) -> list[Text]:
    """A few lines of what others may have written."""
    found: list[str] = []
    for line in text.splitlines():
        room = max(10, width - len(before))
        found += textwrap.wrap(one_line(line), room) or []
    shown = found[:TOLD_LINES]
    return [
        Text((before if not place else " " * len(before)) + line, style=style)
        for place, line in enumerate(shown)
    ]


def _ends(left: Text, right: Text, width: int) -> Text:
    """Both on one line, the right one as far as there is room."""
    gap = width - left.cell_len - right.cell_len
    if gap < 2:
        left.truncate(width, overflow="ellipsis")
        return left
    return Text.assemble(left, " " * gap, right)


def _ago(status: RunStatus, moment: datetime) -> str:
    return clock((status.at - moment).total_seconds())
