"""Judging judgements: which are compared, and which is best and worst (Meta-Rewarding, arXiv 2407.19594).

Two judgements of one answer are shown to the model in both orders. A verdict counts the more the rarer its
place wins in the whole iteration, which takes out the model's liking for a place. Ratings are Elo's, fitted
by maximum likelihood to the weighed wins. Pure.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations

ELO_PER_NAT = 400 / math.log(10)
"""What a difference of 1 in the exponent of the logistic function is in Elo's points."""
PRIOR = 0.05
"""Weight of the square of a rating (in nats): one that wins always has a finite one."""
LEAST_LEAD = 0.01
"""Elo's points: with less between best and worst nothing was told apart."""
PLACES = 9
"""Decimals of a variance that count: the order must not depend on how a machine rounds."""


@dataclass(frozen=True, kw_only=True)
class WrittenJudgement:
    """A readable judgement that the judge has written."""

    id: int
    text: str
    score: float


@dataclass(frozen=True, kw_only=True)
class MetaTask:
    """Judgements of one candidate to compare. `missing` are (shown first, shown second) by id."""

    id: int
    """The candidate's."""
    prompt: str
    response: str
    texts: Mapping[int, str]
    missing: tuple[tuple[int, int], ...]


@dataclass(frozen=True, kw_only=True)
class Battle:
    """Two judgements compared in one order. `probability_first` is None where nothing could be read."""

    first_id: int
    second_id: int
    probability_first: float | None

    @property
    def won_by_first(self) -> bool:
        """Whether the verdict is for the one shown first."""
        return self.probability_first is not None and self.probability_first > 0.5

    @property
    def won_by_second(self) -> bool:
        """Whether the verdict is for the one shown second."""
        return self.probability_first is not None and self.probability_first < 0.5


@dataclass(frozen=True, kw_only=True)
class PlaceWeights:
    """What a win in first and in second place counts; they add up to 1."""

    first: float = 0.5
    second: float = 0.5


@dataclass(frozen=True, kw_only=True)
class BestAndWorst:
    """What the model learns to judge from: two judgements of one answer, with their Elo ratings around 0."""

    chosen_id: int
    rejected_id: int
    chosen_elo: float
    rejected_elo: float


def most_disputed(scores: Mapping[int, Sequence[float]], most: int) -> list[int]:
    """Ids of at most `most` answers whose judgements differ, largest variance first, then lowest id."""
    spread = {key: round(_variance(each), PLACES) for key, each in scores.items() if len(each) > 1}
    disputed = [key for key, variance in spread.items() if variance > 0]
    return sorted(disputed, key=lambda key: (-spread[key], key))[:most]


def to_compare(judgements: Sequence[WrittenJudgement], most: int) -> list[WrittenJudgement]:
    """At most `most` of one answer's judgements, no two of the same text: highest, lowest, then by id."""
    by_text = {each.text.strip(): each for each in sorted(judgements, key=lambda each: -each.id)}
    different = sorted(by_text.values(), key=lambda each: each.id)
    if len(different) <= most:
        return different
    highest = max(different, key=lambda each: (each.score, -each.id))
    lowest = min(different, key=lambda each: (each.score, each.id))
    ends = [highest, *([lowest] if lowest is not highest else [])]
    rest = [each for each in different if each not in ends]
    return sorted([*ends, *rest][:most], key=lambda each: each.id)


def orders(ids: Sequence[int]) -> list[tuple[int, int]]:
    """Every two of them, shown in both orders, the two orders of a couple after each other."""
    return sorted(permutations(ids, 2), key=lambda two: (min(two), max(two), two))


def place_weights(battles: Sequence[Battle]) -> PlaceWeights:
    """ω₁ = wins of the second / all wins, ω₂ = wins of the first / all wins, over an iteration's battles."""
    first = sum(battle.won_by_first for battle in battles)
    second = sum(battle.won_by_second for battle in battles)
    wins = first + second
    return PlaceWeights(first=second / wins, second=first / wins) if wins else PlaceWeights()


def best_and_worst(battles: Sequence[Battle], weights: PlaceWeights) -> BestAndWorst | None:
    """The judgements of one answer with the highest and the lowest rating; None when none stands out."""
    ratings = elo(battles, weights)
    if len(ratings) < 2:
        return None
    chosen = max(ratings, key=lambda key: (ratings[key], -key))
    rejected = min(ratings, key=lambda key: (ratings[key], key))
    if ratings[chosen] - ratings[rejected] < LEAST_LEAD:
        return None
    return BestAndWorst(
        chosen_id=chosen,
        rejected_id=rejected,
        chosen_elo=ratings[chosen],
        rejected_elo=ratings[rejected],
    )


def elo(battles: Sequence[Battle], weights: PlaceWeights) -> dict[int, float]:
    """Rating of each judgement that took part, in Elo's points around 0.

    ε maximises Σ B_mn·log σ(ε_m - ε_n) - PRIOR/2·Σ ε_m², where B_mn = ω₁ for each win of m over n in first
    place and ω₂ for each in second place.
    """
    ids = sorted({key for battle in battles for key in (battle.first_id, battle.second_id)})
    wins = [(winner, loser, weight) for winner, loser, weight in _wins(battles, weights) if weight > 0]
    if not wins:
        return dict.fromkeys(ids, 0.0)
    return dict(zip(ids, _fitted(ids, wins), strict=True))


def _wins(battles: Sequence[Battle], weights: PlaceWeights) -> list[tuple[int, int, float]]:
    first = [(each.first_id, each.second_id, weights.first) for each in battles if each.won_by_first]
    second = [(each.second_id, each.first_id, weights.second) for each in battles if each.won_by_second]
    return first + second


def _fitted(ids: Sequence[int], wins: Sequence[tuple[int, int, float]]) -> list[float]:
    """By Newton's method: the likelihood with its prior is concave, and has one maximum."""
    import numpy as np  # what reads this module for its words need not wait for it

    place = {key: number for number, key in enumerate(ids)}
    winners = np.array([place[winner] for winner, _, _ in wins])
    losers = np.array([place[loser] for _, loser, _ in wins])
    weights = np.array([weight for _, _, weight in wins])
    ratings = np.zeros(len(ids))
    for _ in range(100):
        odds = 1 / (1 + np.exp(ratings[winners] - ratings[losers]))  # that the loser should have won
        slope = -PRIOR * ratings
        np.add.at(slope, winners, weights * odds)
        np.add.at(slope, losers, -weights * odds)
        bend = weights * odds * (1 - odds)
        curvature = PRIOR * np.eye(len(ids))
        for one, other, sign in ((winners, winners, 1), (losers, losers, 1), (winners, losers, -1)):
            np.add.at(curvature, (one, other), sign * bend)
        np.add.at(curvature, (losers, winners), -bend)
        step = np.linalg.solve(curvature, slope)
        ratings += step / max(1.0, float(np.abs(step).max()))  # no leap from where the curve is flat
        if np.abs(step).max() < 1e-10:
            break
    return [float(rating) * ELO_PER_NAT for rating in ratings]


def _variance(scores: Sequence[float]) -> float:
    mean = math.fsum(scores) / len(scores)
    return math.fsum((score - mean) ** 2 for score in scores) / len(scores)
