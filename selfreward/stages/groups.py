"""All scored candidates of a prompt, beyond pairs: what RRHF ranks, and what sft_positive picks from."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from selfreward.pairing import takes_part
from selfreward.stages.judge import judge_of
from selfreward.stages.making import iterations
from selfreward.stages.workplace import Workplace
from selfreward.types import ScoredPrompt

PAGE = 250


def rank_rows(place: Workplace) -> Iterator[dict[str, Any]]:
    """Prompts with their candidates and mean scores, as RankJob has them.

    A prompt whose candidates all have one score says nothing of their order, and is left out.
    """
    for prompt in _scored(place):
        candidates = [
            {"candidate_id": candidate.id, "text": candidate.text, "score": _mean(candidate.scores)}
            for candidate in prompt.candidates
        ]
        if len({candidate["score"] for candidate in candidates}) > 1:
            yield {"prompt_id": prompt.id, "prompt": prompt.text, "candidates": candidates}


def positive_rows(place: Workplace) -> Iterator[dict[str, Any]]:
    """The answers whose mean score is at least `train.positive_score`, as SftJob has them."""
    for prompt in _scored(place):
        for candidate in prompt.candidates:
            if _mean(candidate.scores) >= place.settings.train.positive_score:
                yield {"example_id": candidate.id, "input": prompt.text, "completion": candidate.text}


def best_scores(place: Workplace) -> list[float]:
    """Mean scores of all answers that may be trained on, best first."""
    scored = (candidate.scores for prompt in _scored(place) for candidate in prompt.candidates)
    return sorted(map(_mean, scored), reverse=True)


def _mean(scores: tuple[float, ...]) -> float:
    """To a millionth: sums of the same scores in another order are the same."""
    return round(sum(scores) / len(scores), 6)


def _scored(place: Workplace) -> Iterator[ScoredPrompt]:
    """Prompts with the candidates that take part: those that a pair could have been drawn from."""
    for iteration in iterations(place):
        judge, after = judge_of(replace(place, iteration=iteration)), 0
        while prompts := place.store.pairs.undecided(iteration.data_iteration_id, judge, after, PAGE):
            yield from (_taking_part(place, prompt) for prompt in prompts)
            after = prompts[-1].id


def _taking_part(place: Workplace, prompt: ScoredPrompt) -> ScoredPrompt:
    able = (each for each in prompt.candidates if takes_part(each, place.settings.pair))
    return ScoredPrompt(id=prompt.id, text=prompt.text, candidates=tuple(able))
