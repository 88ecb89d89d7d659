"""Figures with 95% intervals that fit what the items are: independent ones, or several of one prompt.

Shares of independent items: Wilson's. What is averaged over prompts (pairs of one prompt are not
independent): the prompts are resampled. The same rows give the same figures, in whatever order they come.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from selfreward.types import Metric

CONFIDENCE = 0.95
RESAMPLES = 4000

Floats = NDArray[np.float64]
Row = tuple[float, int]
"""What one prompt brings to a figure: the sum over its items, and how many they are."""


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One measured number with its 95% interval; all None when there was nothing to measure.

    `low` ≤ `value` ≤ `high`, always.
    """

    metric: Metric
    value: float | None = None
    low: float | None = None
    high: float | None = None
    n: int = 0
    """Items it was measured on: judgements, pairs, prompts, canaries or answers, as the metric has it."""


def share(metric: Metric, hits: int, n: int) -> Figure:
    """`hits` of `n` independent items, with Wilson's score interval."""
    if not n:
        return Figure(metric=metric)
    interval = stats.binomtest(hits, n).proportion_ci(CONFIDENCE, method="wilson")
    return figure(metric, hits / n, (interval.low, interval.high), n)


def averaged(metric: Metric, rows: Iterable[Row], scale: tuple[float, float]) -> Figure:
    """Mean over all items of all prompts, on a scale with two ends; prompts without items are left out.

    The interval is the wider one, at each end, of the bootstrap's and of `_unlike`'s: with few prompts, or
    prompts that are all alike, resampling what was seen says nothing of what was not.
    """
    kept = sorted(row for row in rows if row[1])  # the order of the rows must not matter to the draws
    if not kept:
        return Figure(metric=metric)
    totals, counts = (np.array(column, dtype=np.float64) for column in zip(*kept, strict=True))
    value = min(max(float(totals.sum() / counts.sum()), scale[0]), scale[1])
    low, high = _unlike(value, scale, len(kept))
    if len(kept) > 1:
        drawn = _bootstrap(totals, counts)
        low, high = max(scale[0], min(low, drawn[0])), min(scale[1], max(high, drawn[1]))
    return figure(metric, value, (low, high), int(counts.sum()))


def _bootstrap(totals: Floats, counts: Floats) -> tuple[float, float]:
    """Percentile interval of sum(totals) / sum(counts), resampling whole prompts; at least two of them.

    The level is raised as Hesterberg does (arXiv 1411.5279, expanded percentiles): the bootstrap's spread
    is too small by √((n−1)/n) and its tails are the normal's where Student's are due.
    """
    n = len(totals)
    reach = stats.t.ppf((1 + CONFIDENCE) / 2, n - 1) * np.sqrt(n / (n - 1))
    interval = stats.bootstrap(
        (totals, counts),
        _ratio,
        paired=True,
        vectorized=True,
        method="percentile",
        n_resamples=RESAMPLES,
        batch=max(1, 2_000_000 // n),
        confidence_level=float(2 * stats.norm.cdf(reach) - 1),
        rng=np.random.default_rng(0),
    ).confidence_interval
    return float(interval.low), float(interval.high)


def _ratio(totals: Floats, counts: Floats, axis: int) -> Floats:
    return np.asarray(totals.sum(axis=axis) / counts.sum(axis=axis), dtype=np.float64)


def _unlike(value: float, scale: tuple[float, float], n: int) -> tuple[float, float]:
    """Where the mean could be if some prompts are unlike all of the `n` seen, and lie at an end of the scale.

    Their share is at most the upper end of Wilson's interval for 0 of n. For n of n wins this is Wilson's
    own interval; for n ties it is not of zero width, though no resample differs from another.
    """
    share = float(stats.binomtest(0, n).proportion_ci(CONFIDENCE, method="wilson").high)
    return value - share * (value - scale[0]), value + share * (scale[1] - value)


def jackknifed(metric: Metric, value: float, left_out: Sequence[float], n: int) -> Figure:
    """A share with Student's interval from the values it has without each prompt (none if only one)."""
    prompts = max(1, len(left_out))
    error = float(np.std(sorted(left_out))) * (prompts - 1) ** 0.5 if left_out else 0.0
    if not error:
        return figure(metric, value, _unlike(value, (0, 1), prompts), n)
    reach = float(stats.t.ppf((1 + CONFIDENCE) / 2, prompts - 1)) * error
    return figure(metric, value, (max(0.0, value - reach), min(1.0, value + reach)), n)


def figure(metric: Metric, value: float, interval: tuple[float, float], n: int) -> Figure:
    """The ends are held on their sides of the value against rounding."""
    low, high = float(min(value, interval[0])), float(max(value, interval[1]))
    return Figure(metric=metric, value=value, low=low, high=high, n=n)
