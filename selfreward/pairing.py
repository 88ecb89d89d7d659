"""Which of a prompt's candidates are chosen and rejected. Deterministic: the order of candidates is nothing.

Scores are compared as exact fractions of the decimals they were written as. With floats, three scores
in another order could have another mean, and 4.1 − 4.0 would fall short of a margin of 0.1.
"""

import math
from collections.abc import Iterable, Sequence
from fractions import Fraction
from statistics import mean

from selfreward.config import PairSettings
from selfreward.pair_rules import ANCHORED, RULES, Drawn, Ranked
from selfreward.types import (
    CandidateStatus,
    PairDecision,
    PairOutcome,
    PreferencePair,
    ScoredCandidate,
    ScoredPrompt,
)


def draw_pairs(prompts: Iterable[ScoredPrompt], settings: PairSettings) -> list[PairDecision]:
    """One decision for every prompt, in the order given."""
    return [decide(prompt, settings) for prompt in prompts]


def decide(prompt: ScoredPrompt, settings: PairSettings) -> PairDecision:
    """The pairs that `settings.rule` draws from this prompt, or why there are none.

    With fewer than two candidates that take part, or none on either side of an anchored pair, the prompt
    is `unscored`. Best and worst score are those of M_t's own candidates.
    """
    own = _ranked((each for each in prompt.candidates if not each.anchor), settings)
    anchors = _ranked((each for each in prompt.candidates if each.anchor), settings)
    enough = own and anchors if settings.rule == ANCHORED else len(own) > 1
    if not enough:
        return PairDecision(prompt_id=prompt.id, outcome=PairOutcome.UNSCORED)
    found = RULES[settings.rule](own, anchors, settings)
    scores = [ranked.mean for ranked in own]
    drawn = () if isinstance(found, PairOutcome) else found
    return PairDecision(
        prompt_id=prompt.id,
        outcome=found if isinstance(found, PairOutcome) else PairOutcome.PAIRED,
        pairs=tuple(_pair(prompt, each, settings) for each in drawn),
        best_score=float(max(scores)),
        worst_score=float(min(scores)),
    )


def takes_part(candidate: ScoredCandidate, settings: PairSettings) -> bool:
    """Whether one of M_t's own candidates can be learned from.

    It ended well (or was cut off, if `use_truncated`) and has `min_scores` scores. Anchors never do.
    """
    return not candidate.anchor and _is_scored(candidate, settings)


def _is_scored(candidate: ScoredCandidate, settings: PairSettings) -> bool:
    usable = {CandidateStatus.OK} | ({CandidateStatus.TRUNCATED} if settings.use_truncated else set())
    return candidate.status in usable and len(candidate.scores) >= max(1, settings.min_scores)


def _ranked(candidates: Iterable[ScoredCandidate], settings: PairSettings) -> Sequence[Ranked]:
    """Those that take part, by id."""
    return [
        Ranked(candidate=candidate, mean=mean(Fraction(str(score)) for score in candidate.scores))
        for candidate in sorted(candidates, key=lambda candidate: candidate.id)
        if _is_scored(candidate, settings)
    ]


def _pair(prompt: ScoredPrompt, drawn: Drawn, settings: PairSettings) -> PreferencePair:
    chosen, rejected = drawn
    return PreferencePair(
        prompt_id=prompt.id,
        chosen_id=chosen.candidate.id,
        rejected_id=rejected.candidate.id,
        chosen_score=float(chosen.mean),
        rejected_score=float(rejected.mean),
        soft_label=_soft_label(prompt, drawn) if settings.soft_labels else None,
    )


def _soft_label(prompt: ScoredPrompt, drawn: Drawn) -> float | None:
    """P(chosen is better) as the judge has it: what it said of these two, or σ of their rewards' difference.

    RLAIF's soft preferences (arXiv 2309.00267, section 2.1.2), and Bradley and Terry's of a reward model.
    """
    chosen, rejected = (each.candidate for each in drawn)
    low, high = sorted((chosen.id, rejected.id))
    preference = prompt.preferences.get((low, high))
    if preference is not None:
        return preference if low == chosen.id else 1 - preference
    if chosen.reward is None or rejected.reward is None:
        return None
    return _sigmoid(chosen.reward - rejected.reward)


def _sigmoid(x: float) -> float:
    """1 / (1 + e^−x), without an overflow for large negative x."""
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))
