"""Which of a prompt's candidates are chosen and rejected. Deterministic: the order of candidates is nothing.

Scores are compared as exact fractions of the decimals they were written as. With floats, three scores
in another order could have another mean, and 4.1 − 4.0 would fall short of a margin of 0.1.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import product
from statistics import mean

from selfreward.config import PairSettings
from selfreward.types import (
    CandidateStatus,
    PairDecision,
    PairOutcome,
    PreferencePair,
    ScoredCandidate,
    ScoredPrompt,
)


@dataclass(frozen=True, kw_only=True)
class Ranked:
    """A candidate that takes part, with its exact mean score."""

    candidate: ScoredCandidate
    mean: Fraction


Rule = Callable[[ScoredPrompt, Sequence[Ranked], PairSettings], PairDecision]
"""Decides a prompt from its two or more eligible candidates, sorted by id."""


def draw_pairs(prompts: Iterable[ScoredPrompt], settings: PairSettings) -> list[PairDecision]:
    """One decision for every prompt, in the order given."""
    return [decide(prompt, settings) for prompt in prompts]


def decide(prompt: ScoredPrompt, settings: PairSettings) -> PairDecision:
    """The pair that `settings.rule` draws from this prompt, or why there is none.

    Candidates take part that ended well (or were cut off, if `use_truncated`) and have `min_scores`
    scores; with fewer than two of them the prompt is `unscored`.
    """
    eligible = [
        Ranked(candidate=candidate, mean=mean(Fraction(str(score)) for score in candidate.scores))
        for candidate in sorted(prompt.candidates, key=lambda candidate: candidate.id)
        if takes_part(candidate, settings)
    ]
    if len(eligible) < 2:
        return PairDecision(prompt_id=prompt.id, outcome=PairOutcome.UNSCORED)
    scores = [ranked.mean for ranked in eligible]
    decision = RULES[settings.rule](prompt, eligible, settings)
    return replace(decision, best_score=float(max(scores)), worst_score=float(min(scores)))


def takes_part(candidate: ScoredCandidate, settings: PairSettings) -> bool:
    """Whether a candidate ended well enough and has scores enough."""
    usable = {CandidateStatus.OK} | ({CandidateStatus.TRUNCATED} if settings.use_truncated else set())
    return candidate.status in usable and len(candidate.scores) >= max(1, settings.min_scores)


def _best_worst(prompt: ScoredPrompt, eligible: Sequence[Ranked], settings: PairSettings) -> PairDecision:
    """Highest mean against lowest (arXiv 2401.10020, section 2.4).

    Among several best or worst the lowest ids win: first that of the chosen, then that of the
    rejected, passing over combinations of the same text. If every combination is of one text, the
    judge contradicted itself and there is nothing to learn: `twins`.
    """
    highest = max(ranked.mean for ranked in eligible)
    lowest = min(ranked.mean for ranked in eligible)
    if highest == lowest:
        return PairDecision(prompt_id=prompt.id, outcome=PairOutcome.TIE)
    best = [ranked for ranked in eligible if ranked.mean == highest]
    worst = [ranked for ranked in eligible if ranked.mean == lowest]
    for chosen, rejected in product(best, worst):
        if chosen.candidate.text.strip() != rejected.candidate.text.strip():
            return _pair(prompt, chosen, rejected, settings)
    return PairDecision(prompt_id=prompt.id, outcome=PairOutcome.TWINS)


def _pair(prompt: ScoredPrompt, chosen: Ranked, rejected: Ranked, settings: PairSettings) -> PairDecision:
    if chosen.mean - rejected.mean < Fraction(str(settings.min_margin)):
        return PairDecision(prompt_id=prompt.id, outcome=PairOutcome.BELOW_MARGIN)
    pair = PreferencePair(
        prompt_id=prompt.id,
        chosen_id=chosen.candidate.id,
        rejected_id=rejected.candidate.id,
        chosen_score=float(chosen.mean),
        rejected_score=float(rejected.mean),
    )
    return PairDecision(prompt_id=prompt.id, outcome=PairOutcome.PAIRED, pairs=(pair,))


RULES: Mapping[str, Rule] = {"best_worst": _best_worst}
"""The rules that `pair.rule` can name."""
