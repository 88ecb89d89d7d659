"""The algorithm: one iteration of Self-Rewarding Language Models (arXiv 2401.10020), top to bottom."""

import asyncio

from selfreward.stages import bootstrap, check, earlier, evaluate, meta, pair, train
from selfreward.stages.endpoints import endpoints
from selfreward.stages.judge import judge_work
from selfreward.stages.pump import Pump, run_together
from selfreward.stages.sample import Sample
from selfreward.stages.self_instruct import SelfInstruct
from selfreward.stages.session import engine_session
from selfreward.stages.workplace import Workplace
from selfreward.types import CheckpointRow, StageName, Status


async def run_iteration(place: Workplace) -> CheckpointRow:
    """M_t writes prompts, answers them, judges the answers and learns from them: M_{t+1}.

    Each step asks the database what is missing and does only that, so running an iteration again
    after any stop goes on where it was. Raises Drained when asked to stop, Held when a health gate
    asks for a user, Halted when there is too little to learn from, and EngineError or TrainingError when
    a part failed. Iteration 0 is the bootstrap: M_0 learns from seeds to answer and to judge.
    """
    if place.iteration.t == 0:
        return await bootstrap.run(place)
    await generate(place)
    await evaluate.finish(place)
    await earlier.judge(place)
    await earlier.answer(place)
    await asyncio.to_thread(pair.run, place)
    await asyncio.to_thread(meta.pair, place)
    await asyncio.to_thread(check.run, place)
    return await train.run(place)


async def generate(place: Workplace) -> None:
    """Write, answer and judge: pumps at once on one continuously batched server of M_t.

    In the same session M_t judges its judgements, and is measured on held-out seeds.
    """
    begin = place.store.runs.begin_stage
    names = (StageName.SELF_INSTRUCT, StageName.SAMPLE, StageName.JUDGE, *meta.stages(place))
    writing, answering, judging, *more = (begin(place.iteration.id, name) for name in names)
    if all(stage.status is Status.DONE for stage in (writing, answering, judging, *more)):
        return await evaluate.work(place)
    async with endpoints(place) as (writer, judge), engine_session(place) as (engine, session):
        prompts = Pump(place, writing, SelfInstruct(place, writing, writer or engine))
        candidates = Pump(place, answering, Sample(place, answering, engine, session), upstream=prompts)
        judged = judge_work(place, judging, judge or engine, session)
        judgements = Pump(place, judging, judged, upstream=candidates)
        comparing = meta.pumps(place, more, engine, session, upstream=judgements)
        measuring = evaluate.pumps(place, engine, session)
        await run_together([prompts, candidates, judgements, *comparing, *measuring])
    # The server has exited: its memory is free for the trainer.
