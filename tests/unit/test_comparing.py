"""Agreement of two judges and changes of pairs: against scipy, and against values worked out by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from selfreward.comparing import Scores, agreement, ends, kappa, pair_changes, tau, verdicts

scores = st.floats(0, 5).map(lambda value: round(value, 1))
rankings = st.lists(st.tuples(scores, scores), min_size=2, max_size=6).map(
    lambda rows: ({k: a for k, (a, _) in enumerate(rows)}, {k: b for k, (_, b) in enumerate(rows)})
)
several = st.lists(rankings, min_size=1, max_size=6)


@given(prompt=rankings)
def test_tau_of_a_prompt_is_scipy_s(prompt: tuple[Scores, Scores]) -> None:
    a, b = prompt
    left, right = [a[key] for key in sorted(a)], [b[key] for key in sorted(a)]
    found = tau(verdicts(a, b))
    if len(set(left)) == len(set(right)) == 1:
        assert found is None
    elif min(len(set(left)), len(set(right))) == 1:
        assert found == 0
    else:
        assert found == pytest.approx(stats.kendalltau(left, right).statistic)


@given(prompts=several)
def test_a_judge_agrees_with_itself(prompts: list[tuple[Scores, Scores]]) -> None:
    found = agreement((a, a) for a, _ in prompts)
    assert found.kendall.value in (None, pytest.approx(1))
    assert found.kappa.value in (None, pytest.approx(1))
    assert found.same_verdict == 1 and found.tie_shares[0] == found.tie_shares[1]
    assert found.mean_scores[0] == found.mean_scores[1]


@given(prompts=several)
def test_who_comes_first_is_nothing_but_the_order_of_the_figures(
    prompts: list[tuple[Scores, Scores]],
) -> None:
    there, back = agreement(prompts), agreement((b, a) for a, b in prompts)
    assert there.kendall == back.kendall
    assert there.kappa.value == pytest.approx(back.kappa.value, nan_ok=True) or there.kappa.value is None
    assert there.tie_shares == back.tie_shares[::-1] and there.mean_scores == back.mean_scores[::-1]
    for figure in (there.kendall, there.kappa):
        if figure.value is not None and figure.low is not None and figure.high is not None:
            assert -1 <= figure.low <= figure.value <= figure.high <= 1


def test_kappa_is_what_the_textbook_says() -> None:
    """20 couples both hold for better, 5 and 10 apart, 15 for worse: po = 0.7, pe = 0.5, κ = 0.4."""
    table = np.array([[15, 0, 10, 0, 0, 0, 5, 0, 20]])
    found = kappa(table)
    assert found.value == pytest.approx(0.4) and found.n == 50
    assert found.low is None, "one prompt says nothing of others"


def test_kappa_s_interval_narrows_with_prompts_and_one_verdict_has_none() -> None:
    kinds = np.array([[2, 0, 0, 0, 0, 0, 0, 0, 4], [1, 0, 2, 0, 1, 0, 2, 0, 0]])
    few, many = kappa(np.tile(kinds, (3, 1))), kappa(np.tile(kinds, (300, 1)))
    assert few.value == pytest.approx(many.value)
    assert few.low is not None and few.high is not None and many.low is not None and many.high is not None
    assert few.low < many.low < many.high < few.high
    assert kappa(np.array([[0, 0, 0, 0, 6, 0, 0, 0, 0]])).value is None
    assert kappa(np.empty((0, 9), dtype=np.int64)).value is None


def test_figures_of_a_small_example_by_hand() -> None:
    prompts = [
        ({1: 5.0, 2: 3.0, 3: 3.0}, {1: 4.0, 2: 2.0, 3: 1.0}),
        ({4: 1.0, 5: 2.0}, {4: 2.0, 5: 1.0, 6: 0.0}),
    ]
    found = agreement(prompts)
    assert found.candidates == 5 and found.kappa.n == 4
    assert found.kendall.value == pytest.approx((2 / np.sqrt(2 * 3) - 1) / 2) and found.kendall.n == 2
    assert found.same_verdict == 0.5, "1 over 2 and 1 over 3; a tie against an order; the reverse"
    assert found.tie_shares == (0.25, 0.0)
    assert found.mean_scores == (pytest.approx(14 / 5), pytest.approx(2.0))
    assert found.correlation == pytest.approx(np.corrcoef([5, 3, 3, 1, 2], [4, 2, 1, 2, 1])[0, 1])


def test_nothing_in_common_gives_nothing() -> None:
    found = agreement([({1: 5.0}, {2: 3.0}), ({}, {})])
    assert (found.candidates, found.kendall.value, found.kappa.value) == (0, None, None)
    assert found.mean_scores == (None, None) and found.correlation is None and found.same_verdict is None


pairs = st.lists(
    st.tuples(st.integers(1, 4), st.integers(0, 2), st.integers(0, 2)).filter(lambda row: row[1] != row[2]),
    unique=True,
)


@given(a=pairs, b=pairs)
def test_every_pair_is_counted_once(a: list[tuple[int, int, int]], b: list[tuple[int, int, int]]) -> None:
    found, back = pair_changes(a, b), pair_changes(b, a)
    mirrored = {(p, r, c) for p, c, r in b}
    twice = len(set(a) & set(b) & mirrored)
    assert found.both + found.swapped + found.only_a - twice == len(a)
    assert (found.both, found.swapped, found.only_a) == (back.both, back.swapped, back.only_b)


def test_pairs_that_stay_turn_and_go() -> None:
    found = pair_changes([(1, 10, 11), (2, 20, 21), (3, 30, 31)], [(1, 10, 11), (2, 21, 20), (3, 30, 32)])
    assert (found.both, found.swapped, found.only_a, found.only_b, found.prompts_both) == (1, 1, 1, 1, 3)


def test_a_curve_has_two_ends() -> None:
    assert ends([(1, 0.7), (2, 0.5), (9, 0.1)]) == (0.7, 0.1)
    assert ends([]) == (None, None)
