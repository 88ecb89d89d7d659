"""DPO of M_t on its own pairs, in a child process: M_{t+1} appears complete or not at all."""

import asyncio
from dataclasses import asdict
from functools import partial
from pathlib import Path

from selfreward.errors import Halted
from selfreward.stages.pair import describe
from selfreward.stages.trainer import job_directory, train, write_rows
from selfreward.stages.workplace import MODELS, Workplace
from selfreward.training.checkpoint import adoptable, collect_garbage
from selfreward.training.jobs import DpoJob
from selfreward.types import CheckpointKind, CheckpointRow, StageName, StageRow, Status


async def run(place: Workplace) -> CheckpointRow:
    """M_{t+1} as a row and a directory. One that a crash left without its row is adopted.

    Raises Halted when there are too few pairs, TrainingError when the trainer failed, Drained when
    asked to stop. M_t is untouched by all of them.
    """
    store, t = place.store, place.iteration.t
    stage = await asyncio.to_thread(store.runs.begin_stage, place.iteration.id, StageName.TRAIN)
    path = place.checkpoint_path(f"M_{t + 1}")
    collect_garbage(place.directory / MODELS)
    manifest = adoptable(place.root / path)
    digest = manifest.digest if manifest else await _train(place, stage, place.root / path)
    store.runs.describe_stage(stage.id, f"M_{t + 1} {digest[:12]}")
    place.reporter.end(StageName.TRAIN, f"M_{t + 1} {digest[:12]}")
    return store.runs.finish_iteration(place.iteration, CheckpointKind.DPO, path, digest)


async def _train(place: Workplace, stage: StageRow, output: Path) -> str:
    """Write the pairs, run the child; returns the digest of the new checkpoint."""
    job_dir = job_directory(place, stage, output.name)
    pairs = await asyncio.to_thread(_write_pairs, place, job_dir / "pairs.jsonl")
    if pairs < place.settings.train.min_pairs:
        raise _too_few(place, stage, pairs)
    job = DpoJob(
        output=output,
        fence=place.fence,
        model=place.model_path,
        pairs=job_dir / "pairs.jsonl",
        settings=place.settings.train,
        seed=place.settings.seed,
        work=job_dir / "work",
    )
    place.reporter.say(f"starting the trainer on {place.checkpoint.name}", pairs=pairs)
    return await train(place, stage, job, job_dir, partial(place.store.pairs.exclude, place.iteration.id))


def _write_pairs(place: Workplace, path: Path) -> int:
    """The pairs to train on as JSONL; returns how many there are."""
    return write_rows(path, map(asdict, place.store.pairs.training_pairs(place.iteration.id)))


def _too_few(place: Workplace, stage: StageRow, pairs: int) -> Halted:
    needed = place.settings.train.min_pairs
    outcomes = place.store.pairs.outcomes(place.iteration.id)
    message = f"{pairs} pairs are too few to train on (train.min_pairs is {needed}): {describe(outcomes)}"
    place.store.runs.fail_stage(stage.id, Status.HALTED, message)
    return Halted(
        message,
        f"{place.checkpoint.name} stays the current model. See why with:\n"
        '  selfreward query "select * from pair_outcomes"\n'
        "More prompts (self_instruct.target), more candidates, more judgements per candidate or "
        "judge.guided = true give more pairs.",
    )
