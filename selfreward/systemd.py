"""What systemd is told of a daemon that it runs as `Type=notify`: ready, alive, at what, stopping.

Without NOTIFY_SOCKET in the environment all of it does nothing.
"""

import asyncio
import os
from collections.abc import Mapping
from typing import Any

from sdnotify import SystemdNotifier  # type: ignore[import-untyped]

from selfreward.reporting import Level, Reporter
from selfreward.types import StageName
from selfreward.whereabouts import here

LONGEST_SEND_S = 1.0
"""systemd takes messages at once; one that does not must not hold the daemon up."""
SIGNS_PER_PERIOD = 3
"""Signs of life within the time after which systemd counts a service as hanging."""


class Service:
    """The daemon as a service."""

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        self._socket = SystemdNotifier() if environ.get("NOTIFY_SOCKET") else None
        if self._socket is not None and self._socket.socket is not None:
            self._socket.socket.settimeout(LONGEST_SEND_S)
        self._pause_s = _period_s(environ) / SIGNS_PER_PERIOD

    def ready(self) -> None:
        """It owns its run and begins to work."""
        self._tell("READY=1")

    def status(self, text: str) -> None:
        """One line for `systemctl status`."""
        self._tell(f"STATUS={' '.join(text.split())}")

    def stopping(self) -> None:
        """It ends, in its own time."""
        self._tell("STOPPING=1")

    async def keep_alive(self) -> None:
        """Signs of life for as long as the event loop turns: one that is stuck is started anew by systemd."""
        while self._socket is not None and self._pause_s:
            self._tell("WATCHDOG=1")
            await asyncio.sleep(self._pause_s)
        await asyncio.Event().wait()  # nobody waits for signs

    def _tell(self, message: str) -> None:
        if self._socket is not None:
            self._socket.notify(message)


class Announcing:
    """A reporter that also keeps the service's status line."""

    def __init__(self, reporter: Reporter, service: Service) -> None:
        self._reporter, self._service = reporter, service
        self._totals: dict[StageName, int | None] = {}

    def begin(self, stage: StageName, done: int, total: int | None) -> None:
        """See Reporter."""
        self._totals[stage] = total
        self._announce(stage, done)
        self._reporter.begin(stage, done, total)

    def progress(self, stage: StageName, done: int, **figures: float) -> None:
        """See Reporter."""
        self._announce(stage, done)
        self._reporter.progress(stage, done, **figures)

    def end(self, stage: StageName, detail: str) -> None:
        """See Reporter."""
        self._service.status(f"{_where()}{stage}: {detail}")
        self._reporter.end(stage, detail)

    def say(self, message: str, level: Level = "info", **data: Any) -> None:
        """See Reporter."""
        self._reporter.say(message, level=level, **data)

    def _announce(self, stage: StageName, done: int) -> None:
        total = self._totals.get(stage)
        self._service.status(f"{_where()}{stage} {done}" + ("" if total is None else f"/{total}"))


def _where() -> str:
    place = here()
    if place is None:
        return ""
    return f"{place.run}, " + ("" if place.iteration is None else f"iteration {place.iteration}, ")


def _period_s(environ: Mapping[str, str]) -> float:
    """systemd's patience in seconds; 0 when it watches nobody, or another process."""
    mine = environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
    period = environ.get("WATCHDOG_USEC", "")
    return int(period) / 1e6 if mine and period.isdigit() else 0.0
