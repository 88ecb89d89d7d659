"""Iteration 0: M_0 → M_1 by SFT on instruction and judging examples (arXiv 2401.10020, section 2.1)."""

import asyncio
from dataclasses import asdict, replace
from pathlib import Path

from selfreward.errors import Halted
from selfreward.stages import evaluate, examples
from selfreward.stages.held_out import JudgeReplies
from selfreward.stages.pump import Pump, run_together
from selfreward.stages.session import engine_session
from selfreward.stages.trainer import job_directory, train, write_rows
from selfreward.stages.workplace import Workplace
from selfreward.training.checkpoint import adoptable, collect_garbage
from selfreward.training.jobs import SftJob
from selfreward.types import (
    CheckpointKind,
    CheckpointRow,
    DropReason,
    ExampleKind,
    Split,
    StageName,
    StageRow,
    Status,
)

BASELINE = "M_0_ift"
"""The SFT baseline: M_0 after instruction examples alone."""


async def run(place: Workplace) -> CheckpointRow:
    """M_1 as a row and a directory; goes on where an earlier attempt stopped.

    Raises Drained when asked to stop, Halted when there are no examples, and EngineError or
    TrainingError when a part failed.
    """
    await evaluate.run(place)
    await asyncio.to_thread(examples.instruct, place)
    if place.settings.bootstrap.eft == "judged":
        baseline = await _baseline(place)
        await _judge(baseline)
        await asyncio.to_thread(examples.judged, place, judge_of(baseline))
    elif place.settings.bootstrap.eft == "seeds":
        await asyncio.to_thread(examples.from_seeds, place)
    await asyncio.to_thread(examples.finish, place)
    stage = await asyncio.to_thread(place.store.runs.begin_stage, place.iteration.id, StageName.TRAIN)
    path = place.checkpoint_path("M_1")
    digest = await _sft(place, stage, path, (ExampleKind.IFT, ExampleKind.EFT))
    place.store.runs.describe_stage(stage.id, f"M_1 {digest[:12]}")
    return place.store.runs.finish_iteration(place.iteration, CheckpointKind.SFT, path, digest)


def judge_of(place: Workplace) -> int:
    """The baseline's way of judging, as a row."""
    return examples.judge_row(place)


async def _baseline(place: Workplace) -> Workplace:
    """The place with the SFT baseline in M_0's stead."""
    runs, path = place.store.runs, place.checkpoint_path(BASELINE)
    stage = await asyncio.to_thread(runs.begin_stage, place.iteration.id, StageName.BASELINE)
    row = runs.checkpoint_named(place.run.id, BASELINE)
    if row is None:
        digest = await _sft(place, stage, path, (ExampleKind.IFT,))
        parent = place.checkpoint.id
        row = runs.add_checkpoint(place.run.id, 0, CheckpointKind.SFT, path, digest, parent, BASELINE)
    if stage.status is not Status.DONE:
        runs.finish_stage(stage.id, f"{BASELINE} {row.digest[:12]}")
    return replace(place, checkpoint=row)


async def _judge(place: Workplace) -> None:
    """The baseline judges the ranked replies to learn from, and those to be measured on."""
    runs, store = place.store.runs, place.store
    judging = await asyncio.to_thread(runs.begin_stage, place.iteration.id, StageName.JUDGE)
    measuring = await asyncio.to_thread(runs.begin_stage, place.iteration.id, StageName.MEASURE_BASELINE)
    if judging.status is Status.DONE and measuring.status is Status.DONE:
        return
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


async def _sft(place: Workplace, stage: StageRow, path: str, kinds: tuple[ExampleKind, ...]) -> str:
    """The digest of M_0 after SFT on the kept examples of these kinds. A finished one is adopted."""
    output = place.root / path
    collect_garbage(output.parent)
    if manifest := adoptable(output):
        return manifest.digest
    job_dir = job_directory(place, stage, output.name)
    count = await asyncio.to_thread(_write_examples, place, job_dir / "examples.jsonl", kinds)
    if not count:
        raise _nothing_to_learn(place, stage)
    job = SftJob(
        output=output,
        fence=place.fence,
        model=place.model_path,
        examples=job_dir / "examples.jsonl",
        settings=place.settings.bootstrap.sft,
        seed=place.settings.seed,
        work=job_dir / "work",
    )
    place.reporter.say(f"starting the trainer on {place.checkpoint.name}", examples=count)
    return await train(place, stage, job, job_dir, lambda ids: place.store.examples.drop(ids, TOO_LONG))


TOO_LONG = DropReason.TOO_LONG


def _write_examples(place: Workplace, path: Path, kinds: tuple[ExampleKind, ...]) -> int:
    """The kept examples as JSONL; returns how many there are."""
    return write_rows(path, map(asdict, place.store.examples.kept(place.iteration.id, *kinds)))


def _nothing_to_learn(place: Workplace, stage: StageRow) -> Halted:
    message = f"there is no example to train on: {examples.describe(place)}"
    place.store.runs.fail_stage(stage.id, Status.HALTED, message)
    return Halted(
        message,
        "Name seeds with answers and ranked replies in seeds.files, or start from an instruct model "
        'with bootstrap = "none". See why with: selfreward query "select * from bootstrap_examples"',
    )
