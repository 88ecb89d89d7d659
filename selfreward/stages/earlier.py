"""Earlier models at work in M_t's iteration, each in an engine session of its own.

M_{t-1} judges M_t's candidates too (CREAM, `stages.consistency`); an anchor answers M_t's prompts, and M_t
judges those answers (Temporal Self-Rewarding, `stages.anchor`). An earlier model whose files are damaged or
were removed is made again first.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

from selfreward.stages import anchor, consistency
from selfreward.stages.endpoints import endpoints
from selfreward.stages.judge import judge_id, judge_work
from selfreward.stages.pump import Pump, run_together
from selfreward.stages.restore import intact
from selfreward.stages.session import engine_session
from selfreward.stages.workplace import Workplace
from selfreward.types import CheckpointRow, StageName, StageRow, Status


async def judge(place: Workplace) -> None:
    """M_{t-1} judges M_t's candidates as M_t did, and how far the two agree is stored. For CREAM alone.

    Raises Drained when asked to stop, EngineError when the engine fails.
    """
    if not consistency.wanted(place):
        return
    stage = await _begin(place, StageName.JUDGE_PREVIOUS)
    before = consistency.previous(place)
    if before is None:
        return await _finish(place, stage, f"no model came before {place.checkpoint.name}: C = 1")
    done = stage.status is Status.DONE
    if done and await asyncio.to_thread(consistency.measured, place):
        return
    then = await intact(replace(place, checkpoint=before), set())
    if not done and await asyncio.to_thread(_lacks_judgements, then):
        async with engine_session(then) as (engine, session):
            await run_together([Pump(then, stage, judge_work(then, stage, engine, session))])
    detail = await asyncio.to_thread(consistency.measure, place, then.checkpoint)
    await asyncio.to_thread(place.store.runs.finish_stage, stage.id, detail)
    place.reporter.say(detail)


async def answer(place: Workplace) -> None:
    """An earlier model answers M_t's prompts, and M_t judges its answers. For anchored pairs alone.

    Raises as `judge` does.
    """
    if not anchor.wanted(place):
        return
    answering = await _begin(place, StageName.ANCHOR)
    earlier = await asyncio.to_thread(anchor.anchor_of, place)
    if earlier is None:
        told = f"no earlier model than {place.checkpoint.name}: pairs are drawn by {anchor.OTHERWISE}"
        return await _finish(place, answering, told)
    if answering.status is not Status.DONE:
        await _answer(place, answering, earlier)
    judging = await _begin(place, StageName.JUDGE_ANCHOR)
    if judging.status is Status.DONE:
        return
    if await asyncio.to_thread(_lacks_judgements, place, anchors=True):
        async with _judge_session(place) as (judge, session):
            work = anchor.JudgeAnchors(place, judge_work(place, judging, judge, session))
            await run_together([Pump(place, judging, work)])
    else:
        await _finish(place, judging, await asyncio.to_thread(anchor.describe_judged, place))


async def _answer(place: Workplace, stage: StageRow, earlier: CheckpointRow) -> None:
    """A fork may find all of it there."""
    then = await intact(replace(place, checkpoint=earlier), set())
    model, wanted = then.checkpoint, place.settings.pair.anchors
    if not await asyncio.to_thread(place.store.anchors.short, place.data_iteration, model.id, wanted, 0, 1):
        count = await asyncio.to_thread(place.store.anchors.count, place.data_iteration, model.id)
        return await _finish(place, stage, f"{count} answers of {model.name}")
    async with engine_session(then) as (engine, session):
        await run_together([Pump(then, stage, anchor.AnswerAsAnchor(then, stage, engine, session))])


@asynccontextmanager
async def _judge_session(place: Workplace) -> AsyncIterator[tuple[Any, int | None]]:
    """(who judges, session): M_t on an engine, or without one an endpoint or a reward model."""
    async with endpoints(place) as (_, other):
        if other is not None:
            yield other, None
            return
        async with engine_session(place) as (engine, session):
            yield engine, session


def _lacks_judgements(place: Workplace, anchors: bool = False) -> bool:
    """Whether any candidate, or any anchor, is without a judgement by `place`'s judge."""
    candidates, wanted = place.store.candidates, place.settings.judge.wanted
    judge = judge_id(place)
    return bool(candidates.short_of_judgements(place.data_iteration, judge, wanted, 0, 1, anchors))


async def _begin(place: Workplace, name: StageName) -> StageRow:
    return await asyncio.to_thread(place.store.runs.begin_stage, place.iteration.id, name)


async def _finish(place: Workplace, stage: StageRow, detail: str) -> None:
    if stage.status is not Status.DONE:
        await asyncio.to_thread(place.store.runs.finish_stage, stage.id, detail)
        place.reporter.end(stage.name, detail)
