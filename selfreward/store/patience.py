"""How long a database that is locked or cannot be reached is waited for."""

import math
import time
from collections.abc import Callable
from typing import Any, TypeVar

from tenacity import RetryCallState, Retrying, retry_if_exception_type, wait_random_exponential

from selfreward.errors import StoreUnavailable

FIRST_PAUSE_S = 0.05
LONGEST_PAUSE_S = 0.5
TELL_AFTER_S = 3.0
TELL_EVERY_S = 30.0

Answer = TypeVar("Answer")
Tell = Callable[[StoreUnavailable], None]


class Patience:
    """Waits for `seconds` at most. An outage is waited out once by all threads, not by each in turn:

    what comes when it has lasted that long gets one try, and fails at once until one succeeds.
    """

    def __init__(self, seconds: float = 0.0, tell: Tell = lambda _: None) -> None:
        self.seconds = seconds
        self._tell, self._told = tell, -math.inf
        self._latest = math.inf
        self._away_since: dict[bool, float] = {}
        """When writing (True) or reading (False) began to fail: SQLite's lock keeps only writers away."""

        self._retrying = Retrying(
            retry=retry_if_exception_type(StoreUnavailable),
            stop=self._over,
            wait=wait_random_exponential(multiplier=FIRST_PAUSE_S, max=LONGEST_PAUSE_S),
            before_sleep=self._before_sleep,
            reraise=True,
        )

    def end_by(self, moment: float) -> None:
        """Nobody waits beyond this moment of the monotonic clock, those who are waiting now included."""
        self._latest = min(self._latest, moment)

    def wait_for(self, call: Callable[..., Answer], *arguments: Any) -> Answer:
        """What `call` returns; called again while it raises StoreUnavailable, until the patience is over."""
        return self._retrying(call, *arguments)

    def failed(self, writing: bool) -> None:
        """The database did not let anybody in."""
        self._away_since.setdefault(writing, time.monotonic())

    def succeeded(self, writing: bool) -> None:
        """It did."""
        self._away_since.pop(writing, None)

    def _over(self, state: RetryCallState) -> bool:
        now = time.monotonic()
        outage = now - min([now, *self._away_since.values()])
        return max(outage, _waited(state)) >= self.seconds or now >= self._latest

    def _before_sleep(self, state: RetryCallState) -> None:
        now = time.monotonic()
        error = state.outcome.exception() if state.outcome else None
        due = _waited(state) >= TELL_AFTER_S and now - self._told >= TELL_EVERY_S
        if due and isinstance(error, StoreUnavailable):
            self._told = now
            self._tell(error)


def _waited(state: RetryCallState) -> float:
    return state.seconds_since_start or 0.0
