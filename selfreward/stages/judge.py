"""M_t judges its own candidates 0–5 with the additive rubric (arXiv 2401.10020, section 2.2), K times."""

from collections.abc import Sequence

from selfreward.engines.base import ChatMessage, Engine, PromptTooLong
from selfreward.judging import GUIDED_REGEX, parse_score
from selfreward.prompting import load_template
from selfreward.stages.workplace import Workplace
from selfreward.types import (
    CandidateTask,
    Completion,
    JudgementStatus,
    NewJudgement,
    StageName,
    StageRow,
)

TEMPLATE_FIELDS = ("prompt", "response")


class Judge:
    """The work of the judge stage. A judgement that cannot be read is kept, with score NULL."""

    name = StageName.JUDGE

    def __init__(self, place: Workplace, stage: StageRow, engine: Engine, session_id: int) -> None:
        self._place, self._stage, self._engine, self._session_id = place, stage, engine, session_id
        self._settings = place.settings.judge
        self._template = load_template(self._settings.template, place.directory).require(TEMPLATE_FIELDS)
        self._regex = GUIDED_REGEX if self._settings.guided else None
        self.id = judge_id(place)

    def total(self) -> int:
        """Judgements of all the candidates that are wanted."""
        settings = self._place.settings
        return settings.self_instruct.target * settings.sample.candidates * self._settings.samples

    def done(self) -> int:
        """Judgements that are there."""
        return self._place.store.journal.counts(self._place.iteration)[self.name]

    def exhausted(self) -> bool:
        """Candidates come from the stage before."""
        return True

    def fetch(self, after: int, room: int) -> list[CandidateTask]:
        """Candidates short of K judgements."""
        return self._place.store.candidates.short_of_judgements(
            self._place.data_iteration, self.id, self._settings.samples, after, room
        )

    async def perform(self, item: CandidateTask) -> list[NewJudgement]:
        """The judgements that the candidate lacks, in one request that shares the prefill."""
        text = self._template.render(prompt=item.prompt_text, response=item.text)
        message: ChatMessage = {"role": "user", "content": text}
        try:
            replies = await self._engine.chat([message], self._settings, len(item.missing), regex=self._regex)
        except PromptTooLong:
            return [_unjudged(item, sample, JudgementStatus.TOO_LONG) for sample in item.missing]
        return [_judgement(item, sample, reply) for sample, reply in zip(item.missing, replies, strict=True)]

    def give_up(self, item: CandidateTask, error: str) -> list[NewJudgement]:
        """Judgements that could not be had."""
        return [_unjudged(item, sample, JudgementStatus.FAILED) for sample in item.missing]

    def commit(self, results: Sequence[NewJudgement], cursor: int) -> int:
        """Store judgements."""
        self._place.store.candidates.add_judgements(
            self.id, self._stage.id, self._session_id, results, cursor
        )
        return len(results)

    def detail(self) -> str:
        """How it ended."""
        total, read, mean = self._place.store.candidates.judged(self.id)
        share = f"{read / total:.0%}" if total else "none"
        average = "" if mean is None else f", mean score {mean:.2f}"
        return f"{total} judgements, {share} readable{average}"


def judge_id(place: Workplace) -> int:
    """The way of judging of this iteration, as a row: same settings, template and model, same id."""
    settings = place.settings.judge
    template = load_template(settings.template, place.directory)
    parameters = settings.model_dump(mode="json", exclude={"template", "samples"})
    return place.store.candidates.judge(
        place.checkpoint.id, "rubric", template.name, template.digest, parameters
    )


def _judgement(task: CandidateTask, sample: int, reply: Completion) -> NewJudgement:
    status, score = parse_score(reply.text)
    return NewJudgement(
        candidate_id=task.id,
        sample=sample,
        raw_text=reply.text,
        status=status,
        score=score,
        token_count=reply.token_count,
        finish_reason=reply.finish_reason,
    )


def _unjudged(task: CandidateTask, sample: int, status: JudgementStatus) -> NewJudgement:
    return NewJudgement(
        candidate_id=task.id,
        sample=sample,
        raw_text="",
        status=status,
        score=None,
        token_count=0,
        finish_reason="none",
    )
