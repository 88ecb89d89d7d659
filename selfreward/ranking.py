"""From comparisons of two responses to a score of 0–5 for each: soft labels, win rates, strengths.

A couple is two ids, the smaller first. What could not be read in both orders says nothing: the order on
the page moves a judge, and one order alone would bring that in.
"""

import math
from collections.abc import Mapping, Sequence
from itertools import combinations, starmap
from statistics import fmean
from typing import TYPE_CHECKING

from selfreward.types import Choice

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Vector = NDArray[np.float64]

BEST = 5.0
"""The score of a response that is better than every other for sure."""
LEAST_MASS = 0.01
"""With less than this on both verdicts together the judge meant to write something else."""
PRIOR = 0.1
"""Weight of the draw that everybody has with an average response, in comparisons: what keeps the strength
of one that always wins finite."""

Couple = tuple[int, int]
Orders = Mapping[tuple[int, int], float | None]
"""(shown first, shown second) → P(first is better), 0–1; None where that could not be read."""
Preferences = Mapping[Couple, float]
"""(a, b), a < b → P(a is better than b), 0–1."""


def share_of_first(choice: Choice) -> float | None:
    """P(first is better) from the probabilities of "1" and "2": softmax over their logarithms (2309.00267).

    None, unreadable, when they add up to less than `LEAST_MASS`.
    """
    first, second = choice.probabilities
    mass = first + second
    return None if mass < LEAST_MASS else first / mass


def couple(one: int, other: int) -> Couple:
    """The two, the smaller first."""
    return (one, other) if one < other else (other, one)


def averaged(orders: Orders) -> dict[Couple, float | None]:
    """P(a is better) of each couple that was shown in both orders, averaged over them (arXiv 2309.00267).

    None where an order could not be read. A couple of which an order is missing is not in it.
    """
    return {
        (a, b): None
        if (there := orders[a, b]) is None or (back := orders[b, a]) is None
        # Written so that a judge that sees only places comes to 0.5 exactly.
        else 0.5 + (there - back) / 2
        for a, b in sorted({couple(*order) for order in orders})
        if (a, b) in orders and (b, a) in orders
    }


def readable(averages: Mapping[Couple, float | None]) -> dict[Couple, float]:
    """Those that were read in both orders."""
    return {key: value for key, value in averages.items() if value is not None}


def flips(orders: Orders) -> tuple[int, int]:
    """(couples whose verdict changes with the order, couples read in both orders).

    It changes when the same place wins both times; an even chance is won by neither.
    """
    read = [
        (there, back)
        for (a, b), there in orders.items()
        if a < b and there is not None and (back := orders.get((b, a))) is not None
    ]
    return sum((there - 0.5) * (back - 0.5) > 0 for there, back in read), len(read)


def scores(candidates: Sequence[int], preferences: Preferences, strength: str) -> dict[int, float | None]:
    """0–5 for each candidate; None for one that was compared with nobody.

    `strength` "win_rate": five times the mean probability of being the better one over the opponents that
    it met. "bradley_terry": over all the others that were compared, as fitted strengths foretell it; in a
    tournament it weighs whom a candidate met.
    """
    met = {key: value for key, value in preferences.items() if set(key) <= set(candidates)}
    compared = [one for one in candidates if any(one in key for key in met)]
    if not compared:
        return dict.fromkeys(candidates)
    rates = win_rates(compared, met) if strength == "win_rate" else expected(strengths(compared, met))
    return {one: BEST * min(1.0, max(0.0, rates[one])) if one in rates else None for one in candidates}


def win_rates(candidates: Sequence[int], preferences: Preferences) -> dict[int, float]:
    """Mean probability of being the better one, 0–1, over the opponents that each candidate has met."""
    wins: dict[int, list[float]] = {one: [] for one in candidates}
    for (a, b), better in preferences.items():
        wins[a].append(better)
        wins[b].append(1 - better)
    return {one: fmean(each) for one, each in wins.items() if each}


def strengths(candidates: Sequence[int], preferences: Preferences) -> dict[int, float]:
    """Bradley and Terry's log-strengths: P(a is better than b) = σ(s_a − s_b), fitted to soft outcomes.

    The maximum of Σ p·log σ(s_a − s_b) + (1 − p)·log σ(s_b − s_a), and for each candidate `PRIOR` draws
    with one of strength 0; that is concave and has one maximum.
    """
    import numpy as np
    from scipy.optimize import minimize  # takes a while to import
    from scipy.special import expit, log_expit

    place = {one: index for index, one in enumerate(candidates)}
    a, b = (np.array([place[key[side]] for key in preferences], dtype=int) for side in (0, 1))
    p, size = np.fromiter(preferences.values(), float), len(candidates)

    def loss(s: "Vector") -> tuple[float, "Vector"]:
        gap, surprise = s[a] - s[b], p - expit(s[a] - s[b])
        value = p @ log_expit(gap) + (1 - p) @ log_expit(-gap)
        value += PRIOR / 2 * (log_expit(s) + log_expit(-s)).sum()
        slope = np.bincount(a, surprise, size) - np.bincount(b, surprise, size)
        return -float(value), -(slope + PRIOR * (0.5 - expit(s)))

    def curvature(s: "Vector") -> "Vector":
        weight = expit(s[a] - s[b]) * expit(s[b] - s[a])
        found = np.diag(np.bincount(a, weight, size) + np.bincount(b, weight, size))
        found[a, b] -= weight
        found[b, a] -= weight
        return found + np.diag(PRIOR * expit(s) * expit(-s))

    fitted = minimize(
        loss, np.zeros(size), jac=True, hess=curvature, method="trust-exact", options={"gtol": 1e-9}
    )
    return dict(zip(candidates, map(float, fitted.x), strict=True))


def expected(strengths: Mapping[int, float]) -> dict[int, float]:
    """The mean probability of being the better one over all the others, 0–1, that strengths foretell."""
    return {
        one: fmean(_logistic(mine - theirs) for other, theirs in strengths.items() if other != one)
        for one, mine in strengths.items()
        if len(strengths) > 1
    }


def wanted(
    candidates: Sequence[int], averages: Mapping[Couple, float | None], opponents: str
) -> list[Couple]:
    """The couples that are to be compared now, given what is known of others; none when that was all.

    `opponents` "all": every two. "tournament": those of the knock-out's first round that is not over.
    """
    if opponents == "tournament":
        return knock_out(candidates, averages)
    return [key for key in starmap(couple, combinations(candidates, 2)) if key not in averages]


def knock_out(candidates: Sequence[int], averages: Mapping[Couple, float | None]) -> list[Couple]:
    """The couples of a knock-out's current round that are not in `averages` yet; none when it is over.

    Neighbours meet, and who is left over waits for the next round, first in it: N − 1 couples in all. What
    cannot be told apart, or read, is decided for the one that stands first. Nothing is drawn: from the
    same averages follows the same plan, and so a tournament goes on where it was.
    """
    playing = list(candidates)
    while len(playing) > 1:
        rest = playing[-1:] if len(playing) % 2 else []
        meetings = list(zip(playing[::2], playing[1::2], strict=False))
        missing = [couple(*meeting) for meeting in meetings if couple(*meeting) not in averages]
        if missing:
            return missing
        playing = rest + [_winner(meeting, averages) for meeting in meetings]
    return []


def _winner(meeting: Couple, averages: Mapping[Couple, float | None]) -> int:
    one, other = meeting
    better = averages[couple(one, other)]
    if better is None or better == 0.5:
        return one
    return couple(one, other)[better < 0.5]


def _logistic(gap: float) -> float:
    return 1 / (1 + math.exp(-gap)) if gap > -700 else 0.0
