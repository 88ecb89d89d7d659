"""Iteration 0: M_0 → M_1 by SFT on instruction and judging examples (arXiv 2401.10020, section 2.1)."""

import asyncio
from dataclasses import replace

from selfreward.crash import crash_point
from selfreward.stages import evaluate, examples, making
from selfreward.stages.held_out import JudgeReplies
from selfreward.stages.making import BASELINE, BASELINE_KINDS, BOTH
from selfreward.stages.pump import Pump, run_together
from selfreward.stages.restore import intact
from selfreward.stages.session import engine_session
from selfreward.stages.workplace import Workplace
from selfreward.training.checkpoint import collect_garbage
from selfreward.training.states import collect
from selfreward.types import CheckpointKind, CheckpointRow, Split, StageName, Status
from selfreward.whereabouts import at_stage

JUDGING = (StageName.JUDGE, StageName.MEASURE_BASELINE)


async def run(place: Workplace) -> CheckpointRow:
    """M_1 as a row and a directory; goes on where an earlier attempt stopped.

    Raises Drained when asked to stop, Halted when there are no examples, and EngineError or
    TrainingError when a part failed.
    """
    await evaluate.run(place)
    await asyncio.to_thread(examples.instruct, place)
    if place.settings.bootstrap.eft == "judged":
        baseline = await _baseline(place)
        baseline = await _judge(baseline)
        await asyncio.to_thread(examples.judged, place, judge_of(baseline))
    elif place.settings.bootstrap.eft == "seeds":
        await asyncio.to_thread(examples.from_seeds, place)
    await asyncio.to_thread(examples.finish, place)
    stage = await asyncio.to_thread(place.store.runs.begin_stage, place.iteration.id, StageName.TRAIN)
    path = place.checkpoint_path("M_1")
    await _collect(place, "M_1")
    with at_stage(StageName.TRAIN):
        digest = await making.sft(place, stage, place.root / path, BOTH)
    crash_point("train:published")
    place.store.runs.describe_stage(stage.id, f"M_1 {digest[:12]}")
    trained = place.store.runs.finish_iteration(place.iteration, CheckpointKind.SFT, path, digest)
    crash_point("train:recorded")
    return trained


def judge_of(place: Workplace) -> int:
    """The baseline's way of judging, as a row."""
    return examples.judge_row(place)


async def _baseline(place: Workplace) -> Workplace:
    """The place with the SFT baseline in M_0's stead."""
    runs, path = place.store.runs, place.checkpoint_path(BASELINE)
    stage = await asyncio.to_thread(runs.begin_stage, place.iteration.id, StageName.BASELINE)
    row = runs.checkpoint_named(place.run.id, BASELINE)
    if row is None:
        await _collect(place, BASELINE)
        with at_stage(StageName.BASELINE):
            digest = await making.sft(place, stage, place.root / path, BASELINE_KINDS)
        crash_point("baseline:published")
        parent = place.checkpoint.id
        row = runs.add_checkpoint(place.run.id, 0, CheckpointKind.SFT, path, digest, parent, BASELINE)
    if stage.status is not Status.DONE:
        runs.finish_stage(stage.id, f"{BASELINE} {row.digest[:12]}")
    return replace(place, checkpoint=row)


async def _judge(place: Workplace) -> Workplace:
    """The baseline judges the ranked replies to learn from, and those to be measured on.

    Returns the place as it was judged in: a baseline that was damaged is made again.
    """
    runs, store = place.store.runs, place.store
    if not _judged(place):
        place = await intact(place, set())
    judging = await asyncio.to_thread(runs.begin_stage, place.iteration.id, StageName.JUDGE)
    measuring = await asyncio.to_thread(runs.begin_stage, place.iteration.id, StageName.MEASURE_BASELINE)
    if judging.status is Status.DONE and measuring.status is Status.DONE:
        return place
    ranked = store.replies.prompts(place.run.id, Split.TRAIN)
    held_out = evaluate.look_up(place).ranked if place.settings.evaluation.enabled else ()
    async with engine_session(place) as (engine, session):
        teach, test = examples.judge_settings(place), evaluate.judge_settings(place)
        works = [
            Pump(place, judging, JudgeReplies(place, judging, engine, session, ranked, teach)),
            Pump(place, measuring, JudgeReplies(place, measuring, engine, session, held_out, test)),
        ]
        await run_together(works)
    if held_out:
        rows = await asyncio.to_thread(evaluate.judge_rows, place, test)
        store.evaluations.put(place.checkpoint.run_id, rows)
    return place


def _judged(place: Workplace) -> bool:
    """Whether the baseline is not needed any more."""
    stages = (place.store.runs.stage(place.iteration.id, name) for name in JUDGING)
    return all(stage is not None and stage.status is Status.DONE for stage in stages)


async def _collect(place: Workplace, name: str) -> None:
    """Remove what interrupted trainings of others than this have left behind."""
    await asyncio.to_thread(collect_garbage, (place.root / place.checkpoint_path(name)).parent)
    await asyncio.to_thread(collect, place.directory / "jobs", name)
