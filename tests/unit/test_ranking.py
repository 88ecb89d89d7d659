"""From comparisons to scores: properties of soft labels, win rates, strengths and knock-outs."""

import math
from itertools import combinations, permutations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selfreward.ranking import (
    averaged,
    expected,
    flips,
    knock_out,
    readable,
    scores,
    share_of_first,
    strengths,
    wanted,
    win_rates,
)
from selfreward.types import Choice

scores([1, 2], {(1, 2): 0.5}, "bradley_terry")  # imports scipy, which would count as the first example's time

chance = st.floats(0, 1)
WAYS = ("win_rate", "bradley_terry")


@st.composite
def round_robins(
    draw: st.DrawFn, probability: st.SearchStrategy[float] = chance
) -> dict[tuple[int, int], float]:
    """P(a is better than b) for every two of two to five candidates."""
    ids = sorted(draw(st.sets(st.integers(1, 99), min_size=2, max_size=5)))
    return {couple: draw(probability) for couple in combinations(ids, 2)}


def ids_of(preferences: dict[tuple[int, int], float]) -> list[int]:
    return sorted({one for key in preferences for one in key})


def renamed(preferences: dict[tuple[int, int], float], names: dict[int, int]) -> dict[tuple[int, int], float]:
    """The same outcomes among candidates of other ids."""
    found = {}
    for (a, b), p in preferences.items():
        one, other = names[a], names[b]
        found[min(one, other), max(one, other)] = p if one < other else 1 - p
    return found


@given(chance, chance)
def test_the_share_of_first_is_the_softmax_of_both(first: float, second: float) -> None:
    first, second = first / 2, second / 2
    share = share_of_first(Choice(probabilities=(first, second)))
    if first + second < 0.01:
        assert share is None
    elif first and second:
        a, b = math.log(first), math.log(second)
        assert share == pytest.approx(math.exp(a) / (math.exp(a) + math.exp(b)))
    else:
        assert share == (1 if first else 0)


@given(chance, chance)
def test_a_soft_label_turns_round_with_the_couple(there: float, back: float) -> None:
    (label,) = readable(averaged({(1, 2): there, (2, 1): back})).values()
    (turned,) = readable(averaged({(2, 1): there, (1, 2): back})).values()
    assert label == pytest.approx((there + 1 - back) / 2)
    assert turned == pytest.approx(1 - label)


@given(chance)
def test_a_judge_that_sees_only_places_has_no_opinion(first: float) -> None:
    orders = {(1, 2): first, (2, 1): first}
    assert averaged(orders) == {(1, 2): 0.5}
    assert flips(orders) == (int(first != 0.5), 1)


def test_one_order_alone_says_nothing() -> None:
    assert averaged({(1, 2): 0.9}) == {}
    assert averaged({(1, 2): 0.9, (2, 1): None}) == {(1, 2): None}
    assert flips({(1, 2): 0.9, (2, 1): None, (3, 1): 0.2}) == (0, 0)


def test_a_verdict_flips_when_the_same_place_wins_twice() -> None:
    assert flips({(1, 2): 0.9, (2, 1): 0.6, (1, 3): 0.9, (3, 1): 0.1, (2, 3): 0.5, (3, 2): 0.9}) == (1, 3)


@given(round_robins())
@settings(max_examples=40)
@pytest.mark.parametrize("way", WAYS)
def test_scores_are_from_0_to_5_and_average_to_the_middle(
    way: str, preferences: dict[tuple[int, int], float]
) -> None:
    found = [score for score in scores(ids_of(preferences), preferences, way).values() if score is not None]
    assert all(0 <= score <= 5 for score in found)
    assert sum(found) / len(found) == pytest.approx(2.5, abs=1e-6)


@given(round_robins())
@settings(max_examples=40)
@pytest.mark.parametrize("way", WAYS)
def test_turning_every_outcome_turns_every_score(way: str, preferences: dict[tuple[int, int], float]) -> None:
    ids = ids_of(preferences)
    before = scores(ids, preferences, way)
    after = scores(ids, {key: 1 - p for key, p in preferences.items()}, way)
    assert [after[one] for one in ids] == pytest.approx([5 - (before[one] or 0) for one in ids], abs=1e-4)


@given(round_robins(), st.randoms())
@settings(max_examples=40)
@pytest.mark.parametrize("way", WAYS)
def test_scores_do_not_depend_on_names(
    way: str, preferences: dict[tuple[int, int], float], draw: object
) -> None:
    ids = ids_of(preferences)
    shuffled = ids[:]
    draw.shuffle(shuffled)  # type: ignore[attr-defined]
    names = dict(zip(ids, shuffled, strict=True))
    before = scores(ids, preferences, way)
    after = scores(shuffled, renamed(preferences, names), way)
    assert [after[names[one]] for one in ids] == pytest.approx([before[one] for one in ids], abs=1e-4)


@given(st.lists(st.floats(-4, 4), min_size=2, max_size=5))
@settings(max_examples=60)
def test_strengths_are_found_again_from_what_they_say(true: list[float]) -> None:
    """But for the prior, which draws all of them a little towards an average response."""
    ids = range(1, len(true) + 1)
    outcomes = {(a, b): 1 / (1 + math.exp(true[b - 1] - true[a - 1])) for a, b in combinations(ids, 2)}
    rates, fitted = win_rates(list(ids), outcomes), strengths(list(ids), outcomes)
    for a, b in combinations(ids, 2):
        if abs(true[a - 1] - true[b - 1]) > 1e-3:
            assert (fitted[a] > fitted[b]) == (true[a - 1] > true[b - 1]) == (rates[a] > rates[b])


@given(round_robins())
@settings(max_examples=60)
def test_in_a_round_robin_strengths_and_win_rates_give_one_order(
    preferences: dict[tuple[int, int], float],
) -> None:
    ids = ids_of(preferences)
    rates, foretold = win_rates(ids, preferences), expected(strengths(ids, preferences))
    for a, b in combinations(ids, 2):
        if abs(rates[a] - rates[b]) > 1e-4:
            assert (foretold[a] > foretold[b]) == (rates[a] > rates[b])


def test_who_always_wins_stays_finite() -> None:
    found = strengths([1, 2, 3], {(1, 2): 1.0, (1, 3): 1.0, (2, 3): 1.0})
    assert 20 > found[1] > found[2] > found[3] > -20
    assert found[2] == pytest.approx(0, abs=1e-4)


def test_strengths_weigh_whom_one_has_met() -> None:
    """1 beat 2, and 2 beat 3 and 4: in win rates 3 is no worse than 2, in strengths it is."""
    met = {(1, 2): 0.9, (2, 3): 0.6, (3, 4): 0.9}
    assert win_rates([1, 2, 3, 4], met)[3] > win_rates([1, 2, 3, 4], met)[2]
    found = scores([1, 2, 3, 4], met, "bradley_terry")
    assert [one for one, _ in sorted(found.items(), key=lambda item: -(item[1] or 0))] == [1, 2, 3, 4]


@pytest.mark.parametrize("way", WAYS)
def test_who_has_met_nobody_has_no_score(way: str) -> None:
    assert scores([1, 2, 3], {(1, 2): 0.8}, way)[3] is None
    assert scores([1, 2], {}, way) == {1: None, 2: None}


@given(st.lists(st.integers(1, 999), min_size=1, max_size=9, unique=True), st.data())
@settings(max_examples=50)
def test_a_knock_out_takes_one_comparison_less_than_there_are_candidates(
    ids: list[int], data: st.DataObject
) -> None:
    known: dict[tuple[int, int], float | None] = {}
    rounds = 0
    while couples := knock_out(ids, known):
        assert couples == knock_out(list(ids), dict(known)), "nothing is drawn"
        first, *rest = couples
        known[first] = data.draw(st.none() | chance)
        assert knock_out(ids, known)[: len(rest)] == rest or not rest, "it goes on where it was"
        known |= {couple: data.draw(st.none() | chance) for couple in rest}
        rounds += 1
    assert len(known) == len(ids) - 1
    assert rounds == math.ceil(math.log2(len(ids)))


@given(st.permutations(range(1, 8)))
def test_the_best_wins_the_knock_out_and_meets_only_those_that_have_not_lost(ids: list[int]) -> None:
    known: dict[tuple[int, int], float | None] = {}
    while couples := knock_out(ids, known):
        lost = {max(key) for key in known}
        assert not lost & {one for couple in couples for one in couple}
        known |= {couple: 1.0 for couple in couples}  # the smaller id is the better one
    assert 1 not in {max(key) for key in known}


def test_all_means_every_two_that_are_not_known() -> None:
    assert wanted([3, 1, 2], {(1, 3): None}, "all") == [(2, 3), (1, 2)]
    assert wanted([7], {}, "all") == wanted([7], {}, "tournament") == []


def test_a_round_robin_has_each_order_of_places_once() -> None:
    orders = {order: 0.5 for order in permutations((1, 2, 3), 2)}
    assert wanted([1, 2, 3], averaged(orders), "all") == []
