"""How two runs differ that began with the same candidates: how far their judges agree, which pairs changed.

Pure. Candidates are compared within their prompt only, couple by couple: whether a judge holds the first for
better, the second, or neither. Figures over prompts have intervals that resample whole prompts.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from math import sqrt

import numpy as np
from numpy.typing import NDArray

from selfreward.intervals import CONFIDENCE, RESAMPLES, Row, averaged
from selfreward.types import EvaluationRow, Metric

Scores = Mapping[int, float]
"""Candidate → mean score of its readable judgements, 0 to 5."""
Triple = tuple[int, int, int]
"""(prompt, chosen, rejected)."""
Table = tuple[int, ...]
"""Couples of a prompt by (verdict of A, verdict of B), each worse, tie, better: nine counts, row by row."""
Counts = NDArray[np.int64]
DIGITS = 9
"""Means are compared rounded to this: three judgements in another order must not be another mean."""


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A figure with its 95% interval; None where there was nothing to measure, or no interval to give."""

    value: float | None = None
    low: float | None = None
    high: float | None = None
    n: int = 0
    """What it was measured on."""


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """What two judges made of the same candidates."""

    kendall: Estimate
    """τ-b of the two rankings, mean over prompts; n is prompts on which at least one has an order."""
    kappa: Estimate
    """Cohen's κ of the verdicts on all couples; n is couples."""
    same_verdict: float | None
    """Share of the couples on which both say better, worse or tie alike."""
    correlation: float | None
    """Pearson's of the mean scores, over all candidates."""
    candidates: int
    """Scored by both."""
    mean_scores: tuple[float | None, float | None]
    """0 to 5, over those candidates: A's, B's."""
    tie_shares: tuple[float | None, float | None]
    """Share of the couples that each gives one score."""


@dataclass(frozen=True, kw_only=True)
class PairChanges:
    """Which preference pairs two runs train on. Pairs of which the other has neither are `only_…`."""

    both: int
    swapped: int
    """What is chosen in one is rejected in the other, and the reverse."""
    only_a: int
    only_b: int
    prompts_both: int
    """Prompts with a pair in both, the same or another."""


@dataclass(frozen=True, kw_only=True)
class PositionBias:
    """How much the order decides in which a pairwise judge is shown two candidates."""

    comparisons: int
    first_share: float | None
    """Mean probability that the one shown first is better; 0.5 is no bias."""
    flipped_share: float | None
    """Share of the couples of which the same place wins in both orders."""


@dataclass(frozen=True, kw_only=True)
class Side:
    """One of the two runs, in the iteration that is compared."""

    run: str
    checkpoint: str
    """M_{t+1}, what was trained in it; or what it will be."""
    trained: bool
    objective: str
    rule: str
    judge: str | None
    """Who judges, and how; None before anybody has."""
    prompts: int
    """Prompts that were decided."""
    outcomes: Mapping[str, int] = field(default_factory=dict)
    """What became of them."""
    pairs: int
    """Trained on, imported ones too."""
    imported: int
    yield_share: float | None
    """Share of the prompts that gave a pair to train on."""
    mean_margin: float | None
    """Of the pairs that have scores."""
    soft_label: float | None
    """Mean of the pairs that have one."""
    soft_labels: int
    loss: tuple[float | None, float | None] = (None, None)
    """At the first and the last step."""
    margin: tuple[float | None, float | None] = (None, None)
    """Implicit reward of chosen over rejected, at the same."""
    steps: int
    position_bias: PositionBias | None = None


@dataclass(frozen=True, kw_only=True)
class FigureLine:
    """One figure of the evaluation of both checkpoints."""

    section: str
    label: str
    unit: str
    a: EvaluationRow | None
    b: EvaluationRow | None
    shown: tuple[tuple[str, str, str], tuple[str, str, str]]
    """Value, n and interval as text, of A and of B."""


@dataclass(frozen=True, kw_only=True)
class SettingDifference:
    """A setting that both do not share, as TOML."""

    key: str
    a: str
    b: str


@dataclass(frozen=True, kw_only=True)
class Compared:
    """Two runs that share the candidates of iteration t."""

    t: int
    a: Side
    b: Side
    candidates: int
    """Answers that both used."""
    agreement: Agreement | None
    """None while one of them has not judged."""
    pairs: PairChanges
    evaluation: tuple[FigureLine, ...]
    settings: tuple[SettingDifference, ...]


def agreement(prompts: Iterable[tuple[Scores, Scores]]) -> Agreement:
    """How far two judges agree; for each prompt what A and what B gave its candidates.

    Candidates that only one of them has scored are left out. A prompt to which one gives an order and the
    other none counts as τ = 0; one to which neither gives any says nothing of τ, but is a tie for both.
    """
    tables: list[Table] = []
    left: list[float] = []
    right: list[float] = []
    for a, b in prompts:
        both = sorted(a.keys() & b.keys())
        left += (round(a[key], DIGITS) for key in both)
        right += (round(b[key], DIGITS) for key in both)
        if len(both) > 1:
            tables.append(verdicts(a, b))
    counts = np.array(tables, dtype=np.int64).reshape(-1, 9)
    total = counts.sum(axis=0).reshape(3, 3)
    return Agreement(
        kendall=_mean_tau(tables),
        kappa=kappa(counts),
        same_verdict=_share(int(np.trace(total)), int(total.sum())),
        correlation=_correlation(left, right),
        candidates=len(left),
        mean_scores=(_mean(left), _mean(right)),
        tie_shares=(
            _share(int(total[1].sum()), int(total.sum())),
            _share(int(total[:, 1].sum()), int(total.sum())),
        ),
    )


def verdicts(a: Scores, b: Scores) -> Table:
    """The couples of one prompt, of candidates that both have scored, by what A and B say of them."""
    table = [0] * 9
    for one, other in combinations(sorted(a.keys() & b.keys()), 2):
        table[3 * _verdict(a, one, other) + _verdict(b, one, other)] += 1
    return tuple(table)


def _verdict(scores: Scores, one: int, other: int) -> int:
    """2 where the first is better, 1 for a tie, 0 where the second is."""
    difference = round(scores[one], DIGITS) - round(scores[other], DIGITS)
    return 1 + (difference > 0) - (difference < 0)


def tau(table: Table) -> float | None:
    """Kendall's τ-b of one prompt from its couples; 0 if one ranking is all ties, None if both are."""
    (ww, wt, wb), (tw, _, tb), (bw, bt, bb) = table[:3], table[3:6], table[6:]
    untied_a, untied_b = ww + wt + wb + bw + bt + bb, ww + tw + bw + wb + tb + bb
    if not untied_a and not untied_b:
        return None
    return (ww + bb - wb - bw) / sqrt(untied_a * untied_b) if untied_a and untied_b else 0.0


def _mean_tau(tables: Iterable[Table]) -> Estimate:
    rows: list[Row] = [(value, 1) for table in tables if (value := tau(table)) is not None]
    found = averaged(Metric.AGREEMENT_PREVIOUS, rows, (-1, 1))
    return Estimate(value=found.value, low=found.low, high=found.high, n=found.n)


def kappa(tables: Counts) -> Estimate:
    """Cohen's κ over the couples of all prompts (one row of nine counts each), resampling whole prompts.

    None where both judges give one and the same verdict to every couple: chance would agree as much.
    """
    total = int(tables.sum())
    value = _kappas(tables.sum(axis=0, keepdims=True))[0] if total else np.nan
    if not np.isfinite(value):
        return Estimate(n=total)
    kinds, many = np.unique(tables, axis=0, return_counts=True)  # prompts of one kind are drawn together
    drawn = np.random.default_rng(0).multinomial(len(tables), many / len(tables), size=RESAMPLES) @ kinds
    resampled = _kappas(drawn)
    resampled = resampled[np.isfinite(resampled)]
    if len(tables) < 2 or not len(resampled):
        return Estimate(value=float(value), n=total)
    low, high = np.quantile(resampled, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Estimate(value=float(value), low=float(min(low, value)), high=float(max(high, value)), n=total)


def _kappas(tables: Counts) -> NDArray[np.float64]:
    """κ of each table of nine counts; NaN where it is not defined."""
    square = tables.reshape(-1, 3, 3).astype(np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        share = square / square.sum(axis=(1, 2), keepdims=True)
        seen = np.trace(share, axis1=1, axis2=2)
        chance = (share.sum(axis=2) * share.sum(axis=1)).sum(axis=1)
        found = (seen - chance) / (1 - chance)
    return np.where(chance > 1 - 1e-12, np.nan, found)


def pair_changes(a: Iterable[Triple], b: Iterable[Triple]) -> PairChanges:
    """What became of the pairs of one run in the other."""
    mine, theirs = set(a), set(b)
    reverse = {(prompt, rejected, chosen) for prompt, chosen, rejected in theirs}
    both, swapped = len(mine & theirs), len(mine & reverse)
    return PairChanges(
        both=both,
        swapped=swapped,
        only_a=len(mine - theirs - reverse),
        only_b=len(theirs - mine - {(prompt, rejected, chosen) for prompt, chosen, rejected in mine}),
        prompts_both=len({prompt for prompt, _, _ in mine} & {prompt for prompt, _, _ in theirs}),
    )


def ends(curve: Sequence[tuple[int, float]]) -> tuple[float | None, float | None]:
    """The first and the last value of a curve."""
    return (curve[0][1], curve[-1][1]) if curve else (None, None)


def _correlation(left: Sequence[float], right: Sequence[float]) -> float | None:
    """Pearson's; None where one of them is constant."""
    if len(set(left)) < 2 or len(set(right)) < 2:
        return None
    return float(np.corrcoef(left, right)[0, 1])


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None
