"""What a checkpoint does with held-out seeds: answer prompts, judge ranked replies, compare answers."""

from collections.abc import Awaitable, Callable, Sequence

from selfreward.config import JudgeSettings
from selfreward.engines.base import ChatMessage, Engine, NotOneToken, PromptTooLong
from selfreward.judging import parse_verdict
from selfreward.prompting import PromptTemplate
from selfreward.stages.judge import Reading, RubricJudge, judge_id, rubric, unjudged
from selfreward.stages.sample import answered, unanswered
from selfreward.stages.workplace import Workplace
from selfreward.types import (
    CandidateStatus,
    CandidateTask,
    ComparisonTask,
    JudgementStatus,
    NewCandidate,
    NewComparison,
    NewReplyJudgement,
    PromptRow,
    StageRow,
    Verdict,
)

COMPARE_FIELDS = ("prompt", "first", "second")
COMPARE_STEM = "Better response: "
VERDICTS = ("1", "2")
Ask = Callable[[str], Awaitable[tuple[Verdict | None, float | None, str]]]
"""A filled-in comparison → (verdict, P(first) against P(second), what was written)."""


class AnswerPrompts:
    """The work of answering held-out prompts, once each."""

    def __init__(
        self, place: Workplace, stage: StageRow, engine: Engine, session_id: int, prompt_ids: Sequence[int]
    ) -> None:
        self.name = stage.name
        self._place, self._stage, self._engine = place, stage, engine
        self._session_id, self._prompt_ids = session_id, prompt_ids

    def total(self) -> int:
        """Answers wanted."""
        return len(self._prompt_ids)

    def done(self) -> int:
        """Answers that are there."""
        return len(self._place.store.answers.of(self._place.checkpoint.id, self._prompt_ids))

    def exhausted(self) -> bool:
        """The prompts are all there from the start."""
        return True

    def fetch(self, after: int, room: int) -> list[PromptRow]:
        """Prompts without an answer."""
        return self._place.store.answers.missing(self._place.checkpoint.id, self._prompt_ids, after, room)

    async def perform(self, item: PromptRow) -> list[NewCandidate]:
        """The answer."""
        message: ChatMessage = {"role": "user", "content": item.text}
        try:
            replies = await self._engine.chat([message], self._place.settings.evaluation, 1)
        except PromptTooLong:
            return [unanswered(item, 0, CandidateStatus.TOO_LONG)]
        return [answered(item, 0, reply) for reply in replies]

    def give_up(self, item: PromptRow, error: str) -> list[NewCandidate]:
        """An answer that could not be had."""
        return [unanswered(item, 0, CandidateStatus.FAILED)]

    def commit(self, results: Sequence[NewCandidate], cursor: int) -> int:
        """Store answers."""
        self._place.store.answers.add(
            self._place.checkpoint.id, self._stage.id, self._session_id, results, cursor
        )
        return len(results)

    def detail(self) -> str:
        """How it ended."""
        return f"{self.done()} answers"


class JudgeReplies:
    """The work of judging ranked replies, canaries among them, as free text whatever the loop's format."""

    def __init__(
        self,
        place: Workplace,
        stage: StageRow,
        engine: Engine,
        session_id: int,
        prompt_ids: Sequence[int],
        settings: JudgeSettings,
    ) -> None:
        self.name = stage.name
        self._place, self._stage, self._session_id = place, stage, session_id
        self._prompt_ids, self._wanted = prompt_ids, settings.wanted
        self._judge = RubricJudge(rubric(settings, place.directory), settings, engine)
        self.id = judge_id(place, settings)

    def total(self) -> int:
        """Judgements wanted."""
        return self._place.store.replies.count(self._prompt_ids) * self._wanted

    def done(self) -> int:
        """Judgements that are there."""
        return self._place.store.replies.judgement_count(self.id, self._prompt_ids)

    def exhausted(self) -> bool:
        """The replies are all there from the start."""
        return True

    def fetch(self, after: int, room: int) -> list[CandidateTask]:
        """Replies short of judgements."""
        return self._place.store.replies.short_of_judgements(
            self._prompt_ids, self.id, self._wanted, after, room
        )

    async def perform(self, item: CandidateTask) -> list[NewReplyJudgement]:
        """The judgements that the reply lacks."""
        readings = await self._judge.judge(item.prompt_text, item.text, item.missing)
        return [_judgement(item, reading) for reading in readings]

    def give_up(self, item: CandidateTask, error: str) -> list[NewReplyJudgement]:
        """Judgements that could not be had."""
        return [_judgement(item, reading) for reading in unjudged(item.missing, JudgementStatus.FAILED)]

    def commit(self, results: Sequence[NewReplyJudgement], cursor: int) -> int:
        """Store judgements."""
        self._place.store.replies.add_judgements(self.id, self._stage.id, self._session_id, results, cursor)
        return len(results)

    def detail(self) -> str:
        """How it ended."""
        replies = self._place.store.replies.judged(self.id, self._prompt_ids)
        asked, read = sum(reply.samples for reply in replies), sum(len(reply.scores) for reply in replies)
        return f"{asked} judgements, {read / asked:.0%} readable" if asked else "no ranked replies"


class CompareAnswers:
    """The work of comparing a checkpoint's answers with its opponents', each pair in both orders."""

    def __init__(
        self,
        place: Workplace,
        stage: StageRow,
        ask: Ask,
        template: PromptTemplate,
        judge: int,
        opponents: Sequence[int],
        prompt_ids: Sequence[int],
        session_id: int | None,
    ) -> None:
        self.name = stage.name
        self._place, self._stage, self._ask, self._template = place, stage, ask, template
        self._judge, self._opponents, self._prompt_ids = judge, opponents, prompt_ids
        self._session_id = session_id

    def total(self) -> int:
        """Comparisons wanted."""
        return 2 * len(self._opponents) * len(self._prompt_ids)

    def done(self) -> int:
        """Comparisons that are there."""
        return self._place.store.answers.comparison_count(self._judge, self._place.checkpoint.id)

    def exhausted(self) -> bool:
        """Answers come from the stage before."""
        return True

    def fetch(self, after: int, room: int) -> list[ComparisonTask]:
        """Answers, with the orders that are missing."""
        checkpoint = self._place.checkpoint.id
        return self._place.store.answers.uncompared(
            self._judge, checkpoint, self._opponents, self._prompt_ids, after, room
        )

    async def perform(self, item: ComparisonTask) -> list[NewComparison]:
        """What is missing, one order after the other: the next one finds its prefix cached."""
        return [await self._compare(item, first, second) for first, second in item.missing]

    async def _compare(self, item: ComparisonTask, first: int, second: int) -> NewComparison:
        text = self._template.render(
            prompt=item.prompt_text, first=item.texts[first], second=item.texts[second]
        )
        try:
            verdict, probability, written = await self._ask(text)
        except PromptTooLong:
            verdict, probability, written = None, None, ""
        return NewComparison(
            first_id=first, second_id=second, verdict=verdict, probability_first=probability, raw_text=written
        )

    def give_up(self, item: ComparisonTask, error: str) -> list[NewComparison]:
        """Comparisons that could not be had."""
        return [
            NewComparison(first_id=first, second_id=second, verdict=None, probability_first=None, raw_text="")
            for first, second in item.missing
        ]

    def commit(self, results: Sequence[NewComparison], cursor: int) -> int:
        """Store comparisons."""
        self._place.store.answers.add_comparisons(
            self._judge, self._stage.id, self._session_id, results, cursor
        )
        return len(results)

    def detail(self) -> str:
        """How it ended."""
        return f"{self.done()} comparisons"


def by_choice(engine: Engine, otherwise: Ask) -> Ask:
    """Asks how likely "1" and "2" are as the verdict: always readable, one token each.

    `otherwise` is asked where the tokenizer does not have them as one token.
    """

    async def ask(text: str) -> tuple[Verdict | None, float | None, str]:
        message: ChatMessage = {"role": "user", "content": text}
        try:
            choice = await engine.choose([message], COMPARE_STEM, VERDICTS)
        except NotOneToken:
            return await otherwise(text)
        first, second = choice.probabilities
        if first == second:
            return None, None, ""
        verdict = Verdict.FIRST if first > second else Verdict.SECOND
        return verdict, first / (first + second), ""

    return ask


def by_reply(engine: Engine, place: Workplace) -> Ask:
    """Asks for a written verdict, which any endpoint can give."""
    sampling = place.settings.evaluation.model_copy(update={"temperature": 0.0, "top_k": 0, "max_tokens": 32})

    async def ask(text: str) -> tuple[Verdict | None, float | None, str]:
        message: ChatMessage = {"role": "user", "content": text}
        [reply] = await engine.chat([message], sampling, 1)
        return parse_verdict(reply.text), None, reply.text

    return ask


def _judgement(task: CandidateTask, reading: Reading) -> NewReplyJudgement:
    return NewReplyJudgement(
        reply_id=task.id,
        sample=reading.sample,
        raw_text=reading.raw_text,
        status=reading.status,
        score=reading.score,
        token_count=reading.token_count,
        finish_reason=reading.finish_reason,
        probabilities=reading.probabilities,
    )
