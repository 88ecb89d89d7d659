"""R_t: a reward model, trained on the iteration's pairs and kept beside M_t."""

import asyncio
from functools import partial
from pathlib import Path

from selfreward.crash import crash_point
from selfreward.errors import Halted
from selfreward.stages.making import Learnt, fields, leave_out_pairs, trained, write_pairs
from selfreward.stages.pair import describe
from selfreward.stages.trainer import job_directory
from selfreward.stages.workplace import Workplace
from selfreward.training.checkpoint import STALE, collect_garbage
from selfreward.training.jobs import RewardJob, reward_settings
from selfreward.types import CheckpointKind, CheckpointRow, StageName, StageRow, Status
from selfreward.whereabouts import at_stage


def reward_name(t: int) -> str:
    """What the reward model of iteration t is called."""
    return f"R_{t}"


async def train_reward(place: Workplace) -> CheckpointRow:
    """R_t as a row and a directory; goes on where an earlier attempt stopped, and is there once.

    Raises Halted when there are too few pairs, TrainingError when the trainer failed, Drained when asked
    to stop. M_t is untouched by all of them.
    """
    runs, name = place.store.runs, reward_name(place.iteration.t)
    stage = await asyncio.to_thread(runs.begin_stage, place.iteration.id, StageName.TRAIN_REWARD)
    path, row = place.checkpoint_path(name), runs.checkpoint_named(place.run.id, name)
    if row is None:
        await asyncio.to_thread(collect_garbage, (place.root / path).parent)
        with at_stage(StageName.TRAIN_REWARD):
            digest = await make(place, stage, place.root / path)
        crash_point("train_reward:published")
        version, parent = place.iteration.t, place.checkpoint.id
        row = runs.add_checkpoint(place.run.id, version, CheckpointKind.REWARD, path, digest, parent, name)
        crash_point("train_reward:recorded")
    if stage.status is not Status.DONE:
        detail = f"{name} {row.digest[:12]}"
        runs.finish_stage(stage.id, detail)
        place.reporter.end(StageName.TRAIN_REWARD, detail)
    return row


async def make(place: Workplace, stage: StageRow, output: Path, aside: str = STALE) -> str:
    """The digest of a reward model in `output`, trained from M_t. A finished one is adopted.

    What is found in `output` and was made from something else is moved to `<output>.<aside>-<number>`.
    Raises as `train_reward` does.
    """
    job_dir = job_directory(place, stage, output.name)
    path = job_dir / "pairs.jsonl"
    count = await asyncio.to_thread(write_pairs, place, path)
    train = place.settings.train
    job = RewardJob(
        pairs=path,
        settings=reward_settings(train),
        min_pairs=train.min_pairs,
        **fields(place, output, job_dir),
    )
    learnt = Learnt("pairs", count, partial(_too_few, place), partial(leave_out_pairs, place))
    return await trained(place, stage, job, learnt, aside)


def _too_few(place: Workplace, pairs: int) -> Halted:
    outcomes = place.store.pairs.outcomes(place.iteration.id)
    return Halted(
        f"{pairs} pairs are too few to train a reward model on (train.min_pairs is "
        f"{place.settings.train.min_pairs}): {describe(outcomes)}",
        f"{place.checkpoint.name} stays the current model. See why with:\n"
        '  selfreward query "select * from pair_outcomes"\n'
        'pair.rule = "all_pairs" and more candidates (sample.candidates) give more pairs; '
        "judge.reward_model names a reward model that is there already.",
    )
