"""The stages of an iteration as lines of the status screen: bar, figures, rate, time left."""

from collections.abc import Sequence

from rich.text import Text

from selfreward.progress import RunStatus, StageProgress
from selfreward.terminal.drawing import (
    BAD,
    DIM,
    GOOD,
    MARK,
    WARN,
    bar,
    cells,
    clock,
    count,
    cut,
    one_line,
    rate,
    share,
)
from selfreward.types import Status

MARKS = {
    Status.PENDING: ("·", DIM),
    Status.RUNNING: ("▶", GOOD),
    Status.DONE: ("✓", GOOD),
    Status.HALTED: ("‖", WARN),
    Status.FAILED: ("✗", BAD),
}
WIDE, MIDDLE = 112, 76
"""Columns from which the line tells more."""


def stages(status: RunStatus, width: int) -> Sequence[Sequence[Text]]:
    """All stages; those that count now and a summary of the others; only what is at work."""
    if not status.stages:
        return ((),)
    errors = {stage.name: _error(stage, width) for stage in status.stages}
    everything = [
        line for stage in status.stages for line in (_line(stage, status, width), *errors[stage.name])
    ]
    current = [stage for stage in status.stages if stage.status not in (Status.DONE, Status.PENDING)]
    drawn = [line for stage in current for line in (_line(stage, status, width), *errors[stage.name])]
    finished = sum(stage.status is Status.DONE for stage in status.stages)
    to_come = sum(stage.status is Status.PENDING for stage in status.stages)
    rest = Text(f"  {finished} stages done, {to_come} to come", style=DIM)
    return (everything, [*drawn, rest], drawn or [rest])


def _line(stage: StageProgress, status: RunStatus, width: int) -> Text:
    mark, style = MARKS[stage.status]
    idle = stage.status is Status.RUNNING and not status.running
    line = Text.assemble((f"{'·' if idle else mark} ", DIM if idle else style))
    name_width, bar_width = (20, 24) if width >= WIDE else (20, 14) if width >= MIDDLE else (16, 8)
    quiet = DIM if stage.status is Status.PENDING else ""
    line.append(cells(stage.name.replace("_", " "), name_width), style=quiet or MARK)
    _append_bar(line, stage, bar_width)
    line.append(cells(_done(stage, width), 16 if width >= MIDDLE else 14, right=True), style=quiet)
    if width >= MIDDLE:
        percent = share(stage.done, stage.total or 0) if stage.status is not Status.PENDING else ""
        line.append(cells(percent, 5, right=True), style=DIM)
    line.append(cells(_rate(stage), 10 if width >= MIDDLE else 9, right=True))
    line.append(cells(_time(stage), 9, right=True), style=DIM if stage.seconds_left is None else MARK)
    if width >= WIDE:
        line.append(
            "  " + cut(one_line(stage.detail if stage.status is Status.DONE else _told(stage)), width - 88),
            style=DIM,
        )
    return line


def _append_bar(line: Text, stage: StageProgress, width: int) -> None:
    if not stage.unit:
        line.append(" " * width)
        return
    done, rest = bar(stage.done, stage.total, width)
    line.append(done, style=GOOD if stage.status is Status.DONE else "cyan").append(rest, style=DIM)


def _done(stage: StageProgress, width: int) -> str:
    if not stage.unit or (stage.status is Status.PENDING and stage.total is None):
        return ""
    short = width < MIDDLE
    total = "" if stage.total is None else f"/{count(stage.total, short)}"
    if stage.status is Status.DONE or not total:
        return count(stage.done, short)
    return f"{count(stage.done, short)}{total}"


def _rate(stage: StageProgress) -> str:
    """Of the last minute; of a stage that is done, over all of it."""
    return rate(stage.stage_rate if stage.status is Status.DONE else stage.rate)


def _time(stage: StageProgress) -> str:
    """What is left; of a stage that is done, what it took."""
    return clock(stage.seconds if stage.status is Status.DONE else stage.seconds_left)


def _told(stage: StageProgress) -> str:
    """Of one that is at work."""
    overall = (
        f"{rate(stage.stage_rate)} over all of it" if stage.rate is not None and stage.stage_rate else ""
    )
    attempts = f"attempt {stage.attempts}" if stage.attempts > 1 else ""
    return " · ".join(part for part in (overall, attempts) if part)


def _error(stage: StageProgress, width: int) -> list[Text]:
    if not stage.error or stage.status not in (Status.HALTED, Status.FAILED):
        return []
    first = one_line(stage.error.partition("\n")[0])
    return [Text("    " + cut(first, width - 4), style=MARKS[stage.status][1])]
