"""How a checkpoint comes out of a training on stored rows: the first time, and again when it was lost."""

import asyncio
from dataclasses import asdict
from functools import partial
from pathlib import Path

from selfreward.errors import Halted
from selfreward.stages import examples
from selfreward.stages.pair import describe
from selfreward.stages.trainer import catch_up, job_directory, train, write_rows
from selfreward.stages.workplace import Workplace
from selfreward.training.checkpoint import STALE, adopt
from selfreward.training.jobs import DpoJob, SftJob
from selfreward.training.states import forget
from selfreward.types import DropReason, ExampleKind, StageRow, Status

BASELINE = "M_0_ift"
"""The SFT baseline: M_0 after instruction examples alone."""
BOTH = (ExampleKind.IFT, ExampleKind.EFT)
BASELINE_KINDS = (ExampleKind.IFT,)


async def dpo(place: Workplace, stage: StageRow, output: Path, aside: str = STALE) -> str:
    """The digest of M_t after DPO on the iteration's pairs, in `output`. A finished one is adopted.

    What is found in `output` and was made from something else is moved to `<output>.<aside>-<number>`.
    Raises Halted when there are too few pairs, TrainingError when the trainer failed, Drained when asked
    to stop.
    """
    job_dir = job_directory(place, stage, output.name)
    path = job_dir / "pairs.jsonl"
    pairs = await asyncio.to_thread(_write_pairs, place, path)
    job = DpoJob(
        output=output,
        fence=place.fence,
        model=place.model_path,
        model_digest=place.checkpoint.digest,
        pairs=path,
        settings=place.settings.train,
        seed=place.settings.seed,
        work=job_dir / "work",
        states=job_dir.parent,
    )
    await asyncio.to_thread(catch_up, place, stage, job_dir)
    if digest := await _adopted(place, job, aside):
        return digest
    if pairs < place.settings.train.min_pairs:
        raise _too_few(place, stage, pairs)
    place.reporter.say(f"starting the trainer on {place.checkpoint.name}", pairs=pairs)
    return await train(place, stage, job, job_dir, partial(place.store.pairs.exclude, place.iteration.id))


async def sft(
    place: Workplace, stage: StageRow, output: Path, kinds: tuple[ExampleKind, ...], aside: str = STALE
) -> str:
    """The same for M_0 after SFT on the kept examples of these kinds."""
    job_dir = job_directory(place, stage, output.name)
    path = job_dir / "examples.jsonl"
    count = await asyncio.to_thread(_write_examples, place, path, kinds)
    job = SftJob(
        output=output,
        fence=place.fence,
        model=place.model_path,
        model_digest=place.checkpoint.digest,
        examples=path,
        settings=place.settings.bootstrap.sft,
        seed=place.settings.seed,
        work=job_dir / "work",
        states=job_dir.parent,
    )
    await asyncio.to_thread(catch_up, place, stage, job_dir)
    if digest := await _adopted(place, job, aside):
        return digest
    if not count:
        raise _nothing_to_learn(place, stage)
    place.reporter.say(f"starting the trainer on {place.checkpoint.name}", examples=count)
    leave_out = partial(place.store.examples.drop, reason=DropReason.TOO_LONG)
    return await train(place, stage, job, job_dir, leave_out)


async def _adopted(place: Workplace, job: DpoJob | SftJob, aside: str) -> str | None:
    """The digest of what a stop left finished in `job.output`, if this very training made it."""
    if not job.output.is_dir():
        return None
    digest = await asyncio.to_thread(adopt, job.output, job.origin(), place.fence, aside)
    if digest is not None:
        assert job.states is not None
        await asyncio.to_thread(forget, job.states)
        place.reporter.say(f"{job.output.name} was finished before: taken as it is", digest=digest[:12])
    elif not job.output.exists():
        message = f"{job.output.name} was there, of another training: moved aside and trained anew"
        place.store.journal.event(place.run.id, "checkpoint_stale", message, place.iteration.id)
        place.reporter.say(message)
    return digest


def _write_pairs(place: Workplace, path: Path) -> int:
    """The pairs to train on as JSONL; returns how many there are."""
    return write_rows(path, map(asdict, place.store.pairs.training_pairs(place.iteration.id)))


def _write_examples(place: Workplace, path: Path, kinds: tuple[ExampleKind, ...]) -> int:
    """The kept examples as JSONL; returns how many there are."""
    return write_rows(path, map(asdict, place.store.examples.kept(place.iteration.id, *kinds)))


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


def _nothing_to_learn(place: Workplace, stage: StageRow) -> Halted:
    message = f"there is no example to train on: {examples.describe(place)}"
    place.store.runs.fail_stage(stage.id, Status.HALTED, message)
    return Halted(
        message,
        "Name seeds with answers and ranked replies in seeds.files, or start from an instruct model "
        'with bootstrap = "none". See why with: selfreward query "select * from bootstrap_examples"',
    )
