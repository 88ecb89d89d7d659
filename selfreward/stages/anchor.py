"""Anchored pairs: answers of an earlier model, to be the rejected ones (Temporal Self-Rewarding, 2508.06026).

As the model gets better, its worst answer comes ever closer to its best, and a pair of the two teaches ever
less. An earlier model's answer stays behind. M_1 has no earlier model that was taught to answer: its pairs
are drawn by best_worst. The earlier model works in `stages.earlier`.
"""

from collections.abc import Sequence
from typing import Any

from selfreward.config import PairSettings
from selfreward.engines.base import ChatMessage, Engine, PromptTooLong
from selfreward.stages.consistency import previous
from selfreward.stages.judge import judge_of
from selfreward.stages.pump import Work
from selfreward.stages.sample import answered, unanswered
from selfreward.stages.workplace import Workplace
from selfreward.types import CandidateStatus, CheckpointRow, NewCandidate, PromptRow, StageName, StageRow

ANCHORED, OTHERWISE = "anchored", "best_worst"


def wanted(place: Workplace) -> bool:
    """Whether the pair rule needs an earlier model's answers."""
    return place.settings.pair.rule == ANCHORED


def anchor_of(place: Workplace) -> CheckpointRow | None:
    """The earlier model that `pair.anchor` names; None for M_1, which comes first."""
    if place.checkpoint.version <= 1:
        return None
    if place.settings.pair.anchor == "first":
        return place.store.runs.checkpoint(place.run.id, 1)
    return previous(place)


def pair_settings(place: Workplace) -> PairSettings:
    """The settings to draw pairs by: where there is no anchor, best_worst."""
    if wanted(place) and anchor_of(place) is None:
        return place.settings.pair.model_copy(update={"rule": OTHERWISE})
    return place.settings.pair


class AnswerAsAnchor:
    """The work of answering the iteration's prompts once more, with an earlier model: `place.checkpoint`."""

    name = StageName.ANCHOR

    def __init__(self, place: Workplace, stage: StageRow, engine: Engine, session_id: int) -> None:
        self._place, self._stage, self._engine, self._session_id = place, stage, engine, session_id
        self._wanted = place.settings.pair.anchors

    def total(self) -> int:
        """Answers to all accepted prompts."""
        prompts = self._place.store.journal.count(self._place.iteration, StageName.SELF_INSTRUCT)
        return prompts * self._wanted

    def done(self) -> int:
        """Answers that are there."""
        return self._place.store.anchors.count(self._place.data_iteration, self._place.checkpoint.id)

    def exhausted(self) -> bool:
        """The prompts are all there from the start."""
        return True

    def fetch(self, after: int, room: int) -> list[PromptRow]:
        """Accepted prompts that this model has not answered often enough."""
        return self._place.store.anchors.short(
            self._place.data_iteration, self._place.checkpoint.id, self._wanted, after, room
        )

    async def perform(self, item: PromptRow) -> list[NewCandidate]:
        """The answers that the prompt lacks, sampled as M_t's are."""
        message: ChatMessage = {"role": "user", "content": item.text}
        try:
            replies = await self._engine.chat([message], self._place.settings.sample, len(item.missing))
        except PromptTooLong:
            return [unanswered(item, index, CandidateStatus.TOO_LONG) for index in item.missing]
        return [answered(item, index, reply) for index, reply in zip(item.missing, replies, strict=True)]

    def give_up(self, item: PromptRow, error: str) -> list[NewCandidate]:
        """Answers that could not be had."""
        return [unanswered(item, index, CandidateStatus.FAILED) for index in item.missing]

    def commit(self, results: Sequence[NewCandidate], cursor: int) -> int:
        """Store answers."""
        self._place.store.anchors.add(
            self._place.data_iteration,
            self._place.checkpoint.id,
            self._stage.id,
            self._session_id,
            results,
            cursor,
        )
        return len(results)

    def detail(self) -> str:
        """How it ended."""
        return f"{self.done()} answers of {self._place.checkpoint.name}"


class JudgeAnchors:
    """The work of judging those answers: the judge's own work, with figures of the anchors alone."""

    name = StageName.JUDGE_ANCHOR

    def __init__(self, place: Workplace, work: Work[Any, Any]) -> None:
        self._place = place
        self.fetch, self.exhausted, self.perform = work.fetch, work.exhausted, work.perform
        self.give_up, self.commit = work.give_up, work.commit

    def total(self) -> int:
        """Judgements of all the anchors that are there."""
        anchors = self._place.store.journal.count(self._place.iteration, StageName.ANCHOR)
        return anchors * self._place.settings.judge.wanted

    def done(self) -> int:
        """Judgements that are there."""
        return self._place.store.journal.count(self._place.iteration, self.name)

    def detail(self) -> str:
        """How it ended."""
        return describe_judged(self._place)


def describe_judged(place: Workplace) -> str:
    """What the judge made of the anchors, in words."""
    count, mean = place.store.anchors.judged(place.data_iteration, judge_of(place))
    return f"{count} judgements" + ("" if mean is None else f", mean score {mean:.2f}")
