"""Telling a person or a log how the work goes: bars on a terminal, JSON lines elsewhere."""

import logging
import sys
import time
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Literal, Protocol

import structlog
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from selfreward.text import printable
from selfreward.types import StageName
from selfreward.whereabouts import here

LOG_EVERY_S = 5.0
Level = Literal["debug", "info", "warning", "error"]
LEVELS: Mapping[Level, int] = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}
STYLES: Mapping[Level, str] = {"debug": "dim", "info": "", "warning": "yellow", "error": "red"}


@dataclass(frozen=True, kw_only=True)
class LogOptions:
    """What a daemon is to tell, and how."""

    level: Level = "info"
    as_json: bool = False
    """JSON lines on a terminal too. Elsewhere they are what there is."""


USUAL = LogOptions()


class Reporter(Protocol):
    """What the stages tell: plain figures, as often as they like."""

    def begin(self, stage: StageName, done: int, total: int | None) -> None:
        """A stage starts, or goes on, with `done` of `total` items there already."""

    def progress(self, stage: StageName, done: int, **figures: float) -> None:
        """So many items are there now."""

    def end(self, stage: StageName, detail: str) -> None:
        """A stage is done."""

    def say(self, message: str, level: Level = "info", **data: Any) -> None:
        """Something worth a line."""


class LogReporter:
    """JSON lines through structlog, progress at most every few seconds for each stage."""

    def __init__(self, context: Mapping[str, Any]) -> None:
        self._log = structlog.get_logger().bind(**context)
        self._started: dict[StageName, tuple[float, int, int | None]] = {}
        self._logged: dict[StageName, float] = {}

    def begin(self, stage: StageName, done: int, total: int | None) -> None:
        """See Reporter."""
        self._started[stage] = (time.monotonic(), done, total)
        self._log.info("stage started", stage=stage, done=done, total=total)

    def progress(self, stage: StageName, done: int, **figures: float) -> None:
        """See Reporter."""
        moment = time.monotonic()
        if moment - self._logged.get(stage, 0) < LOG_EVERY_S:
            return
        self._logged[stage] = moment
        began, first, total = self._started.get(stage, (moment, done, None))
        rate = (done - first) / max(moment - began, 1e-9)
        left = None if total is None or rate <= 0 else round((total - done) / rate, 1)
        self._log.info(
            "progress",
            stage=stage,
            done=done,
            total=total,
            per_second=round(rate, 3),
            seconds_left=left,
            **figures,
        )

    def end(self, stage: StageName, detail: str) -> None:
        """See Reporter."""
        began = self._started.get(stage, (time.monotonic(), 0, None))[0]
        self._log.info("stage done", stage=stage, seconds=round(time.monotonic() - began, 1), detail=detail)

    def say(self, message: str, level: Level = "info", **data: Any) -> None:
        """See Reporter."""
        self._log.log(LEVELS[level], message, **data)


class RateColumn(ProgressColumn):
    """Items per second or per minute, whichever can be read."""

    def render(self, task: Task) -> Text:
        """The rate of one bar."""
        speed = task.finished_speed or task.speed
        if speed is None:
            return Text("", style="progress.data.speed")
        return Text(f"{speed:.1f}/s" if speed >= 1 else f"{speed * 60:.1f}/min", style="progress.data.speed")


class TerminalReporter:
    """Live bars, one a stage, with rate and time left; lines for what else happens."""

    def __init__(self, console: Console, title: str, level: Level = "info") -> None:
        self._console, self._least = console, LEVELS[level]
        self._progress = Progress(
            SpinnerColumn(finished_text="[green]✓[/]"),
            TextColumn("{task.description}", style="bold"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            RateColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[figures]}", style="dim"),
            console=console,
            refresh_per_second=4,
        )
        self._tasks: dict[StageName, TaskID] = {}
        console.rule(title)

    def __enter__(self) -> "TerminalReporter":
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def begin(self, stage: StageName, done: int, total: int | None) -> None:
        """See Reporter."""
        if stage in self._tasks:
            self._progress.remove_task(self._tasks[stage])
        self._tasks[stage] = self._progress.add_task(stage, total=total, completed=done, figures="")

    def progress(self, stage: StageName, done: int, **figures: float) -> None:
        """See Reporter."""
        shown = "  ".join(f"{name} {value:.4g}" for name, value in figures.items())
        self._progress.update(self._tasks[stage], completed=done, figures=shown)

    def end(self, stage: StageName, detail: str) -> None:
        """See Reporter."""
        task = self._tasks.get(stage)
        if task is not None:
            done = self._progress.tasks[self._progress.task_ids.index(task)].completed
            self._progress.update(task, total=done, completed=done, figures="")
        self.say(f"{stage}: {detail}")

    def say(self, message: str, level: Level = "info", **data: Any) -> None:
        """See Reporter."""
        if LEVELS[level] < self._least:
            return
        shown = "  ".join(f"{name}={value}" for name, value in data.items())
        line = printable(f"{time.strftime('%H:%M:%S')} {message}  {shown}".rstrip())
        self._console.print(Text(line, style=STYLES[level]))


def configure_logging(level: Level = "info") -> None:
    """structlog as JSON lines on standard error, with UTC times; a daemon's say where its work is."""
    structlog.configure(
        processors=[*_PROCESSORS, structlog.processors.format_exc_info, _as_json()],
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )


def log_everything() -> None:
    """From now on what libraries log and what nobody has caught are JSON lines as well.

    Libraries from warnings on, whatever the level: httpx would tell every address it asks.
    """
    handler = logging.StreamHandler(sys.stderr)
    renderers: list[Any] = [
        structlog.stdlib.ProcessorFormatter.remove_processors_meta,
        structlog.processors.format_exc_info,
        _as_json(),
    ]
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(foreign_pre_chain=_PROCESSORS, processors=renderers)
    )
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    logging.captureWarnings(True)
    sys.excepthook = _log_crash


def tell_failure(message: str, hint: str) -> bool:
    """Log why a daemon leaves; False where no log is kept, and a person is told instead."""
    if here() is None or not structlog.is_configured():
        return False
    structlog.get_logger().error(message, hint=hint)
    return True


def _log_crash(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    structlog.get_logger().critical("crashed", exc_info=(kind, error, trace))


def _add_whereabouts(_logger: Any, _method: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """run, iteration and stage on every line of a daemon, null where there is none."""
    place = here()
    if place is not None:
        line.setdefault("run", place.run)
        line.setdefault("iteration", place.iteration)
        line.setdefault("stage", None)
    return line


def _as_json() -> structlog.processors.JSONRenderer:
    return structlog.processors.JSONRenderer(ensure_ascii=False, default=str)


_PROCESSORS: list[Any] = [
    structlog.contextvars.merge_contextvars,
    _add_whereabouts,
    structlog.processors.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
]
