"""Rates: from counts that were seen at successive looks, from the times of the newest rows, and time left."""

import math
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from datetime import datetime
from itertools import pairwise
from typing import Any, TypeVar, cast

WINDOW_S = 60.0
"""Over which a rate is told."""
WARM_S = 10.0
"""Looks that lie closer together than this tell too little."""
LONGEST_STEP_S = 25.0
"""Between two changes of a counter that moves in steps; one that stands still for longer stands still."""
MOST_SAMPLES = 256
MOST_KEPT = 1000

Sample = tuple[float, float]
"""(seconds, count)."""
Found = TypeVar("Found")


class Meter:
    """Remembers what counts were at each look, so that the next look can tell how fast they grow.

    What changes seldom or never is kept as well, so that not every look has to ask for it.
    One a screen, kept between its looks. Moments are seconds on any one clock; one that is set back makes
    it begin anew.
    """

    def __init__(self, window_s: float = WINDOW_S) -> None:
        self._window_s = window_s
        self._seen: dict[Hashable, deque[Sample]] = {}
        self._kept: dict[Hashable, tuple[float, Any]] = {}

    def see(self, key: Hashable, moment: float, count: float) -> None:
        """The count at this moment."""
        samples = self._seen.setdefault(key, deque(maxlen=MOST_SAMPLES))
        if samples and (samples[-1][0] > moment or samples[-1][1] > count):
            samples.clear()  # another clock, or other rows: a run that was started over
        least = self._window_s / (MOST_SAMPLES - 2)
        if len(samples) > 1 and moment - samples[-2][0] < least:
            samples.pop()
        samples.append((moment, count))
        while len(samples) > 2 and samples[1][0] <= moment - self._window_s:
            samples.popleft()

    def keep(self, key: Hashable, moment: float, seconds: float, make: Callable[[], Found]) -> Found:
        """What `make` returned when it was last called for this key, if that is not longer ago."""
        made, found = self._kept.get(key, (-math.inf, None))
        if not made <= moment < made + seconds:
            found = make()
            if len(self._kept) >= MOST_KEPT:
                self._kept.clear()
            self._kept[key] = moment, found
        return cast(Found, found)

    def rate(self, key: Hashable) -> float | None:
        """Growth a second from the oldest look of the window to the last; None while they lie too close."""
        return _slope(self._seen.get(key, ()))

    def step_rate(self, key: Hashable) -> float | None:
        """The same for a counter that is written down from time to time: from its first change to its last.

        0 when it has not moved for longer than such a step takes.
        """
        samples = self._seen.get(key)
        if not samples:
            return None
        changes = [new for old, new in pairwise(samples) if new[1] > old[1]]
        moved = changes[-1] if changes else samples[0]
        return 0.0 if samples[-1][0] - moved[0] > LONGEST_STEP_S else _slope(changes)


def recent_rate(
    moments: Sequence[datetime],
    now: datetime,
    begun: datetime | None = None,
    more: bool = False,
    window_s: float = WINDOW_S,
) -> float:
    """Rows a second over the window that ends now, from the times of the newest rows, newest first.

    `more`: there are older rows than these, so that where all are within the window, they cover less of it.
    `begun`: when the work began; it may be less than a window ago.
    """
    ages = [age for moment in moments if (age := (now - moment).total_seconds()) <= window_s]
    if not ages:
        return 0.0
    span = window_s
    if more and len(ages) == len(moments):
        span = ages[-1]
    elif begun is not None:
        span = min(window_s, (now - begun).total_seconds())
    return len(ages) / max(span, 1.0)


def seconds_left(done: int, total: int | None, *rates: float | None) -> float | None:
    """By the first of these rates that is known and not 0; None where none is."""
    rate = next((rate for rate in rates if rate), None)
    if total is None or rate is None:
        return None
    return max(0, total - done) / rate


def thinned(points: Sequence[tuple[int, float]], most: int) -> tuple[tuple[int, float], ...]:
    """At most `most` of these points, evenly spread, the first and the last among them."""
    if len(points) <= most:
        return tuple(points)
    last = len(points) - 1
    return tuple(points[round(place * last / (most - 1))] for place in range(most))


def _slope(samples: Sequence[Sample]) -> float | None:
    if len(samples) < 2 or samples[-1][0] - samples[0][0] < WARM_S:
        return None
    return (samples[-1][1] - samples[0][1]) / (samples[-1][0] - samples[0][0])
