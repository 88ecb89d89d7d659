"""The gates before training: each with data that trips it, data that does not, and too little data."""

import re
from collections.abc import Sequence
from dataclasses import replace
from random import Random
from tracemalloc import get_traced_memory, start, stop

import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfreward.config import GateSettings, setting_names
from selfreward.health import Evidence, Tally, check
from selfreward.types import Gate, GateResult, GateState, ScoredCandidate, ScoredPrompt


def prompt(*candidates: tuple[int, Sequence[float]]) -> ScoredPrompt:
    """Candidates by length and scores."""
    return ScoredPrompt(
        id=1,
        text="a prompt",
        candidates=tuple(
            ScoredCandidate(id=id, text="x" * length, scores=tuple(scores))
            for id, (length, scores) in enumerate(candidates)
        ),
    )


HEALTHY_PROMPTS = [
    prompt((40, (1, 2)), (90, (5, 4)), (70, (3, 3)), (60, (4,))),
    prompt((50, (2,)), (20, (4,)), (30, (4,)), (10, ())),
] * 8


def tally_of(*prompts: ScoredPrompt) -> Tally:
    tally = Tally()
    tally.add(prompts)
    return tally


HEALTHY = Evidence(
    tally=tally_of(*HEALTHY_PROMPTS),
    judgements=90,
    readable=80,
    mean_length=1500,
    mean_length_first=1000,
    judge_accuracy=0.62,
    first_accuracy_low=0.55,
)


def result(gate: Gate, evidence: Evidence, **fields: object) -> GateResult:
    results = check(evidence, GateSettings(**fields))
    assert [each.gate for each in results] == list(Gate)
    return next(each for each in results if each.gate is gate)


def judged(*prompts: ScoredPrompt) -> Evidence:
    return replace(HEALTHY, tally=tally_of(*prompts))


UNWELL = {
    Gate.READABLE_SHARE: (replace(HEALTHY, judgements=100, readable=49), 0.49, 0.5),
    Gate.ONE_SCORE_SHARE: (
        judged(*[prompt((1, (4,) * 12), (2, (4,) * 12))] * 4, prompt((1, (3,)))),
        96 / 97,
        0.95,
    ),
    Gate.TIE_SHARE: (judged(*[prompt((3, (4, 2)), (4, (3,)))] * 19, prompt((3, (4,)), (4, (3,)))), 0.95, 0.9),
    Gate.SPREAD: (judged(*[prompt((3, (4,)), (4, (4.05,)))] * 10), 0.05, 0.1),
    Gate.LENGTH_CORRELATION: (judged(*[prompt((100, (1,)), (200, (2,)), (310, (3,)))] * 8), 0.9996, 0.8),
    Gate.LENGTH_GROWTH: (replace(HEALTHY, mean_length=2552, mean_length_first=1000), 2.552, 2.5),
    Gate.JUDGE_ACCURACY: (replace(HEALTHY, judge_accuracy=0.54), 0.54, 0.55),
}
PAUSING = {Gate.READABLE_SHARE, Gate.ONE_SCORE_SHARE, Gate.TIE_SHARE, Gate.JUDGE_ACCURACY}


@pytest.mark.parametrize("gate", Gate)
def test_a_gate_trips_on_what_it_is_for_and_pauses_or_warns_as_set(gate: Gate) -> None:
    evidence, value, limit = UNWELL[gate]
    found = result(gate, evidence)
    assert found.state is (GateState.PAUSE if gate in PAUSING else GateState.WARN)
    assert found.value == pytest.approx(value, abs=1e-4)
    assert found.limit == limit
    assert result(gate, evidence, pause=()).state is GateState.WARN
    assert result(gate, evidence, pause=(gate,)).state is GateState.PAUSE


@pytest.mark.parametrize("gate", Gate)
def test_a_healthy_iteration_trips_no_gate(gate: Gate) -> None:
    found = result(gate, HEALTHY)
    assert found.state is GateState.OK
    assert found.value is not None and found.limit is not None


def test_the_figures_of_a_healthy_iteration() -> None:
    values = {found.gate: found.value for found in check(HEALTHY, GateSettings())}
    assert values[Gate.READABLE_SHARE] == 80 / 90
    assert values[Gate.ONE_SCORE_SHARE] == 4 / 10  # of 1 2 5 4 3 3 4 and 2 4 4
    assert values[Gate.TIE_SHARE] == 0
    assert values[Gate.SPREAD] == (3 + 2) / 2
    # by hand: means 1.5 4.5 3 4 (mean 3.25), lengths 40 90 70 60 (mean 65): squares 5.25 and 1300,
    # products 70; means 2 4 4, lengths 50 20 30: squares 8/3 and 1400/3, products −100/3
    assert values[Gate.LENGTH_CORRELATION] == pytest.approx(
        (70 - 100 / 3) / ((5.25 + 8 / 3) * (1300 + 1400 / 3)) ** 0.5
    )
    assert values[Gate.LENGTH_GROWTH] == 1.5
    assert values[Gate.JUDGE_ACCURACY] == 0.62


@pytest.mark.parametrize("gate", Gate)
def test_a_message_says_what_was_found_the_limit_and_settings_that_exist(gate: Gate) -> None:
    tripped, healthy = result(gate, UNWELL[gate][0]), result(gate, HEALTHY)
    for found in (tripped, healthy):
        assert found.value is not None
        shown = re.findall(r"-?\d+\.?\d*", found.message)
        assert any(float(f"{found.value * scale:.{places}f}") == float(number)
                   for number in shown for scale, places in ((100, 1), (1, 2)))  # fmt: skip
        named = set(re.findall(r"\b[a-z]+\.[a-z_]+\b", found.message))
        assert any(name.startswith("gates.") for name in named)
        assert named <= set(setting_names())
    assert len(tripped.message) > len(healthy.message), (
        "what to try is said only when there is something to do"
    )


def test_a_value_at_its_limit_is_ok() -> None:
    at_limits = GateSettings(
        min_readable_share=80 / 90,
        max_one_score_share=0.4,
        max_tie_share=0,
        min_spread=2.5,
        max_length_growth=1.5,
    )
    evidence = replace(HEALTHY, first_accuracy_low=0.62)
    assert {found.state for found in check(evidence, at_limits)} == {GateState.OK}


def test_gates_say_nothing_of_too_few_items() -> None:
    seven = replace(
        judged(*[prompt((9, (5,)), (1, ()))] * 6, prompt((9, (5,)))),
        judgements=7,
        readable=0,
        mean_length=None,
    )
    found = {
        each.gate: each for each in check(replace(seven, judge_accuracy=None), GateSettings(min_items=8))
    }
    assert {each.state for each in found.values()} == {GateState.SKIPPED}
    assert all(each.value is None and each.message.startswith("Not looked at:") for each in found.values())
    assert "7 judgements" in found[Gate.READABLE_SHARE].message
    assert "gates.min_items = 8" in found[Gate.READABLE_SHARE].message
    assert result(Gate.READABLE_SHARE, seven, min_items=7).state is GateState.PAUSE
    assert result(Gate.ONE_SCORE_SHARE, seven, min_items=7).state is GateState.PAUSE


def test_nothing_at_all_is_skipped_not_a_division_by_zero() -> None:
    nothing = Evidence(tally=Tally(), judgements=0, readable=0)
    states = {found.state for found in check(nothing, GateSettings(min_items=1))}
    assert states == {GateState.SKIPPED}


def test_m_1_is_not_compared_with_itself() -> None:
    first = replace(HEALTHY, is_first=True, mean_length=9000, judge_accuracy=0.1)
    for gate in (Gate.LENGTH_GROWTH, Gate.JUDGE_ACCURACY):
        assert result(gate, first).state is GateState.SKIPPED
    assert result(Gate.READABLE_SHARE, first).state is GateState.OK


def test_accuracy_can_be_left_alone_and_all_gates_can() -> None:
    evidence, *_ = UNWELL[Gate.JUDGE_ACCURACY]
    assert result(Gate.JUDGE_ACCURACY, evidence, judge_accuracy=False).state is GateState.SKIPPED
    assert check(evidence, GateSettings(enabled=False)) == []


def test_a_first_length_of_nothing_is_skipped() -> None:
    assert result(Gate.LENGTH_GROWTH, replace(HEALTHY, mean_length_first=0.0)).state is GateState.SKIPPED


def test_prompts_that_differ_in_length_and_score_are_no_correlation() -> None:
    """Long answers to one prompt and short ones to another: only what differs within a prompt counts."""
    short = prompt((10, (1,)), (11, (2,)), (10, (2,)), (11, (1,)))
    long = prompt((900, (4,)), (901, (5,)), (900, (5,)), (901, (4,)))
    found = result(Gate.LENGTH_CORRELATION, judged(*[short, long] * 8))
    assert found.value == pytest.approx(0, abs=1e-9)


def test_longer_that_is_worse_does_not_trip() -> None:
    found = result(Gate.LENGTH_CORRELATION, judged(*[prompt((300, (1,)), (100, (5,)))] * 8))
    assert found.value == pytest.approx(-1)
    assert found.state is GateState.OK


@pytest.mark.parametrize("scores", [((4,), (4,)), ((1.1, 2.2, 3.3), (3.3, 1.1, 2.2))])
def test_correlation_without_variation_is_skipped(scores: tuple[Sequence[float], Sequence[float]]) -> None:
    same = judged(*[prompt((10, scores[0]), (20, scores[1]))] * 9)
    assert result(Gate.LENGTH_CORRELATION, same).state is GateState.SKIPPED
    assert result(Gate.TIE_SHARE, same).value == 1


def test_of_two_commonest_scores_the_message_names_the_lower() -> None:
    for order in ((4, 2), (2, 4)):
        found = result(Gate.ONE_SCORE_SHARE, judged(*[prompt((1, order))] * 8))
        assert found.value == 0.5
        assert "are 2 " in found.message


def test_expected_scores_count_by_the_nearest_whole_one() -> None:
    found = result(Gate.ONE_SCORE_SHARE, judged(*[prompt((1, (3.6, 4.4, 4.49)), (1, (4.5,)))] * 8))
    assert found.value == 0.75
    assert "are 4 " in found.message


SCORES = st.lists(st.sampled_from([0.0, 1.0, 2.5, 4.1, 4.3, 5.0]), max_size=3)
PROMPTS = st.lists(
    st.lists(st.tuples(st.integers(0, 50), SCORES), max_size=5).map(lambda pairs: prompt(*pairs)), max_size=20
)


@given(PROMPTS, st.integers(0, 20), st.randoms(use_true_random=False))
def test_pages_and_order_do_not_matter(prompts: list[ScoredPrompt], cut: int, random: Random) -> None:
    shuffled = random.sample(prompts, len(prompts))
    paged = Tally()
    paged.add(shuffled[:cut])
    paged.add(shuffled[cut:])
    settings = GateSettings(min_items=1)
    for one, other in zip(
        check(judged(*prompts), settings), check(replace(HEALTHY, tally=paged), settings), strict=True
    ):
        assert one.value == pytest.approx(other.value, abs=1e-9)
        assert one.state == other.state or one.value == pytest.approx(one.limit)


@given(PROMPTS)
def test_shares_and_correlations_stay_in_their_bounds(prompts: list[ScoredPrompt]) -> None:
    values = {found.gate: found.value for found in check(judged(*prompts), GateSettings(min_items=1))}
    for gate, least, most in (
        (Gate.ONE_SCORE_SHARE, 0, 1),
        (Gate.TIE_SHARE, 0, 1),
        (Gate.SPREAD, 0, 5),
        (Gate.LENGTH_CORRELATION, -1, 1),
    ):
        value = values[gate]
        assert value is None or least - 1e-9 <= value <= most + 1e-9


def test_a_tally_of_many_prompts_is_no_larger_than_one_of_few() -> None:
    tally = Tally()
    tally.add(HEALTHY_PROMPTS)
    start()
    before, _ = get_traced_memory()
    for _ in range(200):
        tally.add(HEALTHY_PROMPTS)
    after, _ = get_traced_memory()
    stop()
    assert tally.prompts == 201 * len(HEALTHY_PROMPTS)
    assert after - before < 20_000
