"""M_t answers each prompt N times, all N in one request so that they share the prefill."""

from collections.abc import Sequence

from selfreward.engines.base import ChatMessage, Engine, PromptTooLong
from selfreward.stages.workplace import Workplace
from selfreward.types import CandidateStatus, Completion, NewCandidate, PromptRow, StageName, StageRow


class Sample:
    """The work of the sample stage."""

    name = StageName.SAMPLE

    def __init__(self, place: Workplace, stage: StageRow, engine: Engine, session_id: int) -> None:
        self._place, self._stage, self._engine, self._session_id = place, stage, engine, session_id
        self._settings = place.settings.sample

    def total(self) -> int:
        """Candidates of all the prompts that are wanted."""
        return self._place.settings.self_instruct.target * self._settings.candidates

    def done(self) -> int:
        """Candidates that are there."""
        return self._place.store.journal.count(self._place.iteration, self.name)

    def exhausted(self) -> bool:
        """Prompts come from the stage before."""
        return True

    def fetch(self, after: int, room: int) -> list[PromptRow]:
        """Accepted prompts short of N candidates."""
        return self._place.store.prompts.short_of_candidates(
            self._place.data_iteration, self._settings.candidates, after, room
        )

    async def perform(self, item: PromptRow) -> list[NewCandidate]:
        """The candidates that the prompt lacks."""
        message: ChatMessage = {"role": "user", "content": item.text}
        try:
            replies = await self._engine.chat([message], self._settings, len(item.missing))
        except PromptTooLong:
            return [unanswered(item, index, CandidateStatus.TOO_LONG) for index in item.missing]
        return [answered(item, index, reply) for index, reply in zip(item.missing, replies, strict=True)]

    def give_up(self, item: PromptRow, error: str) -> list[NewCandidate]:
        """Candidates that could not be had."""
        return [unanswered(item, index, CandidateStatus.FAILED) for index in item.missing]

    def commit(self, results: Sequence[NewCandidate], cursor: int) -> int:
        """Store candidates."""
        self._place.store.candidates.add(
            self._place.data_iteration, self._stage.id, self._session_id, results, cursor
        )
        return len(results)

    def detail(self) -> str:
        """How it ended."""
        statuses = self._place.store.candidates.statuses(self._place.data_iteration)
        return f"{sum(statuses.values())} candidates ({_listed(statuses)})"


def answered(prompt: PromptRow, index: int, reply: Completion) -> NewCandidate:
    """The row of an answer: empty, cut off or fine."""
    if not reply.text.strip():
        status = CandidateStatus.EMPTY
    elif reply.finish_reason == "length":
        status = CandidateStatus.TRUNCATED
    else:
        status = CandidateStatus.OK
    return NewCandidate(
        prompt_id=prompt.id,
        index=index,
        text=reply.text,
        status=status,
        finish_reason=reply.finish_reason,
        token_count=reply.token_count,
        mean_logprob=reply.mean_logprob,
    )


def unanswered(prompt: PromptRow, index: int, status: CandidateStatus) -> NewCandidate:
    """The row of an answer that could not be had."""
    return NewCandidate(
        prompt_id=prompt.id,
        index=index,
        text="",
        status=status,
        finish_reason="none",
        token_count=0,
        mean_logprob=None,
    )


def _listed(statuses: dict[str, int]) -> str:
    return ", ".join(f"{count} {status}" for status, count in sorted(statuses.items())) or "none"
