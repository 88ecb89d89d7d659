"""Where looks at a run are shown: on a live screen, as lines, as lines of JSON."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.live import Live
from rich.text import Text

from selfreward.errors import SelfRewardError
from selfreward.progress import RunStatus, StageProgress, as_json
from selfreward.terminal.drawing import BAD, DIM, clock, count, one_line, rate, share
from selfreward.terminal.screen import Screen
from selfreward.types import Status


class Display(Protocol):
    """Takes what each look found."""

    def show(self, status: RunStatus) -> None:
        """Where the run stands now."""

    def trouble(self, error: SelfRewardError) -> None:
        """Why that could not be told."""


class LiveScreen:
    """The whole terminal, drawn anew at each look; what was seen last stays while there is trouble."""

    def __init__(self, live: Live, console: Console, interval_s: float) -> None:
        self._live, self._console = live, console
        self._below = Text(f"every {interval_s:g} s · Ctrl-C leaves, the daemon goes on", style=DIM)
        self._last: RunStatus | None = None

    def show(self, status: RunStatus) -> None:
        """See Display."""
        self._last = status
        self._draw()

    def trouble(self, error: SelfRewardError) -> None:
        """See Display."""
        self._draw(Text(one_line(str(error)), style=BAD))

    def leave(self) -> None:
        """Print what was seen last where it stays."""
        if self._last is not None:
            self._console.print(Screen(status=self._last))

    def _draw(self, above: Text | None = None) -> None:
        if self._last is None:
            self._live.update(Text("\n").join([above or Text(), self._below]), refresh=True)
        else:
            shown = Screen(status=self._last, fitted=True, above=above, below=self._below)
            self._live.update(shown, refresh=True)


@contextmanager
def live_screen(console: Console, interval_s: float) -> Iterator[LiveScreen]:
    """The alternate screen, which leaves the terminal as it was."""
    with Live(Text(), console=console, screen=True, auto_refresh=False, vertical_overflow="crop") as live:
        yield LiveScreen(live, console, interval_s)


class Plain:
    """A line for each event and for each look that finds something new."""

    def __init__(self) -> None:
        self._told = ""
        self._last_event: int | None = None

    def show(self, status: RunStatus) -> None:
        """See Display."""
        newest = status.events[-1].id if status.events else 0
        for event in status.events:
            if self._last_event is not None and event.id > self._last_event:
                _print(f"{event.at:%Y-%m-%d %H:%M:%S} {status.run} {event.kind}: {event.message}")
        self._last_event = newest
        self._tell(f"{status.at:%Y-%m-%d %H:%M:%S}", in_one_line(status))

    def trouble(self, error: SelfRewardError) -> None:
        """See Display."""
        self._tell("", str(error))

    def _tell(self, moment: str, line: str) -> None:
        if line != self._told:
            self._told = line
            _print(f"{moment} {line}".strip())


class JsonLines:
    """A line of JSON for each look; what keeps it from looking as `error` and `hint`."""

    def show(self, status: RunStatus) -> None:
        """See Display."""
        print(json.dumps(as_json(status)), flush=True)

    def trouble(self, error: SelfRewardError) -> None:
        """See Display."""
        print(json.dumps({"error": error.message, "hint": error.hint}), flush=True)


def in_one_line(status: RunStatus) -> str:
    """Run, mood, iteration, and what its stages at work have done."""
    told = [f"{status.run} {status.activity.mood}"]
    if status.activity.reason:
        told.append(status.activity.reason)
    if status.iteration is not None:
        told.append(f"iteration {status.iteration.t} {status.iteration.status}")
    told += [_stage(stage) for stage in status.stages if stage.status is Status.RUNNING]
    if status.tokens_per_second.generated is not None:
        told.append(f"{rate(status.tokens_per_second.generated)[:-2]} tokens/s")
    return "  ".join(told)


def _stage(stage: StageProgress) -> str:
    total = "" if stage.total is None else f"/{count(stage.total)}"
    percent = f" ({share(stage.done, stage.total)})" if stage.total else ""
    left = f" {clock(stage.seconds_left)} left" if stage.seconds_left is not None else ""
    return f"{stage.name} {count(stage.done)}{total}{percent} {rate(stage.rate)}{left}".rstrip()


def _print(line: str) -> None:
    print(one_line(line), flush=True)
