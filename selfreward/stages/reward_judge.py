"""A reward model judges M_t's candidates: score = 5·σ(reward), one judgement an answer (arXiv 2309.00267)."""

import math
from collections.abc import Sequence

from selfreward.config import JudgeSettings
from selfreward.stages.reward_models import look_up
from selfreward.stages.reward_scorer import RewardScorer, Scored
from selfreward.stages.workplace import Workplace
from selfreward.text import digest
from selfreward.types import CandidateTask, JudgementStatus, NewJudgement, StageName, StageRow

BEST = 5.0
SCORED = "scored"
"""Finish reason of a judgement that was computed, not written."""


class RewardJudge:
    """The work of a stage in which candidates are judged by a reward model, which `scorer` asks."""

    def __init__(
        self, place: Workplace, stage: StageRow, scorer: RewardScorer, session_id: int | None = None
    ) -> None:
        self.name = stage.name
        self._place, self._stage, self._scorer = place, stage, scorer
        self.id = judge_id(place)

    def total(self) -> int:
        """Judgements of all the candidates that are wanted."""
        settings = self._place.settings
        return settings.self_instruct.target * settings.sample.candidates

    def done(self) -> int:
        """Judgements that are there."""
        return self._place.store.candidates.judgement_count(self._place.data_iteration, self.id)

    def exhausted(self) -> bool:
        """Candidates come from the stage before."""
        return True

    def fetch(self, after: int, room: int) -> list[CandidateTask]:
        """Candidates without a reward."""
        return self._place.store.candidates.short_of_judgements(
            self._place.data_iteration, self.id, 1, after, room, self.name is StageName.JUDGE_ANCHOR
        )

    async def perform(self, item: CandidateTask) -> list[NewJudgement]:
        """The reward of the candidate."""
        scored = await self._scorer.score(item.prompt_text, item.text)
        return [_judgement(item.id, scored)]

    def give_up(self, item: CandidateTask, error: str) -> list[NewJudgement]:
        """A reward that could not be had."""
        return [_without(item.id, JudgementStatus.FAILED)]

    def commit(self, results: Sequence[NewJudgement], cursor: int) -> int:
        """Store rewards and scores. The engine's session has no part in them."""
        self._place.store.candidates.add_judgements(self.id, self._stage.id, None, results, cursor)
        return len(results)

    def detail(self) -> str:
        """How it ended."""
        total, read, mean = self._place.store.candidates.judged(self._place.data_iteration, self.id)
        share = f"{read / total:.0%}" if total else "none"
        average = "" if mean is None else f", mean score {mean:.2f}"
        return f"{total} rewards by {self._scorer.model.name}, {share} readable{average}"


def judge_id(place: Workplace, settings: JudgeSettings | None = None) -> int:
    """The reward model as a judge's row: R_t by its checkpoint, any other by its name and digest."""
    found = look_up(place, (settings or place.settings.judge).reward_model)
    checkpoint = None if found.checkpoint is None else found.checkpoint.id
    parameters = {"reward_model": found.name, "digest": found.digest}
    return place.store.candidates.judge(checkpoint, "reward_model", "", digest(""), parameters)


def score_of(reward: float) -> float:
    """5·σ(reward): any number as a score from 0 to 5, in the same order."""
    if reward >= 0:
        return BEST / (1 + math.exp(-reward))
    odds = math.exp(reward)  # underflows to 0 where exp(-reward) would overflow
    return BEST * odds / (1 + odds)


def _judgement(candidate_id: int, scored: Scored) -> NewJudgement:
    if scored.reward is None:
        status = JudgementStatus.UNREADABLE if scored.fits else JudgementStatus.TOO_LONG
        return _without(candidate_id, status)
    return NewJudgement(
        candidate_id=candidate_id,
        sample=0,
        raw_text=f"Reward: {scored.reward:.4f}",
        status=JudgementStatus.READ,
        score=score_of(scored.reward),
        reward=scored.reward,
        token_count=0,
        finish_reason=SCORED,
    )


def _without(candidate_id: int, status: JudgementStatus) -> NewJudgement:
    return NewJudgement(
        candidate_id=candidate_id,
        sample=0,
        raw_text="",
        status=status,
        score=None,
        token_count=0,
        finish_reason="none",
    )
