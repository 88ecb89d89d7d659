"""How a checkpoint comes out of a training on stored rows: the first time, and again when it was lost."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from selfreward.config.consistency import ON_PAIRS
from selfreward.errors import Halted
from selfreward.stages import consistency, examples, meta
from selfreward.stages.pair import describe
from selfreward.stages.trainer import LeaveOut, catch_up, job_directory, train, write_rows
from selfreward.stages.workplace import Workplace
from selfreward.training.checkpoint import STALE, adopt
from selfreward.training.jobs import AnyTraining, DpoJob, SftJob, plain
from selfreward.training.states import forget
from selfreward.types import DropReason, ExampleKind, IterationRow, StageRow, Status, TrainingPair

Train = Callable[[Workplace, StageRow, AnyTraining, Path, LeaveOut], Awaitable[str]]
HARD = ("dpo", "slic")
"""Objectives whose losses know no soft labels."""
BASELINE = "M_0_ift"
"""The SFT baseline: M_0 after instruction examples alone."""
BOTH = (ExampleKind.IFT, ExampleKind.EFT)
BASELINE_KINDS = (ExampleKind.IFT,)


async def dpo(place: Workplace, stage: StageRow, output: Path, aside: str = STALE) -> str:
    """The digest of M_t after DPO, or a relative of it, on the iteration's pairs, in `output`.

    A finished one is adopted; what is found in `output` and was made from something else is moved to
    `<output>.<aside>-<number>`. Raises Halted when there are too few pairs, TrainingError when the trainer
    failed, Drained when asked to stop.
    """
    job_dir = job_directory(place, stage, output.name)
    path = job_dir / "pairs.jsonl"
    count = await asyncio.to_thread(write_pairs, place, path)
    job = DpoJob(pairs=path, settings=place.settings.train, **fields(place, output, job_dir))
    return await trained(
        place,
        stage,
        job,
        Learnt("pairs", count, partial(_too_few, place), partial(leave_out_pairs, place)),
        aside,
    )


async def sft(
    place: Workplace, stage: StageRow, output: Path, kinds: tuple[ExampleKind, ...], aside: str = STALE
) -> str:
    """The same for M_0 after SFT on the kept examples of these kinds."""
    job_dir = job_directory(place, stage, output.name)
    path = job_dir / "examples.jsonl"
    count = await asyncio.to_thread(_write_examples, place, path, kinds)
    settings = plain(place.settings.bootstrap.sft)
    job = SftJob(examples=path, settings=settings, **fields(place, output, job_dir))
    leave_out = partial(place.store.examples.drop, reason=DropReason.TOO_LONG)
    learnt = Learnt("examples", count, lambda count: _nothing_to_learn(place), leave_out)
    return await trained(place, stage, job, learnt, aside)


@dataclass(frozen=True)
class Learnt:
    """What a training learns from."""

    name: str
    """pairs, examples, …"""
    count: int
    too_few: Callable[[int], Halted]
    """What to say when there are fewer than the job needs."""
    leave_out: LeaveOut
    """Told the ids of what is too long."""


def fields(place: Workplace, output: Path, job_dir: Path) -> dict[str, Any]:
    """What every job that trains M_t is told."""
    return {
        "output": output,
        "fence": place.fence,
        "model": place.model_path,
        "model_digest": place.checkpoint.digest,
        "seed": place.settings.seed,
        "work": job_dir / "work",
        "states": job_dir.parent,
    }


async def trained(
    place: Workplace,
    stage: StageRow,
    job: AnyTraining,
    learnt: Learnt,
    aside: str = STALE,
    by: Train = train,
) -> str:
    """The digest of what the job makes, or has made before a stop. Raises as `dpo` does.

    `by` runs the job: `trainer.train`, or that with something beside it.
    """
    job_dir = job.work.parent
    await asyncio.to_thread(catch_up, place, stage, job_dir)
    if digest := await _adopted(place, job, aside):
        return digest
    if learnt.count < job.needed:
        halted = learnt.too_few(learnt.count)
        place.store.runs.fail_stage(stage.id, Status.HALTED, halted.message)
        raise halted
    figures: dict[str, Any] = {learnt.name: learnt.count}
    place.reporter.say(f"starting the trainer on {place.checkpoint.name}", **figures)
    return await by(place, stage, job, job_dir, learnt.leave_out)


async def _adopted(place: Workplace, job: AnyTraining, aside: str) -> str | None:
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


def write_pairs(place: Workplace, path: Path) -> int:
    """The pairs to train on as JSONL, with what `train.objective` needs of them; returns how many."""
    return write_rows(path, _pair_rows(place))


def _pair_rows(place: Workplace) -> Iterator[dict[str, Any]]:
    """The pairs that are learnt from; then those of judgements, whose ids are negative."""
    objective, agreement = place.settings.train.objective, consistency.label(place)
    for iteration in iterations(place):
        for pair in place.store.pairs.training_pairs(iteration.id):
            more: dict[str, Any] = {}
            if objective not in HARD:
                more["soft_label"] = pair.soft_label if agreement is None else agreement
            if objective == "slic" and place.settings.train.slic.target == "reference":
                more["reference"] = pair.reference
            yield _texts(pair) | {name: value for name, value in more.items() if value is not None}
    if objective in ON_PAIRS:
        for iteration in iterations(place):
            yield from map(_texts, meta.training_pairs(place, iteration.id))


def _texts(pair: TrainingPair) -> dict[str, Any]:
    return {
        "pair_id": pair.pair_id,
        "prompt": pair.prompt,
        "chosen": pair.chosen,
        "rejected": pair.rejected,
    }


def iterations(place: Workplace) -> list[IterationRow]:
    """The iterations that are learnt from, by `train.data`: this one, or all of the run up to it."""
    if place.settings.train.data == "current":
        return [place.iteration]
    history, run = place.store.runs.iteration_in_history, place.iteration.run_id
    earlier = (history(run, t) for t in range(1, place.iteration.t))
    return [*(each for each in earlier if each is not None), place.iteration]


def leave_out_pairs(place: Workplace, pair_ids: Sequence[int]) -> None:
    """Mark pairs that are too long for the trainer."""
    meta.exclude(place, pair_ids)


def _write_examples(place: Workplace, path: Path, kinds: tuple[ExampleKind, ...]) -> int:
    """The kept examples as JSONL; returns how many there are."""
    return write_rows(path, map(asdict, place.store.examples.kept(place.iteration.id, *kinds)))


def _too_few(place: Workplace, pairs: int) -> Halted:
    needed = place.settings.train.min_pairs
    outcomes = place.store.pairs.outcomes(place.iteration.id)
    return Halted(
        f"{pairs} pairs are too few to train on (train.min_pairs is {needed}): {describe(outcomes)}",
        f"{place.checkpoint.name} stays the current model. See why with:\n"
        '  selfreward query "select * from pair_outcomes"\n'
        "More prompts (self_instruct.target), more candidates, more judgements per candidate or "
        "judge.guided = true give more pairs.",
    )


def _nothing_to_learn(place: Workplace) -> Halted:
    return Halted(
        f"there is no example to train on: {examples.describe(place)}",
        "Name seeds with answers and ranked replies in seeds.files, or start from an instruct model "
        'with bootstrap = "none". See why with: selfreward query "select * from bootstrap_examples"',
    )
