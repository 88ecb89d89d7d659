"""Measures M_t on held-out seeds, as a judge and as an assistant, in the session in which it works anyway."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from selfreward.config import JudgeSettings
from selfreward.crash import crash_point
from selfreward.engines.base import Engine
from selfreward.engines.endpoint import connect
from selfreward.prompting import PromptTemplate, load_template
from selfreward.stages.held_out import (
    COMPARE_FIELDS,
    AnswerPrompts,
    CompareAnswers,
    JudgeReplies,
    by_choice,
    by_reply,
)
from selfreward.stages.judge import judge_id, own_rubric
from selfreward.stages.model import prepare_model
from selfreward.stages.pump import Pump, run_together
from selfreward.stages.session import engine_session, served
from selfreward.stages.workplace import MODELS, Workplace
from selfreward.types import (
    CheckpointRow,
    EvaluationRow,
    Metric,
    StageName,
    StageRow,
    Status,
    Suite,
)
from selfreward.whereabouts import enter_stage

MANY = 100_000
INDEPENDENT = "independent_judge"
WORK = (StageName.ANSWER_HELD_OUT, StageName.JUDGE_HELD_OUT, StageName.COMPARE)
ALL = (*WORK, StageName.COMPARE_INDEPENDENT, StageName.EVALUATE)


@dataclass(frozen=True, kw_only=True)
class HeldOut:
    """What a checkpoint is measured on."""

    prompts: tuple[int, ...]
    """Held-out seeds that are answered and compared."""
    ranked: tuple[int, ...]
    """Held-out seeds whose ranked replies are judged."""
    opponents: tuple[CheckpointRow, ...]
    """M_{t-1} and M_1, as far as they are there and not M_t itself."""


async def run(place: Workplace) -> None:
    """Measure the checkpoint, with an engine of its own for what is missing.

    Raises Drained when asked to stop, EngineError when the engine fails.
    """
    await work(place)
    await finish(place)


async def work(place: Workplace) -> None:
    """What is missing of the checkpoint's own part, with an engine if anything is."""
    if not place.settings.evaluation.enabled or await asyncio.to_thread(_all_done, place, WORK):
        return
    if await asyncio.to_thread(_lacks, place):
        async with engine_session(place) as (engine, session):
            await run_together(pumps(place, engine, session))
    else:
        for name in WORK:
            stage = await asyncio.to_thread(_begin, place, name)
            await asyncio.to_thread(place.store.runs.finish_stage, stage.id, "nothing is missing")


def pumps(place: Workplace, engine: Engine, session: int) -> list[Pump[Any, Any]]:
    """What M_t itself does with the held-out seeds, as pumps beside those of the loop."""
    if not place.settings.evaluation.enabled:
        return []
    held_out = look_up(place)
    answering, judging, comparing = (_begin(place, name) for name in WORK)
    answers = AnswerPrompts(place, answering, engine, session, held_out.prompts)
    replies = JudgeReplies(place, judging, engine, session, held_out.ranked, judge_settings(place))
    ask = by_choice(engine, by_reply(engine, place))
    comparisons = CompareAnswers(
        place,
        comparing,
        ask,
        _template(place),
        _own_judge(place),
        [opponent.id for opponent in held_out.opponents],
        held_out.prompts,
        session,
    )
    answer_pump: Pump[Any, Any] = Pump(place, answering, answers)
    return [
        answer_pump,
        Pump(place, judging, replies),
        Pump(place, comparing, comparisons, upstream=answer_pump),
    ]


async def finish(place: Workplace) -> None:
    """What comes after M_t's own session: the independent judge, and the figures. Repeats nothing."""
    if not place.settings.evaluation.enabled or await asyncio.to_thread(_all_done, place, ALL[-1:]):
        return
    if place.settings.evaluation.independent.model:
        await _compare_independently(place)
    await asyncio.to_thread(measure, place)


def look_up(place: Workplace) -> HeldOut:
    """The held-out seeds and opponents of the checkpoint, the same ones for every checkpoint."""
    settings, store = place.settings.evaluation, place.store
    return HeldOut(
        prompts=tuple(store.answers.prompts(place.run.id, settings.prompts)),
        ranked=tuple(store.replies.held_out(place.run.id, settings.replies)),
        opponents=_opponents(place) if settings.compare else (),
    )


def judge_settings(place: Workplace) -> JudgeSettings:
    """The loop's way of judging, never forced into form: whether it keeps to it is what is measured."""
    update = {"guided": False, "samples": place.settings.evaluation.samples}
    return own_rubric(place.settings.judge).model_copy(update=update)


def measure(place: Workplace) -> None:
    """Turn what is stored into figures with intervals, and store those.

    A fork leaves figures of its parent's checkpoint as they are: they may be on other seeds than its own.
    """
    enter_stage(StageName.EVALUATE)
    stage, made_by = _begin(place, StageName.EVALUATE), place.checkpoint.run_id
    if made_by != place.run.id and place.store.evaluations.measured(made_by, place.checkpoint.name):
        return place.store.runs.finish_stage(stage.id, "measured already in the run that made it")
    rows = [*judge_rows(place, judge_settings(place)), *_assistant_rows(place)]
    place.store.evaluations.put(made_by, rows)
    crash_point("evaluate:stored")
    detail = _describe(rows)
    place.store.runs.finish_stage(stage.id, detail)
    place.reporter.say(f"{place.checkpoint.name} is measured: {detail}")


def judge_rows(place: Workplace, settings: JudgeSettings) -> list[EvaluationRow]:
    """The checkpoint as a judge, against human ranks and against the checkpoint before it."""
    from selfreward.measuring import judge_figures, mean_scores  # scipy takes a while to import

    judge, prompts = judge_id(place, settings), look_up(place).ranked
    previous = _previous(place)
    before = [] if previous is None else place.store.replies.judged_alike(judge, previous.id, prompts)
    figures = judge_figures(place.store.replies.judged(judge, prompts), mean_scores(before) or None)
    return _rows(place, Suite.JUDGE, figures)


def _assistant_rows(place: Workplace) -> list[EvaluationRow]:
    from selfreward.measuring import HeldOutAnswer, assistant_figures

    held_out = look_up(place)
    answers = [
        HeldOutAnswer(prompt_id=answer.prompt_id, text=answer.text, status=answer.status)
        for answer in place.store.answers.of(place.checkpoint.id, held_out.prompts)
    ]
    rows = _rows(place, Suite.ASSISTANT, assistant_figures(answers))
    rows += _win_rates(place, held_out, Suite.ASSISTANT, _own_judge(place))
    if place.settings.evaluation.independent.model:
        rows += _win_rates(place, held_out, Suite.INDEPENDENT, _independent_judge(place))
    return rows


def _win_rates(place: Workplace, held_out: HeldOut, suite: Suite, judge: int) -> list[EvaluationRow]:
    from selfreward.measuring import win_rate

    previous = _previous(place)
    figures = []
    for opponent in held_out.opponents:
        comparisons = place.store.answers.comparisons(judge, place.checkpoint.id, opponent.id)
        if previous is not None and opponent.id == previous.id:
            figures.append(win_rate(Metric.WIN_RATE_PREVIOUS, comparisons))
        if opponent.version == 1:
            figures.append(win_rate(Metric.WIN_RATE_FIRST, comparisons))
    return _rows(place, suite, figures)


def _rows(place: Workplace, suite: Suite, figures: Sequence[Any]) -> list[EvaluationRow]:
    return [
        EvaluationRow(
            checkpoint=place.checkpoint.name,
            suite=suite,
            metric=figure.metric,
            value=figure.value,
            low=figure.low,
            high=figure.high,
            n=figure.n,
        )
        for figure in figures
    ]


async def _compare_independently(place: Workplace) -> None:
    """The same comparisons by a judge that is not of this run, one order after the other like its own."""
    held_out = await asyncio.to_thread(look_up, place)
    if not held_out.opponents:
        return
    stage = await asyncio.to_thread(_begin, place, StageName.COMPARE_INDEPENDENT)
    if stage.status is Status.DONE:
        return
    async with _independent_engine(place) as engine:
        written = by_reply(engine, place)
        ask = written if place.settings.evaluation.independent.url else by_choice(engine, written)
        opponents = [opponent.id for opponent in held_out.opponents]
        judge, template = _independent_judge(place), _template(place)
        work = CompareAnswers(place, stage, ask, template, judge, opponents, held_out.prompts, None)
        await run_together([Pump(place, stage, work)])


@asynccontextmanager
async def _independent_engine(place: Workplace) -> AsyncIterator[Engine]:
    independent = place.settings.evaluation.independent
    if independent.url:
        async with connect(
            independent.url,
            independent.model,
            api_key_env=independent.api_key_env,
            request_timeout_s=place.engine.request_timeout_s,
        ) as engine:
            yield engine
        return
    path = place.directory / MODELS / INDEPENDENT
    await prepare_model(
        independent.model, path, place.directory, fence=place.fence, reporter=place.reporter, stop=place.stop
    )
    async with served(place, path, seed=0) as engine:
        yield engine


def _opponents(place: Workplace) -> tuple[CheckpointRow, ...]:
    first = place.store.runs.checkpoint(place.run.id, 1)
    found = {row.id: row for row in (_previous(place), first) if row is not None}
    return tuple(row for row in found.values() if row.version < place.checkpoint.version)


def _previous(place: Workplace) -> CheckpointRow | None:
    """The checkpoint that this one was trained from: M_{t-1} for M_t."""
    parent = place.checkpoint.parent_id
    return None if parent is None else place.store.runs.checkpoint_by_id(parent)


def _template(place: Workplace) -> PromptTemplate:
    return load_template(place.settings.evaluation.template, place.directory).require(COMPARE_FIELDS)


def _own_judge(place: Workplace) -> int:
    template = _template(place)
    return place.store.candidates.judge(
        place.checkpoint.id, "pairwise", template.name, template.digest, {"orders": 2}
    )


def _independent_judge(place: Workplace) -> int:
    template, who = _template(place), place.settings.evaluation.independent
    parameters = {"orders": 2, "model": who.model, "url": who.url}
    return place.store.candidates.judge(None, "pairwise", template.name, template.digest, parameters)


def _begin(place: Workplace, name: StageName) -> StageRow:
    return place.store.runs.begin_stage(place.iteration.id, name)


def _lacks(place: Workplace) -> bool:
    """Whether an engine is needed at all."""
    held_out, store = look_up(place), place.store
    settings = judge_settings(place)
    judge, me = judge_id(place, settings), place.checkpoint.id
    opponents = [opponent.id for opponent in held_out.opponents]
    tasks = store.answers.uncompared(_own_judge(place), me, opponents, held_out.prompts, 0, MANY)
    return bool(
        store.answers.missing(me, held_out.prompts, 0, 1)
        or store.replies.short_of_judgements(held_out.ranked, judge, settings.wanted, 0, 1)
        or any(task.missing for task in tasks)
    )


def _all_done(place: Workplace, names: Sequence[StageName]) -> bool:
    stages = {stage.name: stage.status for stage in place.store.runs.stages(place.iteration.id)}
    return all(stages.get(name) is Status.DONE for name in names)


def _describe(rows: Sequence[EvaluationRow]) -> str:
    """The two figures one looks at first."""
    told = {Metric.PAIRWISE_ACCURACY: "pairwise accuracy", Metric.WIN_RATE_PREVIOUS: "wins against the last"}
    parts = [
        f"{told[row.metric]} {row.value:.0%} [{row.low:.0%}-{row.high:.0%}]"
        for row in rows
        if row.metric in told and row.value is not None and row.suite is not Suite.INDEPENDENT
    ]
    return ", ".join(parts) or f"{len(rows)} figures"
