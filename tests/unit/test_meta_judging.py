"""Judging judgements: which are compared, what a place weighs, and who is best and worst."""

import math
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize

from selfreward.meta_judging import (
    ELO_PER_NAT,
    PRIOR,
    Battle,
    PlaceWeights,
    WrittenJudgement,
    best_and_worst,
    elo,
    most_disputed,
    orders,
    place_weights,
    to_compare,
)

PROBABILITIES = st.one_of(st.none(), st.sampled_from([0.0, 0.2, 0.5, 0.8, 1.0]))


@st.composite
def tournaments(draw: st.DrawFn) -> list[Battle]:
    """Every two of a few judgements, in both orders, with any outcome."""
    ids = draw(st.lists(st.integers(1, 99), min_size=2, max_size=5, unique=True))
    return [
        Battle(first_id=first, second_id=second, probability_first=draw(PROBABILITIES))
        for first, second in permutations(sorted(ids), 2)
    ]


def battle(first: int, second: int, probability: float | None) -> Battle:
    return Battle(first_id=first, second_id=second, probability_first=probability)


def judged(key: int, score: float, text: str = "") -> WrittenJudgement:
    return WrittenJudgement(id=key, text=text or f"judgement {key}", score=score)


def test_the_most_disputed_answers_come_first_and_agreement_is_no_dispute() -> None:
    scores = {1: [3, 3, 3], 2: [2, 4], 3: [0, 5], 4: [4], 5: [4, 2], 6: []}
    assert most_disputed(scores, 10) == [3, 2, 5]
    assert most_disputed(scores, 2) == [3, 2]


@given(st.lists(st.floats(0, 5), min_size=2, max_size=6), st.randoms())
def test_the_order_in_which_scores_come_does_not_decide_what_is_disputed(scores: list[float], draw) -> None:  # type: ignore[no-untyped-def]
    shuffled = draw.sample(scores, len(scores))
    assert most_disputed({1: scores, 2: shuffled}, 2) in ([1, 2], [])


def test_judgements_of_one_text_are_one_and_the_extremes_are_kept() -> None:
    five = [judged(1, 3), judged(2, 3, "judgement 1 "), judged(3, 2), judged(4, 5), judged(5, 0)]
    assert [each.id for each in to_compare(five, 9)] == [1, 3, 4, 5]
    assert [each.id for each in to_compare(five, 2)] == [4, 5]
    assert [each.id for each in to_compare(five, 3)] == [1, 4, 5]


@given(st.lists(st.integers(1, 50), min_size=2, max_size=6, unique=True))
def test_every_two_are_shown_in_both_orders_one_after_the_other(ids: list[int]) -> None:
    found = orders(ids)
    assert sorted(found) == sorted(permutations(ids, 2))
    assert all(one == other[::-1] for one, other in zip(found[::2], found[1::2], strict=True))


def test_a_place_that_wins_often_counts_little() -> None:
    """Wins of the first: 3 of 4. omega_1 = 1/4 and omega_2 = 3/4 (arXiv 2407.19594)."""
    battles = [battle(1, 2, 0.9), battle(2, 1, 0.7), battle(1, 3, 0.8), battle(3, 1, 0.1), battle(2, 3, 0.5)]
    assert place_weights(battles) == PlaceWeights(first=0.25, second=0.75)
    assert place_weights([battle(1, 2, None), battle(2, 1, 0.5)]) == PlaceWeights(first=0.5, second=0.5)


def test_a_liking_for_a_place_alone_tells_nothing_apart() -> None:
    battles = [battle(first, second, 0.9) for first, second in permutations((1, 2, 3), 2)]
    assert best_and_worst(battles, place_weights(battles)) is None
    assert best_and_worst([], PlaceWeights()) is None
    assert best_and_worst([battle(1, 2, None)], PlaceWeights()) is None


def test_the_one_that_wins_in_both_places_is_best() -> None:
    battles = [battle(1, 2, 0.2), battle(2, 1, 0.9), battle(2, 3, 0.7), battle(3, 2, 0.1), battle(1, 3, 0.6)]
    found = best_and_worst(battles, PlaceWeights())
    assert found is not None and (found.chosen_id, found.rejected_id) == (2, 3)
    assert found.chosen_elo > 0 > found.rejected_elo


def test_two_that_met_once_have_the_rating_that_the_formula_says() -> None:
    """By symmetry e_1 = -e_2 = e, where (1 - sigma(2e)) / 2 = PRIOR * e for a win that counts one half."""
    ratings = elo([battle(1, 2, 1.0)], PlaceWeights())
    nats = ratings[1] / ELO_PER_NAT
    assert ratings[1] == pytest.approx(-ratings[2])
    assert (1 - 1 / (1 + math.exp(-2 * nats))) / 2 == pytest.approx(PRIOR * nats, abs=1e-8)


@given(tournaments(), st.floats(0, 1))
def test_ratings_are_the_maximum_of_the_likelihood(battles: list[Battle], first: float) -> None:
    weights = PlaceWeights(first=first, second=1 - first)
    ratings = elo(battles, weights)
    ids = sorted(ratings)

    def loss(nats: np.ndarray) -> float:
        at = dict(zip(ids, nats, strict=True))
        total = PRIOR / 2 * float(np.sum(nats**2))
        for each in battles:
            if each.won_by_first:
                total += first * math.log1p(math.exp(at[each.second_id] - at[each.first_id]))
            if each.won_by_second:
                total += (1 - first) * math.log1p(math.exp(at[each.first_id] - at[each.second_id]))
        return total

    found = np.array([ratings[key] for key in ids]) / ELO_PER_NAT
    assert loss(found) <= minimize(loss, np.zeros(len(ids))).fun + 1e-7
    assert sum(ratings.values()) == pytest.approx(0, abs=1e-4)


@given(tournaments())
def test_who_is_called_what_changes_no_rating(battles: list[Battle]) -> None:
    """Other ids in another order: the same ratings."""
    weights = place_weights(battles)
    renamed = [battle(100 - each.first_id, 100 - each.second_id, each.probability_first) for each in battles]
    before, after = elo(battles, weights), elo(renamed[::-1], weights)
    assert {100 - key: pytest.approx(value, abs=1e-6) for key, value in before.items()} == after
