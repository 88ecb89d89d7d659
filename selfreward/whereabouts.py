"""Where a daemon's work is just now, for its log lines, its status line and its messages.

The run and the iteration are one thing for all tasks and threads of a daemon; several stages can be at work
at once, so which one a line is about belongs to the task that writes it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from structlog.contextvars import bind_contextvars, bound_contextvars


@dataclass
class Whereabouts:
    """Shared by everything that a daemon does."""

    run: str
    iteration: int | None = None


_here: ContextVar[Whereabouts | None] = ContextVar("selfreward_whereabouts", default=None)


def enter_run(run: str) -> Whereabouts:
    """From here on, and in every task and thread that is started from here, work is on this run."""
    place = _here.get()
    if place is None or place.run != run:
        place = Whereabouts(run)
        _here.set(place)
    return place


def here() -> Whereabouts | None:
    """Where the work is; None outside a daemon."""
    return _here.get()


def enter_iteration(t: int) -> None:
    """All of the daemon is at iteration t now."""
    place = _here.get()
    if place is not None:
        place.iteration = t


def enter_stage(stage: str) -> None:
    """What this task or thread writes is about this stage, until it ends or enters another."""
    bind_contextvars(stage=stage)


@contextmanager
def at_stage(stage: str) -> Iterator[None]:
    """The same for a block."""
    with bound_contextvars(stage=stage):
        yield
