"""Why a daemon rests, and what it notes down about it even while nothing can be written."""

import asyncio
import errno
import shutil
import threading
from collections import deque
from collections.abc import Callable, Collection
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from selfreward.errors import DiskFull, StoreUnavailable, TrainingError

STOP, PAUSE, WINDOW, GATE = "stop", "pause", "window", "gate"
ENGINE, DISK, DATABASE = "engine", "disk", "database"
PASSING = frozenset({DISK, DATABASE})
"""What may be over without anybody saying so."""
ACCEPTED = frozenset({PAUSE, GATE, ENGINE, DISK, DATABASE})
"""What a user's `resume` takes away."""
MOST_NOTES = 1000
LOOK_AGAIN_S, LONGEST_LOOK_S = 3.0, 300.0
LEAST_SPARE_BYTES, MOST_SPARE_BYTES = 2**20, 2**28

Write = Callable[..., None]
"""(kind, message, **data): writes an event."""


class Rest:
    """Reasons to rest. Without any there is work to do; the stages see it through `stop`."""

    def __init__(self) -> None:
        self.stop = asyncio.Event()
        self._changed = asyncio.Event()
        self.reasons: dict[str, str] = {}
        """Each with what has brought it about, for people."""

    @property
    def asked_to_stop(self) -> bool:
        """Whether the daemon is to leave, and not only to rest."""
        return STOP in self.reasons

    def because(self, reason: str, cause: str = "") -> None:
        """Rest."""
        self.reasons[reason] = cause
        self._tell()

    def no_longer(self, *reasons: str) -> None:
        """These are reasons no more; there may be others."""
        for reason in reasons:
            self.reasons.pop(reason, None)
        self._tell()

    async def change(self, patience_s: float | None) -> None:
        """Until a reason comes or goes, or for so many seconds."""
        self._changed.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(patience_s):
                await self._changed.wait()

    def __str__(self) -> str:
        causes = [cause.partition("\n")[0] for _, cause in sorted(self.reasons.items()) if cause]
        return ": ".join([", ".join(sorted(self.reasons)), *causes])

    def _tell(self) -> None:
        (self.stop.set if self.reasons else self.stop.clear)()
        self._changed.set()


class Notes:
    """Events on their way to the database. What cannot be written now is kept, and written first later.

    Blocks: called in a thread. Of very many the oldest are dropped.
    """

    def __init__(self, write: Write) -> None:
        self._write = write
        self._kept: deque[tuple[str, str, dict[str, Any]]] = deque(maxlen=MOST_NOTES)
        self._turn = threading.Lock()

    def add(self, kind: str, message: str, **data: Any) -> None:
        """Write down what has happened, now or when that is possible."""
        moment = datetime.now(UTC).isoformat()
        with self._turn:
            self._kept.append((kind, message, data))
            try:
                while self._kept:
                    first, told, figures = self._kept[0]
                    self._write(first, told, **figures)
                    self._kept.popleft()
            except (StoreUnavailable, DiskFull):
                data["happened_at"] = moment  # the time in its row will be that of the writing


def reason_to_rest(error: Exception) -> str | None:
    """Which reason an error is, where it passes by itself or with a little help; None where it does not."""
    if isinstance(error, StoreUnavailable):
        return DATABASE
    full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
    no_space = isinstance(error, TrainingError) and error.kind == "no_space"
    return DISK if full or no_space or isinstance(error, DiskFull) else None


def next_look(reasons: Collection[str], disk_rests: int) -> float | None:
    """Seconds until what may be over by itself is looked at; longer where that has been deceptive."""
    if not PASSING & set(reasons):
        return None
    again = disk_rests - 1 if DISK in reasons else 0
    return min(LOOK_AGAIN_S * 2.0 ** max(0, min(again, 10)), LONGEST_LOOK_S)


def has_room(needed: int, *directories: Path) -> bool:
    """Whether `needed` bytes, and in any case a few, are free in each of these."""
    usages = [shutil.disk_usage(directory) for directory in directories]
    return all(usage.free >= max(needed, _spare(usage.total)) for usage in usages)


def _spare(total: int) -> int:
    return min(max(total // 100, LEAST_SPARE_BYTES), MOST_SPARE_BYTES)
