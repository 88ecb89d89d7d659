"""M_t judges its own judgements; pairs of them teach M_{t+1} to judge (Meta-Rewarding, arXiv 2407.19594)."""

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

from selfreward.crash import crash_point
from selfreward.engines.base import ChatMessage, Engine, NotOneToken, PromptTooLong
from selfreward.judging import parse_verdict
from selfreward.meta_judging import MetaTask, best_and_worst, most_disputed, place_weights
from selfreward.prompting import PromptTemplate, load_template
from selfreward.stages.judge import judge_of, rubric
from selfreward.stages.pump import Pump
from selfreward.stages.workplace import Workplace
from selfreward.store.meta import NewJudgementComparison
from selfreward.types import JudgementStatus, StageName, StageRow, Status, TrainingPair, Verdict

TEMPLATE_FIELDS = ("rubric", "prompt", "response", "first", "second")
STEM = "Winner: "
VERDICTS = ("1", "2")
PROMPT_HERE, RESPONSE_HERE = "(the user's request)", "(the response)"
"""What stands for them in the rubric that is shown."""


def enabled(place: Workplace) -> bool:
    """Whether the iteration has meta-judging: until `judge.meta.last_iteration`."""
    return place.settings.judge.meta.applies(place.iteration.t)


def stages(place: Workplace) -> tuple[StageName, ...]:
    """Its stage, in iterations that have it."""
    return (StageName.META_JUDGE,) if enabled(place) else ()


def pumps(
    place: Workplace, stages: Sequence[StageRow], engine: Engine, session: int, upstream: Pump[Any, Any]
) -> list[Pump[Any, Any]]:
    """Comparing judgements on M_t's engine, once the pump before has written all of them."""
    works = [(stage, MetaJudge(place, stage, engine, session)) for stage in stages]
    return [Pump(place, stage, work, upstream=upstream) for stage, work in works]


def pair(place: Workplace) -> None:
    """Best against worst judgement of each answer whose judgements were compared. Repeats nothing."""
    if not enabled(place) or place.store.meta.has_pairs(place.iteration.id):
        return
    store, judge = place.store, meta_judge_id(place)
    battles = store.meta.battles(disputed(place), judge)
    weights = place_weights([battle for each in battles.values() for battle in each])
    found = {candidate: best_and_worst(each, weights) for candidate, each in battles.items()}
    store.meta.add_pairs(place.iteration.id, {key: two for key, two in found.items() if two is not None})
    crash_point("meta_judge:paired")
    pairs, first = store.meta.pair_count(place.iteration.id), f"{weights.second:.0%}"
    detail = f"{pairs} pairs of judgements from {len(battles)} answers; the first place won {first}"
    stage = store.runs.stage(place.iteration.id, StageName.META_JUDGE)
    if stage is not None:
        store.runs.describe_stage(stage.id, detail)
    place.reporter.say(detail)


def training_pairs(place: Workplace, iteration_id: int | None = None) -> Iterator[TrainingPair]:
    """The iteration's pairs of judgements as rows for the trainer, with negative ids: none is another pair's.

    The prompt is what the judge was asked. Of `iteration_id` where one is given, else of the place's.
    """
    template = rubric(place.settings.judge, place.directory)
    for row in place.store.meta.training_pairs(iteration_id or place.iteration.id):
        yield TrainingPair(
            pair_id=-row.id,
            prompt=template.render(prompt=row.prompt, response=row.response),
            chosen=row.chosen,
            rejected=row.rejected,
        )


def exclude(place: Workplace, pair_ids: Sequence[int]) -> None:
    """Mark what is too long for the trainer: pairs of judgements by their negative ids, pairs by theirs."""
    judgements, others = [-key for key in pair_ids if key < 0], [key for key in pair_ids if key > 0]
    if judgements:
        place.store.meta.exclude(place.iteration.id, judgements)
    if others:
        place.store.pairs.exclude(place.iteration.id, others)


def disputed(place: Workplace) -> list[int]:
    """Ids of M_t's answers whose judgements are compared, in their order: the rows of the judge decide it."""
    scores = place.store.meta.written_scores(place.data_iteration, judge_of(place))
    return sorted(most_disputed(scores, place.settings.judge.meta.max_pairs))


def meta_judge_id(place: Workplace) -> int:
    """M_t as a judge of judgements, as a row."""
    template = _template(place)
    return place.store.candidates.judge(
        place.checkpoint.id, "meta", template.name, template.digest, {"orders": 2}
    )


class MetaJudge:
    """The work of comparing judgements, each two in both orders."""

    name = StageName.META_JUDGE

    def __init__(self, place: Workplace, stage: StageRow, engine: Engine, session_id: int) -> None:
        self._place, self._stage, self._engine, self._session_id = place, stage, engine, session_id
        self._settings, self._template = place.settings.judge, _template(place)
        grading = rubric(self._settings, place.directory)
        self._rubric = grading.render(prompt=PROMPT_HERE, response=RESPONSE_HERE)
        self.id = meta_judge_id(place)

    @cached_property
    def _disputed(self) -> list[int]:
        return disputed(self._place)

    @cached_property
    def _judge(self) -> int:
        return judge_of(self._place)

    def total(self) -> int | None:
        """Not known before everything is judged."""
        return None

    def done(self) -> int:
        """Comparisons that are there."""
        return self._place.store.journal.count(self._place.iteration, self.name)

    def exhausted(self) -> bool:
        """Judgements come from the stage before."""
        return True

    def fetch(self, after: int, room: int) -> list[MetaTask]:
        """Answers that lack comparisons; none while they are still being judged: which are most disputed?"""
        judging = self._place.store.runs.stage(self._place.iteration.id, StageName.JUDGE)
        if judging is None or judging.status is not Status.DONE:
            return []
        ids = [key for key in self._disputed if key > after]
        most = self._settings.meta.max_judgements
        return self._place.store.meta.tasks(ids, self._judge, self.id, most, room)

    async def perform(self, item: MetaTask) -> list[NewJudgementComparison]:
        """What is missing, one order after the other: the next one finds its prefix cached."""
        return [await self._compare(item, first, second) for first, second in item.missing]

    def give_up(self, item: MetaTask, error: str) -> list[NewJudgementComparison]:
        """Comparisons that could not be had."""
        return [_unread(first, second, JudgementStatus.FAILED) for first, second in item.missing]

    def commit(self, results: Sequence[NewJudgementComparison], cursor: int) -> int:
        """Store comparisons."""
        self._place.store.meta.add(
            self._place.iteration.id, self.id, self._stage.id, self._session_id, results, cursor
        )
        return len(results)

    def detail(self) -> str:
        """How it ended."""
        return f"{self.done()} comparisons of the judgements of {len(self._disputed)} answers"

    async def _compare(self, item: MetaTask, first: int, second: int) -> NewJudgementComparison:
        text = self._template.render(
            rubric=self._rubric,
            prompt=item.prompt,
            response=item.response,
            first=item.texts[first],
            second=item.texts[second],
        )
        message: ChatMessage = {"role": "user", "content": text}
        try:
            return await self._choose(message, first, second)
        except NotOneToken:
            return await self._write(message, first, second)
        except PromptTooLong:
            return _unread(first, second, JudgementStatus.TOO_LONG)

    async def _choose(self, message: ChatMessage, first: int, second: int) -> NewJudgementComparison:
        """How likely "1" and "2" are as the verdict: one token."""
        choice = await self._engine.choose([message], STEM, VERDICTS)
        one, two = choice.probabilities
        if one + two <= 0:
            return _unread(first, second, JudgementStatus.UNREADABLE, tokens=choice.token_count)
        return _read(first, second, one / (one + two), "", choice.token_count)

    async def _write(self, message: ChatMessage, first: int, second: int) -> NewJudgementComparison:
        """A written verdict, where the tokenizer does not have them as one token."""
        sampling = self._settings.model_copy(update={"temperature": 0.0, "top_k": 0, "max_tokens": 32})
        try:
            [reply] = await self._engine.chat([message], sampling, 1)
        except PromptTooLong:
            return _unread(first, second, JudgementStatus.TOO_LONG)
        verdict = parse_verdict(reply.text)
        if verdict is None:
            return _unread(first, second, JudgementStatus.UNREADABLE, reply.text, reply.token_count)
        return _read(first, second, float(verdict is Verdict.FIRST), reply.text, reply.token_count)


def _template(place: Workplace) -> PromptTemplate:
    return load_template(place.settings.judge.meta.template, place.directory).require(TEMPLATE_FIELDS)


def _read(first: int, second: int, probability: float, text: str, tokens: int) -> NewJudgementComparison:
    return NewJudgementComparison(
        first_id=first,
        second_id=second,
        status=JudgementStatus.READ,
        probability_first=probability,
        raw_text=text,
        token_count=tokens,
    )


def _unread(
    first: int, second: int, status: JudgementStatus, text: str = "", tokens: int = 0
) -> NewJudgementComparison:
    return NewJudgementComparison(
        first_id=first,
        second_id=second,
        status=status,
        probability_first=None,
        raw_text=text,
        token_count=tokens,
    )
