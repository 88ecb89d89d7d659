"""The pair rules beyond best and worst: what each draws, and what none of them ever does."""

import math
from collections.abc import Sequence
from dataclasses import replace
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfreward.config import PairSettings
from selfreward.pair_rules import RULES
from selfreward.pairing import decide, takes_part
from selfreward.types import (
    CandidateStatus,
    PairDecision,
    PairOutcome,
    PreferencePair,
    ScoredCandidate,
    ScoredPrompt,
)

OK, TRUNCATED, EMPTY = CandidateStatus.OK, CandidateStatus.TRUNCATED, CandidateStatus.EMPTY


def candidate(id: int, *scores: float, text: str = "", **fields: object) -> ScoredCandidate:
    return ScoredCandidate(id=id, text=text or f"text {id}", scores=scores, **fields)  # type: ignore[arg-type]


def anchor(id: int, *scores: float, text: str = "") -> ScoredCandidate:
    return candidate(id, *scores, text=text, anchor=True)


def decided(rule: str, *candidates: ScoredCandidate, **fields: object) -> PairDecision:
    prompt = ScoredPrompt(id=9, text="a prompt", candidates=candidates)
    return decide(prompt, PairSettings.model_validate({"rule": rule, **fields}))


def drawn(rule: str, *candidates: ScoredCandidate, **fields: object) -> list[tuple[int, int]]:
    return [ids(pair) for pair in decided(rule, *candidates, **fields).pairs]


def ids(pair: PreferencePair) -> tuple[int, int]:
    return pair.chosen_id, pair.rejected_id


@st.composite
def prompts(draw: st.DrawFn) -> ScoredPrompt:
    score = st.one_of(st.integers(0, 5).map(float), st.sampled_from([4.1, 4.2, 0.1, 0.2, 0.3]))
    keys = draw(st.lists(st.integers(1, 99), unique=True, max_size=7))
    candidates = tuple(
        ScoredCandidate(
            id=key,
            text=draw(st.sampled_from(["a", " a\n", "b", "cc", "ddd"])),
            scores=tuple(draw(st.lists(score, max_size=3))),
            status=draw(st.sampled_from([OK, TRUNCATED, EMPTY])),
            token_count=draw(st.integers(0, 3)),
            reward=draw(st.none() | st.floats(-800, 800)),
            anchor=draw(st.booleans()),
        )
        for key in keys
    )
    couples = [(low, high) for low in keys for high in keys if low < high]
    said = {couple: draw(st.floats(0, 1)) for couple in couples if draw(st.booleans())}
    return ScoredPrompt(id=9, text="a prompt", candidates=candidates, preferences=said)


SETTINGS = st.builds(
    PairSettings,
    rule=st.sampled_from(sorted(RULES)),
    min_scores=st.integers(1, 2),
    min_margin=st.sampled_from([0.0, 0.1, 1.0]),
    use_truncated=st.booleans(),
    max_per_prompt=st.integers(0, 3),
    length_tolerance=st.sampled_from([0.0, 0.1, 0.2, 0.5]),
    soft_labels=st.booleans(),
)


@given(prompts(), SETTINGS, st.randoms(use_true_random=False))
def test_the_order_of_candidates_and_scores_is_nothing(
    prompt: ScoredPrompt, settings: PairSettings, chance: Random
) -> None:
    def shuffled(items: Sequence[object]) -> tuple:  # type: ignore[type-arg]
        return tuple(chance.sample(items, len(items)))

    other = tuple(replace(each, scores=shuffled(each.scores)) for each in prompt.candidates)
    assert decide(replace(prompt, candidates=shuffled(other)), settings) == decide(prompt, settings)


@given(prompts(), SETTINGS)
def test_whatever_the_rule_pairs_are_sound(prompt: ScoredPrompt, settings: PairSettings) -> None:
    decision = decide(prompt, settings)
    assert (decision.outcome == PairOutcome.PAIRED) == bool(decision.pairs)
    by_id = {each.id: each for each in prompt.candidates}
    for pair in decision.pairs:
        chosen, rejected = by_id[pair.chosen_id], by_id[pair.rejected_id]
        assert pair.chosen_id != pair.rejected_id
        assert chosen.text.strip() != rejected.text.strip()
        assert pair.margin > 0
        assert pair.margin >= settings.min_margin - 1e-9
        assert takes_part(chosen, settings)
        assert takes_part(replace(rejected, anchor=False), settings)
        assert rejected.anchor == (settings.rule == "anchored")
        assert pair.soft_label is None or (settings.soft_labels and 0 <= pair.soft_label <= 1)


@given(prompts(), SETTINGS)
def test_caps_hold_and_no_two_pairs_are_of_the_same_two(prompt: ScoredPrompt, settings: PairSettings) -> None:
    pairs = decide(prompt, settings).pairs
    cap = settings.max_per_prompt or 99 if settings.rule == "all_pairs" else 1
    assert len(pairs) <= cap
    assert len({frozenset(ids(pair)) for pair in pairs}) == len(pairs)
    margins = [pair.margin for pair in pairs]
    assert margins == sorted(margins, reverse=True)


@given(prompts(), SETTINGS)
def test_a_cap_leaves_the_first_of_all_pairs(prompt: ScoredPrompt, settings: PairSettings) -> None:
    every = settings.model_copy(update={"rule": "all_pairs", "max_per_prompt": 0})
    capped = every.model_copy(update={"max_per_prompt": 2})
    assert decide(prompt, capped).pairs == decide(prompt, every).pairs[:2]


@given(prompts(), SETTINGS)
def test_the_widest_of_all_pairs_is_as_wide_as_best_over_worst(
    prompt: ScoredPrompt, settings: PairSettings
) -> None:
    every, one = (
        decide(prompt, settings.model_copy(update={"rule": rule})) for rule in ("all_pairs", "best_worst")
    )
    if one.pairs:
        assert every.pairs[0].margin == one.pairs[0].margin
    if one.outcome in (PairOutcome.TIE, PairOutcome.UNSCORED):
        assert every.outcome == one.outcome


@given(prompts(), SETTINGS)
def test_without_tolerance_length_decides_only_between_extremes(
    prompt: ScoredPrompt, settings: PairSettings
) -> None:
    exact = settings.model_copy(update={"rule": "length_controlled", "length_tolerance": 0.0})
    by_length, by_id = (
        decide(prompt, exact),
        decide(prompt, exact.model_copy(update={"rule": "best_worst"})),
    )
    assert by_length.outcome == by_id.outcome
    for pair in by_length.pairs:
        assert (pair.chosen_score, pair.rejected_score) == (by_length.best_score, by_length.worst_score)


@given(prompts(), SETTINGS)
def test_length_controlled_scores_lie_in_their_ends_of_the_range(
    prompt: ScoredPrompt, settings: PairSettings
) -> None:
    chosen = settings.model_copy(update={"rule": "length_controlled"})
    decision = decide(prompt, chosen)
    for pair in decision.pairs:
        best, worst = decision.best_score or 0.0, decision.worst_score or 0.0
        slack = chosen.length_tolerance * (best - worst) + 1e-9
        assert pair.chosen_score >= best - slack and pair.rejected_score <= worst + slack


@given(prompts(), SETTINGS)
def test_anchors_change_nothing_in_other_rules(prompt: ScoredPrompt, settings: PairSettings) -> None:
    if settings.rule == "anchored":
        settings = settings.model_copy(update={"rule": "best_worst"})
    own = replace(prompt, candidates=tuple(each for each in prompt.candidates if not each.anchor))
    assert decide(prompt, settings) == decide(own, settings)


def test_all_pairs_that_differ_widest_first_and_of_equals_the_lowest_ids() -> None:
    four = [candidate(1, 3), candidate(2, 5), candidate(3, 3), candidate(4, 1)]
    assert drawn("all_pairs", *four) == [(2, 4), (1, 4), (2, 1), (2, 3), (3, 4)]
    assert drawn("all_pairs", *four, max_per_prompt=2) == [(2, 4), (1, 4)]
    assert drawn("all_pairs", *four, min_margin=2.5) == [(2, 4)]


def test_all_pairs_count_no_two_texts_twice() -> None:
    same = [candidate(1, 5, text="x"), candidate(2, 4, text="x "), candidate(3, 1, text="y")]
    assert drawn("all_pairs", *same) == [(1, 3)]


@pytest.mark.parametrize("rule", ["best_worst", "all_pairs", "length_controlled"])
def test_why_there_is_no_pair(rule: str) -> None:
    two = candidate(1, 4), candidate(2, 4)
    assert decided(rule, *two).outcome == PairOutcome.TIE
    assert decided(rule, candidate(1, 4)).outcome == PairOutcome.UNSCORED
    assert decided(rule, candidate(1, 4), anchor(2, 1)).outcome == PairOutcome.UNSCORED
    narrow = candidate(1, 4), candidate(2, 3.5)
    assert decided(rule, *narrow, min_margin=1).outcome == PairOutcome.BELOW_MARGIN
    assert decided(rule, *narrow, min_margin=0.5).outcome == PairOutcome.PAIRED
    twins = candidate(1, 4, text="x"), candidate(2, 1, text=" x")
    assert decided(rule, *twins).outcome == PairOutcome.TWINS


def test_the_shortest_of_the_good_against_the_longest_of_the_bad() -> None:
    """Scores 0 to 5: with 0.2, from 4 up is good and up to 1 is bad."""
    answers = [
        candidate(1, 5, token_count=90),
        candidate(2, 4, token_count=30),
        candidate(3, 3.9, token_count=10),
        candidate(4, 1, token_count=80),
        candidate(5, 0, token_count=20),
        candidate(6, 1.1, token_count=99),
    ]
    assert drawn("length_controlled", *answers) == [(2, 4)]
    assert drawn("length_controlled", *answers, length_tolerance=0) == [(1, 5)]
    assert drawn("length_controlled", *answers, length_tolerance=0.22) == [(3, 6)]


def test_ends_of_the_range_are_told_exactly() -> None:
    """0.1 of the range of 3 from 4.1: in floats 4.1 - 0.1 * 3 falls short of 3.8."""
    answers = [candidate(1, 4.1, token_count=9), candidate(2, 3.8, token_count=1), candidate(3, 1.1)]
    assert drawn("length_controlled", *answers, length_tolerance=0.1) == [(2, 3)]


def test_of_equal_tokens_characters_count_then_scores_then_ids() -> None:
    long, short = {"text": "a long text"}, {"text": "short"}
    answers = [
        candidate(1, 5, **long),
        candidate(2, 5, **short),
        candidate(3, 0, **short),
        candidate(4, 0, **long),
    ]
    assert drawn("length_controlled", *answers) == [(2, 4)]
    alike = [
        candidate(1, 4.5, text="aa"),
        candidate(2, 5, text="bb"),
        candidate(3, 0, text="cc"),
        candidate(4, 0, text="dd"),
    ]
    assert drawn("length_controlled", *alike) == [(2, 3)]


def test_with_half_the_range_the_middle_is_on_one_side_only() -> None:
    """2.5 is good and bad: it is paired with something else, never with itself or its like."""
    answers = [
        candidate(1, 5, token_count=9),
        candidate(2, 2.5, token_count=1),
        candidate(3, 0, token_count=2),
    ]
    assert drawn("length_controlled", *answers, length_tolerance=0.5) == [(2, 3)]
    middle = [
        candidate(1, 5, token_count=5),
        candidate(2, 2.5, token_count=1),
        candidate(3, 2.5, token_count=9),
        candidate(4, 0, token_count=3),
    ]
    assert drawn("length_controlled", *middle, length_tolerance=0.5) == [(2, 4)]


def test_the_best_against_the_lowest_anchor_where_that_scores_lower() -> None:
    own = candidate(1, 3), candidate(2, 4), candidate(3, 0)
    assert drawn("anchored", *own, anchor(11, 2), anchor(12, 1), anchor(13, 3)) == [(2, 12)]
    assert drawn("anchored", candidate(2, 4), anchor(11, 2)) == [(2, 11)]
    assert decided("anchored", *own, anchor(11, 4), anchor(12, 5)).outcome == PairOutcome.UNANCHORED
    assert decided("anchored", *own).outcome == PairOutcome.UNSCORED
    assert decided("anchored", *own, anchor(11)).outcome == PairOutcome.UNSCORED
    assert decided("anchored", anchor(11, 1), anchor(12, 2)).outcome == PairOutcome.UNSCORED
    assert decided("anchored", *own, anchor(11, 3.5), min_margin=1).outcome == PairOutcome.BELOW_MARGIN
    assert decided("anchored", *own, anchor(11, 1, text="text 2")).outcome == PairOutcome.TWINS


def test_scores_of_an_anchored_decision_are_those_of_the_own_candidates() -> None:
    decision = decided("anchored", candidate(1, 3), candidate(2, 4), anchor(11, 1))
    assert (decision.best_score, decision.worst_score) == (4.0, 3.0)


def test_soft_labels_are_what_the_judge_said_of_the_two() -> None:
    prompt = ScoredPrompt(
        id=9,
        text="a prompt",
        candidates=(candidate(1, 1, reward=0.0), candidate(2, 4, reward=1.0), candidate(3, 2, reward=0.5)),
        preferences={(1, 2): 0.2, (2, 3): 0.7},
    )
    settings = PairSettings(rule="all_pairs", soft_labels=True)
    labels = {ids(pair): pair.soft_label for pair in decide(prompt, settings).pairs}
    assert labels == {
        (2, 1): pytest.approx(0.8),
        (2, 3): 0.7,
        (3, 1): pytest.approx(1 / (1 + math.exp(-0.5))),
    }
    hard = decide(prompt, settings.model_copy(update={"soft_labels": False}))
    assert {pair.soft_label for pair in hard.pairs} == {None}


def test_rewards_that_lie_far_apart_make_no_overflow() -> None:
    pairs = decided(
        "best_worst", candidate(1, 1, reward=900.0), candidate(2, 4, reward=-900.0), soft_labels=True
    )
    assert [pair.soft_label for pair in pairs.pairs] == [0.0]


def test_scores_that_are_one_number_where_they_are_stored_make_no_pair() -> None:
    """Their means differ by a third of the last digit."""
    nearly = [candidate(1, 0.1, 0.1, 0.10000000000000002), candidate(2, 0.1, 0.1, 0.1)]
    means = [sum(each.scores) for each in nearly]
    assert means[0] >= means[1]
    for rule in ("best_worst", "all_pairs", "length_controlled"):
        for pair in decided(rule, *nearly).pairs:
            assert pair.chosen_score > pair.rejected_score
