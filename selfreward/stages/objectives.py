"""What `train.objective` makes M_{t+1} of: the same for the first time and when it was lost."""

import asyncio
import os
import shutil
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

from selfreward.config import TrainSettings
from selfreward.errors import Halted
from selfreward.stages import groups, making, reinforce
from selfreward.stages.making import Learnt, fields, trained
from selfreward.stages.reward import train_reward
from selfreward.stages.trainer import job_directory, write_rows
from selfreward.stages.workplace import Workplace
from selfreward.training import checkpoint
from selfreward.training.checkpoint import STALE, adopt
from selfreward.training.jobs import RankJob, SftJob, plain
from selfreward.types import CheckpointKind, StageRow

Make = Callable[[Workplace, StageRow, Path, str], Awaitable[str]]
"""Given the place, the stage, where M_{t+1} belongs and what to call what is moved out of its way."""


def kind_of(settings: TrainSettings) -> CheckpointKind:
    """What M_{t+1} is called for how it was made."""
    return CheckpointKind.COPY if settings.objective == "reward_model" else CheckpointKind(settings.objective)


def from_start(place: Workplace) -> Workplace:
    """The place with the model in M_t's stead that training starts from, by `train.init_from`."""
    settings = place.settings.train
    first = place.store.runs.checkpoint(place.iteration.run_id, 1)
    if settings.init_from == "current" or settings.objective == "reward_model" or first is None:
        return place
    return replace(place, checkpoint=first)


async def make(
    place: Workplace, stage: StageRow, output: Path, kind: CheckpointKind, aside: str = STALE
) -> str:
    """The digest of M_{t+1} in `output`. What a stop left finished there is adopted.

    Raises Halted when there is too little to learn from, TrainingError when the trainer failed, Drained
    when asked to stop.
    """
    return await MAKE[kind](place, stage, output, aside)


async def _rank(place: Workplace, stage: StageRow, output: Path, aside: str) -> str:
    """M_t after RRHF on all scored candidates."""
    job_dir = job_directory(place, stage, output.name)
    path = job_dir / "groups.jsonl"
    count = await asyncio.to_thread(write_rows, path, groups.rank_rows(place))
    job = RankJob(groups=path, settings=place.settings.train, **fields(place, output, job_dir))
    learnt = Learnt("prompts", count, partial(_too_few_groups, place), lambda ids: None)
    return await trained(place, stage, job, learnt, aside)


async def _positive(place: Workplace, stage: StageRow, output: Path, aside: str) -> str:
    """M_t after SFT on its best answers."""
    job_dir = job_directory(place, stage, output.name)
    path = job_dir / "examples.jsonl"
    count = await asyncio.to_thread(write_rows, path, groups.positive_rows(place))
    settings = place.settings.train
    job = SftJob(
        section="train",
        examples=path,
        settings=plain(settings),
        min_examples=settings.min_pairs,
        **fields(place, output, job_dir),
    )
    learnt = Learnt("examples", count, partial(_too_few_positive, place), lambda ids: None)
    return await trained(place, stage, job, learnt, aside)


async def _reward_model(place: Workplace, stage: StageRow, output: Path, aside: str) -> str:
    """R_t, a reward model, is trained; M_{t+1} is M_t as it is."""
    await train_reward(place)
    return await asyncio.to_thread(copy, place, output, aside)


async def _reinforce(place: Workplace, stage: StageRow, output: Path, aside: str) -> str:
    """M_t after reinforcement learning on what it answers."""
    return await reinforce.run(place, stage, output, aside)


async def _dpo(place: Workplace, stage: StageRow, output: Path, aside: str) -> str:
    return await making.dpo(place, stage, output, aside)


MAKE: Mapping[CheckpointKind, Make] = {
    CheckpointKind.DPO: _dpo,
    CheckpointKind.CDPO: _dpo,
    CheckpointKind.CREAM: _dpo,
    CheckpointKind.SLIC: _dpo,
    CheckpointKind.RRHF: _rank,
    CheckpointKind.SFT_POSITIVE: _positive,
    CheckpointKind.COPY: _reward_model,
    CheckpointKind.RL: _reinforce,
}


def copy(place: Workplace, output: Path, aside: str = STALE) -> str:
    """M_t's files under another name, linked where the file system can; returns their digest. Blocks."""
    origin = f"copy of {place.checkpoint.digest}"
    if digest := adopt(output, origin, place.fence, aside) if output.is_dir() else None:
        return digest
    temporary = checkpoint.temporary_path(output, place.fence)
    shutil.rmtree(temporary, ignore_errors=True)
    left_out = shutil.ignore_patterns(checkpoint.MANIFEST)
    shutil.copytree(place.model_path, temporary, ignore=left_out, copy_function=_link)
    digest = checkpoint.write_manifest(temporary, [origin])
    checkpoint.publish(temporary, output)
    return digest


def _link(source: str, target: str) -> None:
    """A second name for the same bytes, which are never written to; a copy where that is not possible."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def _too_few_groups(place: Workplace, prompts: int) -> Halted:
    needed = place.settings.train.min_pairs
    return Halted(
        f"{prompts} prompts have two or more answers of different scores; rrhf needs {needed} "
        "(train.min_pairs counts prompts here)",
        f"{place.checkpoint.name} stays the current model. More prompts (self_instruct.target), more "
        'candidates (sample.candidates), or a judge whose scores differ more (judge.score = "expected") '
        "give more.",
    )


def _too_few_positive(place: Workplace, answers: int) -> Halted:
    settings, scores = place.settings.train, groups.best_scores(place)
    needed = max(1, settings.min_pairs)
    message = (
        f"{answers} answers have a mean score of {settings.positive_score:g} or more "
        f"(train.positive_score); sft_positive needs {needed} (train.min_pairs)"
    )
    if len(scores) < needed:
        hint = f"Only {len(scores)} answers have a score: raise self_instruct.target or sample.candidates."
        return Halted(message, hint)
    best = ", ".join(f"{score:g}" for score in scores[:5])
    works = int(scores[needed - 1] * 1000) / 1000
    return Halted(
        f"{message}; the best scores are {best}",
        f"{place.checkpoint.name} stays the current model. With train.positive_score = {works:g} there are "
        f"{sum(score >= works for score in scores)}: set it and start with --accept-changed-settings. More "
        "candidates (sample.candidates) give better ones.",
    )
