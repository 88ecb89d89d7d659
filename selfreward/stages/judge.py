"""Judging candidates: with the additive rubric (arXiv 2401.10020, section 2.2), K times, or otherwise."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from selfreward.config import EndpointSettings, JudgeSettings
from selfreward.engines.base import ChatMessage, Engine, NotOneToken, PromptTooLong
from selfreward.judging import SCALES, SCORE_STEM, Scale, expected_score
from selfreward.prompting import PromptTemplate, load_template
from selfreward.stages.pump import Work
from selfreward.stages.workplace import Workplace
from selfreward.types import (
    CandidateTask,
    Choice,
    Completion,
    JudgementStatus,
    NewJudgement,
    StageName,
    StageRow,
)

TEMPLATE_FIELDS = ("prompt", "response")
DRAWN = ("temperature", "top_p", "top_k", "max_tokens")
FORM = ("score", "scale", "guided")
ASKED = "choice"
"""Finish reason of a judgement that was asked for, not written."""


@dataclass(frozen=True, kw_only=True)
class Reading:
    """One judgement of one response, whatever table it goes to."""

    sample: int
    raw_text: str
    """What the judge wrote. With `judge.score = "direct"`, where it writes nothing: the score it was
    found to give as "Score: 3.42", empty when that is unreadable."""
    status: JudgementStatus
    score: float | None
    probabilities: tuple[float, ...] | None = None
    """P(0) … P(5) at the place of the score; None where the score was sampled, or not got as far as."""
    token_count: int
    finish_reason: str


def rubric(settings: JudgeSettings, directory: Path) -> PromptTemplate:
    """The rubric's template. Raises BadInput when it lacks the prompt or the response."""
    return load_template(settings.template, directory).require(TEMPLATE_FIELDS)


def unjudged(samples: Sequence[int], status: JudgementStatus) -> list[Reading]:
    """Judgements that could not be had."""
    return [
        Reading(sample=sample, raw_text="", status=status, score=None, token_count=0, finish_reason="none")
        for sample in samples
    ]


class RubricJudge:
    """Judges a response to a prompt with `settings.score`'s way of coming to a number.

    `sampled` takes the number that the judge wrote. `expected` takes Σ s·P(s) at the place where it
    wrote one, after its own justification; what cannot be read stays unreadable. `direct` takes Σ s·P(s)
    of a reply that begins with its verdict. The probabilities are the model's own: the sampling
    temperature has no part in them.
    """

    def __init__(self, template: PromptTemplate, settings: JudgeSettings, engine: Engine) -> None:
        self._template, self._settings, self._engine = template, settings, engine
        self._scale = SCALES[settings.scale]
        self._regex = self._scale.regex if settings.guided else None

    async def judge(self, prompt: str, response: str, samples: Sequence[int]) -> list[Reading]:
        """A judgement for each of `samples`, in one request that shares the prefill.

        Raises RequestFailed, NotOneToken or EngineError as the engine does; a prompt that is too long
        is a judgement of its own.
        """
        text = self._template.render(prompt=prompt, response=response)
        message: ChatMessage = {"role": "user", "content": text}
        try:
            if self._settings.score == "direct":
                return await self._ask(message, samples)
            return await self._write(message, samples)
        except PromptTooLong:
            return unjudged(samples, JudgementStatus.TOO_LONG)

    async def _ask(self, message: ChatMessage, samples: Sequence[int]) -> list[Reading]:
        choice = await self._choose(message, self._scale.stem)
        return [_asked(sample, choice) for sample in samples]

    async def _write(self, message: ChatMessage, samples: Sequence[int]) -> list[Reading]:
        replies = await self._engine.chat([message], self._settings, len(samples), regex=self._regex)
        pairs = zip(samples, replies, strict=True)
        if self._settings.score == "sampled":
            return [_written(self._scale, sample, reply) for sample, reply in pairs]
        return await asyncio.gather(*(self._expect(message, sample, reply) for sample, reply in pairs))

    async def _expect(self, message: ChatMessage, sample: int, reply: Completion) -> Reading:
        stem = self._scale.split(reply.text)
        if stem is None:
            return _written(self._scale, sample, reply)
        try:
            choice = await self._choose(message, stem)
        except NotOneToken:  # an odd spelling of the label; with the usual one it is the tokenizer's fault
            choice = await self._choose(message, f"{stem.rstrip()}\n{self._scale.stem}".lstrip("\n"))
        return _written(self._scale, sample, reply, choice)

    async def _choose(self, message: ChatMessage, stem: str) -> Choice:
        """P(0) … P(5) of a reply that has begun with `stem`."""
        return self._scale.spread(await self._engine.choose([message], stem, self._scale.choices))


class Judge:
    """Scores each candidate by the rubric. A judgement that cannot be read is kept, with score NULL."""

    def __init__(self, place: Workplace, stage: StageRow, engine: Engine, session_id: int | None) -> None:
        self.name = stage.name
        self._place, self._stage, self._session_id = place, stage, session_id
        settings = place.settings.judge
        self._judge = RubricJudge(rubric(settings, place.directory), settings, engine)
        self._wanted = settings.wanted
        self._anchors = stage.name is StageName.JUDGE_ANCHOR
        self.id = judge_id(place)

    def total(self) -> int:
        """Judgements of all the candidates that are wanted."""
        settings = self._place.settings
        return settings.self_instruct.target * settings.sample.candidates * self._wanted

    def done(self) -> int:
        """Judgements that are there."""
        return self._place.store.candidates.judgement_count(self._place.data_iteration, self.id)

    def exhausted(self) -> bool:
        """Candidates come from the stage before."""
        return True

    def fetch(self, after: int, room: int) -> list[CandidateTask]:
        """Candidates short of K judgements."""
        return self._place.store.candidates.short_of_judgements(
            self._place.data_iteration, self.id, self._wanted, after, room, self._anchors
        )

    async def perform(self, item: CandidateTask) -> list[NewJudgement]:
        """The judgements that the candidate lacks."""
        readings = await self._judge.judge(item.prompt_text, item.text, item.missing)
        return [_judgement(item, reading) for reading in readings]

    def give_up(self, item: CandidateTask, error: str) -> list[NewJudgement]:
        """Judgements that could not be had."""
        return [_judgement(item, reading) for reading in unjudged(item.missing, JudgementStatus.FAILED)]

    def commit(self, results: Sequence[NewJudgement], cursor: int) -> int:
        """Store judgements."""
        self._place.store.candidates.add_judgements(
            self.id, self._stage.id, self._session_id, results, cursor
        )
        return len(results)

    def detail(self) -> str:
        """How it ended."""
        total, read, mean = self._place.store.candidates.judged(self._place.data_iteration, self.id)
        share = f"{read / total:.0%}" if total else "none"
        average = "" if mean is None else f", mean score {mean:.2f}"
        return f"{total} judgements, {share} readable{average}"


def judge_work(place: Workplace, stage: StageRow, judge: Any, session_id: int | None) -> Work[Any, Any]:
    """The work of a stage in which candidates are judged the way `judge.type` says.

    `judge` is M_t's engine, or who judges in its place as `stages.endpoints` has it: the engine of an
    endpoint, or a RewardScorer. `session_id` is M_t's session; no row of another's work names it.
    """
    settings = place.settings.judge
    session_id = None if settings.endpoint.url else session_id
    if stage.name is StageName.JUDGE:
        place.store.runs.set_judge(place.iteration.id, judge_id(place))
    if settings.type == "pairwise":
        from selfreward.stages.pairwise import PairwiseWork

        return PairwiseWork(place, stage, judge, session_id)
    if settings.type == "reward_model":
        from selfreward.stages.reward_judge import RewardJudge

        return RewardJudge(place, stage, judge, session_id)
    return Judge(place, stage, judge, session_id)


def own_rubric(settings: JudgeSettings) -> JudgeSettings:
    """The same settings for a model that judges replies one by one itself, whoever judges candidates."""
    return settings.model_copy(update={"type": "rubric", "endpoint": EndpointSettings()})


def judge_id(place: Workplace, settings: JudgeSettings | None = None) -> int:
    """A way of judging, the loop's unless `settings` are given, as a row: all the same, the same id.

    The row of an endpoint's judge has no checkpoint; its parameters say who that is.
    """
    settings = settings or place.settings.judge
    if settings.type == "reward_model":
        from selfreward.stages import reward_judge

        return reward_judge.judge_id(place, settings)
    template = load_template(template_name(settings), place.directory)
    checkpoint = None if settings.endpoint.url else place.checkpoint.id
    return place.store.candidates.judge(
        checkpoint, settings.type, template.name, template.digest, judge_parameters(settings)
    )


def template_name(settings: JudgeSettings) -> str:
    """The template that a judge of this type uses; empty for one that reads no prompt of ours."""
    names = {"rubric": settings.template, "pairwise": settings.pairwise.template, "reward_model": ""}
    return names[settings.type]


def judge_parameters(settings: JudgeSettings) -> dict[str, Any]:
    """What, with the template, tells two ways of judging apart. A digest is made of it: keys stay.

    Two orders are two samples of one comparison; what is not drawn does not depend on how it is drawn.
    """
    drawn = settings.model_dump(mode="json", include=set(DRAWN))
    endpoint = settings.endpoint
    who = {"endpoint": {"url": endpoint.url, "model": endpoint.model}} if endpoint.url else {}
    if settings.type == "rubric":
        return {**drawn, **settings.model_dump(mode="json", include=set(FORM)), **who}
    pairwise = settings.pairwise.model_dump(mode="json", exclude={"template"})
    return {"orders": 2, **pairwise, **(drawn if settings.pairwise.reasoning else {}), **who}


def judge_of(place: Workplace) -> int:
    """Who has judged the iteration's candidates: settings and templates may have changed since."""
    recorded = place.store.runs.judge(place.iteration.id)
    return judge_id(place) if recorded is None else recorded


def _written(scale: Scale, sample: int, reply: Completion, choice: Choice | None = None) -> Reading:
    """What the judge wrote, with the score in it replaced by the expectation if there is a choice."""
    status, score = scale.read(reply.text)
    if choice is not None:
        score = expected_score(choice)
        status = JudgementStatus.UNREADABLE if score is None else JudgementStatus.READ
    return Reading(
        sample=sample,
        raw_text=reply.text,
        status=status,
        score=score,
        probabilities=choice.probabilities if choice is not None else None,
        token_count=reply.token_count,
        finish_reason=reply.finish_reason,
    )


def _asked(sample: int, choice: Choice) -> Reading:
    score = expected_score(choice)
    return Reading(
        sample=sample,
        raw_text="" if score is None else f"{SCORE_STEM}{score:.2f}",
        status=JudgementStatus.UNREADABLE if score is None else JudgementStatus.READ,
        score=score,
        probabilities=choice.probabilities,
        token_count=choice.token_count,
        finish_reason=ASKED,
    )


def _judgement(task: CandidateTask, reading: Reading) -> NewJudgement:
    return NewJudgement(
        candidate_id=task.id,
        sample=reading.sample,
        raw_text=reading.raw_text,
        status=reading.status,
        score=reading.score,
        token_count=reading.token_count,
        finish_reason=reading.finish_reason,
        probabilities=reading.probabilities,
    )
