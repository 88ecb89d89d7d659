"""Preference pairs: which are drawn, which are not and why, whatever the order of the candidates."""

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfreward.config import PairSettings
from selfreward.pair_rules import RULES
from selfreward.pairing import decide, draw_pairs
from selfreward.types import CandidateStatus, PairOutcome, ScoredCandidate, ScoredPrompt


def mean_score(scores: Sequence[float]) -> float:
    """Mean of the decimals as they were written, rounded once."""
    return float(sum(Fraction(str(score)) for score in scores) / len(scores))


BEST_WORST = PairSettings()
STATUSES = st.sampled_from(
    [CandidateStatus.OK, CandidateStatus.TRUNCATED, CandidateStatus.EMPTY, CandidateStatus.FAILED]
)


def candidate(id: int, *scores: float, text: str = "", **fields: object) -> ScoredCandidate:
    return ScoredCandidate(id=id, text=text or f"text {id}", scores=scores, **fields)  # type: ignore[arg-type]


def prompt(*candidates: ScoredCandidate) -> ScoredPrompt:
    return ScoredPrompt(id=9, text="a prompt", candidates=candidates)


def outcome(*candidates: ScoredCandidate, **fields: object) -> PairOutcome:
    return decide(prompt(*candidates), PairSettings(**fields)).outcome  # type: ignore[arg-type]


def drawn(*candidates: ScoredCandidate) -> tuple[int, int]:
    (pair,) = decide(prompt(*candidates), BEST_WORST).pairs
    return pair.chosen_id, pair.rejected_id


@st.composite
def prompts(draw: st.DrawFn) -> ScoredPrompt:
    score = st.one_of(st.integers(0, 5).map(float), st.sampled_from([4.1, 4.2, 0.1, 0.2, 0.3]))
    ids = draw(st.lists(st.integers(1, 99), unique=True, max_size=6))
    return prompt(
        *(
            ScoredCandidate(
                id=id,
                text=draw(st.sampled_from(["a", " a\n", "b", "c"])),
                scores=tuple(draw(st.lists(score, max_size=3))),
                status=draw(STATUSES),
            )
            for id in ids
        )
    )


SETTINGS = st.builds(
    PairSettings,
    min_scores=st.integers(1, 3),
    min_margin=st.sampled_from([0.0, 0.1, 1.0]),
    use_truncated=st.booleans(),
)


def test_highest_mean_against_lowest() -> None:
    decision = decide(
        prompt(candidate(1, 3, 3, 4), candidate(2, 5, 5, 4), candidate(3, 0, 1, 1), candidate(4, 5, 0, 5)),
        BEST_WORST,
    )
    (pair,) = decision.pairs
    assert decision.outcome == PairOutcome.PAIRED
    assert (pair.chosen_id, pair.rejected_id) == (2, 3)
    assert pair.chosen_score == mean_score([5, 5, 4])
    assert pair.rejected_score == mean_score([0, 1, 1])


def test_fewer_than_two_scored_candidates() -> None:
    assert outcome() == PairOutcome.UNSCORED
    assert outcome(candidate(1, 5)) == PairOutcome.UNSCORED
    assert outcome(candidate(1, 5), candidate(2)) == PairOutcome.UNSCORED
    assert outcome(candidate(1, 5, 5), candidate(2, 1), min_scores=2) == PairOutcome.UNSCORED
    assert outcome(candidate(1, 5, 5), candidate(2, 1, 1), min_scores=2) == PairOutcome.PAIRED


@pytest.mark.parametrize("status", [CandidateStatus.EMPTY, CandidateStatus.TOO_LONG, CandidateStatus.FAILED])
def test_candidates_without_text_take_no_part(status: CandidateStatus) -> None:
    assert outcome(candidate(1, 5), candidate(2, 1, status=status)) == PairOutcome.UNSCORED


def test_truncated_candidates_take_part_on_demand() -> None:
    both = candidate(1, 5), candidate(2, 1, status=CandidateStatus.TRUNCATED)
    assert outcome(*both, use_truncated=True) == PairOutcome.PAIRED
    assert outcome(*both, use_truncated=False) == PairOutcome.UNSCORED


def test_equal_means_are_a_tie_however_they_came_about() -> None:
    assert outcome(candidate(1, 4, 2), candidate(2, 3, 3)) == PairOutcome.TIE
    assert outcome(candidate(1, 0.1, 0.2, 0.3), candidate(2, 0.3, 0.2, 0.1)) == PairOutcome.TIE
    assert outcome(candidate(1, 0.1, 0.2), candidate(2, 0.0, 0.3)) == PairOutcome.TIE
    assert outcome(candidate(1, 4, 4, 5), candidate(2, *(4, 4, 5) * 2)) == PairOutcome.TIE


def test_twins_never_form_a_pair() -> None:
    assert outcome(candidate(1, 5, text="same"), candidate(2, 1, text=" same\n")) == PairOutcome.TWINS
    middle = candidate(3, 3, text="other")
    assert outcome(candidate(1, 5, text="same"), candidate(2, 1, text="same"), middle) == PairOutcome.TWINS


def test_lowest_ids_win_among_equals() -> None:
    assert drawn(candidate(4, 5), candidate(3, 5), candidate(2, 1), candidate(1, 1)) == (3, 1)


def test_an_equal_with_another_text_saves_the_pair() -> None:
    same = candidate(1, 5, text="same"), candidate(2, 1, text="same")
    assert drawn(*same, candidate(3, 1)) == (1, 3)
    assert drawn(*same, candidate(3, 5)) == (3, 2)
    assert drawn(*same, candidate(3, 1), candidate(4, 5)) == (1, 3)


def test_margin() -> None:
    close = candidate(1, 4), candidate(2, 3, 4)
    assert outcome(*close, min_margin=0.5) == PairOutcome.PAIRED
    assert outcome(*close, min_margin=0.51) == PairOutcome.BELOW_MARGIN
    assert outcome(candidate(1, 4.1), candidate(2, 4.0), min_margin=0.1) == PairOutcome.PAIRED
    thirds = candidate(1, 4, 4, 5), candidate(2, 4, 4, 4)
    assert outcome(*thirds, min_margin=0.33) == PairOutcome.PAIRED


def test_every_rule_of_the_settings_exists() -> None:
    assert set(RULES) == set(PairSettings.model_fields["rule"].annotation.__args__)  # type: ignore[union-attr]


def test_a_decision_tells_the_best_and_the_worst_score_of_those_that_took_part() -> None:
    thirds = candidate(1, 4, 4, 5), candidate(2, 1, 2, 3), candidate(3, 5)
    for fields, scores in (
        ({}, (5.0, 2.0)),
        ({"min_scores": 2}, (13 / 3, 2.0)),
        ({"min_scores": 3, "min_margin": 4}, (13 / 3, 2.0)),
        ({"min_scores": 4}, (None, None)),
    ):
        decision = decide(prompt(*thirds), PairSettings(**fields))  # type: ignore[arg-type]
        assert (decision.best_score, decision.worst_score) == scores
    tie = decide(prompt(candidate(1, 3), candidate(2, 3)), BEST_WORST)
    assert (tie.best_score, tie.worst_score) == (3.0, 3.0)


def test_one_decision_a_prompt_in_order() -> None:
    tie = prompt(candidate(1, 3), candidate(2, 3))
    good = replace(prompt(candidate(3, 3), candidate(4, 2)), id=4)
    decisions = draw_pairs(iter([tie, good, tie]), BEST_WORST)
    assert [(d.prompt_id, d.outcome) for d in decisions] == [
        (9, PairOutcome.TIE),
        (4, PairOutcome.PAIRED),
        (9, PairOutcome.TIE),
    ]


@given(prompts(), SETTINGS, st.randoms(use_true_random=False))
def test_the_order_of_candidates_and_scores_does_not_matter(
    given_prompt: ScoredPrompt, chosen_settings: PairSettings, draw: Random
) -> None:
    def shuffled(items: tuple) -> tuple:  # type: ignore[type-arg]
        return tuple(draw.sample(items, len(items)))

    other = replace(
        given_prompt,
        candidates=shuffled(
            tuple(replace(each, scores=shuffled(each.scores)) for each in given_prompt.candidates)
        ),
    )
    assert decide(other, chosen_settings) == decide(given_prompt, chosen_settings)


@given(prompts(), SETTINGS)
def test_a_pair_is_always_sound(given_prompt: ScoredPrompt, chosen_settings: PairSettings) -> None:
    decision = decide(given_prompt, chosen_settings)
    assert (decision.outcome == PairOutcome.PAIRED) == (len(decision.pairs) == 1)
    if not decision.pairs:
        return
    (pair,) = decision.pairs
    by_id = {each.id: each for each in given_prompt.candidates}
    chosen, rejected = by_id[pair.chosen_id], by_id[pair.rejected_id]
    assert chosen.text.strip() != rejected.text.strip()
    assert pair.chosen_score == mean_score(chosen.scores)
    assert pair.rejected_score == mean_score(rejected.scores)
    assert pair.margin > 0
    assert pair.margin >= chosen_settings.min_margin - 1e-9
    assert min(len(chosen.scores), len(rejected.scores)) >= chosen_settings.min_scores
