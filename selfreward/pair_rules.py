"""The rules that `pair.rule` can name: which candidates of a prompt stand over which. Pure and exact.

A rule sees the candidates that take part, by id, and says which pairs they make, or why none.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import product

from selfreward.config import PairSettings
from selfreward.types import PairOutcome, ScoredCandidate


@dataclass(frozen=True, kw_only=True)
class Ranked:
    """A candidate that takes part, with its exact mean score."""

    candidate: ScoredCandidate
    mean: Fraction

    @property
    def length(self) -> tuple[int, int]:
        """Tokens, then characters."""
        return self.candidate.token_count, len(self.candidate.text)


Drawn = tuple[Ranked, Ranked]
"""Chosen and rejected."""
Found = Sequence[Drawn] | PairOutcome
"""Pairs, the widest margin first, or why there are none."""
Rule = Callable[[Sequence[Ranked], Sequence[Ranked], PairSettings], Found]
"""Given M_t's own candidates (two or more, where there are no anchors) and the anchors, both by id."""


def best_worst(own: Sequence[Ranked], anchors: Sequence[Ranked], settings: PairSettings) -> Found:
    """Highest mean against lowest (arXiv 2401.10020, section 2.4).

    Among several best or worst the lowest ids win: first that of the chosen, then that of the
    rejected, passing over combinations of the same text. If every combination is of one text, the
    judge contradicted itself and there is nothing to learn: `twins`.
    """
    best, worst = _best(own), _worst(own)
    if best[0].mean == worst[0].mean:
        return PairOutcome.TIE
    return _first(product(best, worst), settings)


def all_pairs(own: Sequence[Ranked], anchors: Sequence[Ranked], settings: PairSettings) -> Found:
    """Every two of different means, as rankers give them (arXiv 2309.00267, 2305.10425).

    Two pairs of the very same texts would weigh double: the wider one stays. With `max_per_prompt` the
    widest margins stay, of equal ones those with the lowest ids.
    """
    apart = [(better, worse) for better, worse in product(own, own) if better.mean > worse.mean]
    if not apart:
        return PairOutcome.TIE
    sound = [drawn for drawn in apart if not _twins(*drawn)]
    if not sound:
        return PairOutcome.TWINS
    wide = [drawn for drawn in sound if _wide(drawn, settings)]
    kept = {(_words(better), _words(worse)): (better, worse) for better, worse in reversed(_widest(wide))}
    return _widest(kept.values())[: settings.max_per_prompt or None] or PairOutcome.BELOW_MARGIN


def length_controlled(own: Sequence[Ranked], anchors: Sequence[Ranked], settings: PairSettings) -> Found:
    """The shortest of the good against the longest of the bad (Meta-Rewarding, arXiv 2407.19594, 2.3).

    Good are scores in [(1-r)·S_max + r·S_min, S_max], bad those in [S_min, (1-r)·S_min + r·S_max], r being
    `length_tolerance`, the paper's rho. Of equal lengths the more extreme score wins, then the lowest id.
    What would be a tie, one text twice or below `min_margin` is passed over.
    """
    highest, lowest = _best(own)[0].mean, _worst(own)[0].mean
    if highest == lowest:
        return PairOutcome.TIE
    slack = Fraction(str(settings.length_tolerance)) * (highest - lowest)
    good = [ranked for ranked in own if ranked.mean >= highest - slack]
    bad = [ranked for ranked in own if ranked.mean <= lowest + slack]
    good.sort(key=lambda ranked: (ranked.length, -ranked.mean))
    bad.sort(key=lambda ranked: ([-size for size in ranked.length], ranked.mean))
    return _first(((one, other) for one, other in product(good, bad) if one.mean > other.mean), settings)


def anchored(own: Sequence[Ranked], anchors: Sequence[Ranked], settings: PairSettings) -> Found:
    """M_t's best against an earlier model's worst (Temporal Self-Rewarding, arXiv 2508.06026).

    Only where that scores lower: `unanchored` otherwise. Equals are told apart as in `best_worst`.
    """
    best, worst = _best(own), _worst(anchors)
    if best[0].mean <= worst[0].mean:
        return PairOutcome.UNANCHORED
    return _first(product(best, worst), settings)


def _first(combinations: Iterable[Drawn], settings: PairSettings) -> Found:
    """The first combination that makes a pair, or what all of them fail by."""
    sound = [drawn for drawn in combinations if not _twins(*drawn)]
    wide = [drawn for drawn in sound if _wide(drawn, settings)]
    return wide[:1] or (PairOutcome.BELOW_MARGIN if sound else PairOutcome.TWINS)


def _best(candidates: Sequence[Ranked]) -> list[Ranked]:
    highest = max(ranked.mean for ranked in candidates)
    return [ranked for ranked in candidates if ranked.mean == highest]


def _worst(candidates: Sequence[Ranked]) -> list[Ranked]:
    lowest = min(ranked.mean for ranked in candidates)
    return [ranked for ranked in candidates if ranked.mean == lowest]


def _twins(one: Ranked, other: Ranked) -> bool:
    return _words(one) == _words(other)


def _words(ranked: Ranked) -> str:
    return ranked.candidate.text.strip()


def _wide(drawn: Drawn, settings: PairSettings) -> bool:
    """Whether the margin is wide enough, and still there in the numbers that are stored."""
    better, worse = (each.mean for each in drawn)
    return better - worse >= Fraction(str(settings.min_margin)) and float(better) > float(worse)


def _widest(pairs: Iterable[Drawn]) -> list[Drawn]:
    return sorted(
        pairs, key=lambda drawn: (drawn[1].mean - drawn[0].mean, *(each.candidate.id for each in drawn))
    )


RULES: Mapping[str, Rule] = {
    "best_worst": best_worst,
    "all_pairs": all_pairs,
    "length_controlled": length_controlled,
    "anchored": anchored,
}
"""The rules by name."""
ANCHORED = "anchored"
"""The one that needs anchors; in the others they take no part."""
