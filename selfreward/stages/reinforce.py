"""Reinforcement learning of M_t on the iteration's prompts: RLHF, and RLAIF distilled or direct.

Distilled (arXiv 2203.02155, 2309.00267), a reward model gives the rewards: R_t, trained on the iteration's
pairs first, or the one that `judge.reward_model` names. Direct (2309.00267), M_t gives them as a judge: an
engine serves it, frozen, while the child trains beside it. If that engine dies, so does the child; both are
started again, as often as an engine is, and the training goes on from its last saved state.
"""

import asyncio
import random
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from selfreward.engines.base import ServedEngine
from selfreward.errors import BadInput, EngineError, Halted, TrainingError
from selfreward.stages.judge import rubric
from selfreward.stages.making import Learnt, fields, trained
from selfreward.stages.pump import first_of
from selfreward.stages.reward import train_reward
from selfreward.stages.reward_models import SUMMED, usable
from selfreward.stages.session import engine_session
from selfreward.stages.trainer import LeaveOut, job_directory, train, write_rows
from selfreward.stages.workplace import Workplace
from selfreward.training.checkpoint import STALE
from selfreward.training.jobs import AnyTraining, RlJob
from selfreward.training.reward_source import WHAT_WORKS
from selfreward.training.states import latest_step
from selfreward.types import CheckpointRow, PromptRow, StageRow

ENGINE_FAILED = "engine"
"""Kind of a trainer's failure that is the judge's engine's."""


async def run(place: Workplace, stage: StageRow, output: Path, aside: str = STALE) -> str:
    """The digest of M_{t+1} in `output`. What a stop left finished there is adopted.

    Raises Halted when there is no prompt, TrainingError when the trainer failed, EngineError when the
    judge's engine did, Drained when asked to stop.
    """
    job_dir = job_directory(place, stage, output.name)
    path = job_dir / "prompts.jsonl"
    prompts = await asyncio.to_thread(_prompts, place)
    await asyncio.to_thread(write_rows, path, ({"prompt_id": row.id, "prompt": row.text} for row in prompts))
    job = RlJob(prompts=path, settings=place.settings.train, **fields(place, output, job_dir))
    learnt = Learnt("prompts", len(prompts), partial(_no_prompts, place), lambda ids: None)
    if place.settings.train.rl.reward == "judge":
        return await trained(place, stage, _judged(place, job), learnt, aside, by=_beside_judge)
    return await trained(place, stage, await _scored(place, job), learnt, aside)


def _prompts(place: Workplace) -> list[PromptRow]:
    """What the policy answers: the accepted prompts, at most `max_prompts` of them, drawn by the seed."""
    settings = place.settings
    rows = [row for iteration in _iterations(place) for row in place.store.prompts.accepted(iteration)]
    most = settings.train.rl.max_prompts
    if not most or len(rows) <= most:
        return rows
    draw = random.Random(f"{settings.seed} rl {place.iteration.t}")
    return sorted(draw.sample(rows, most), key=lambda row: row.id)


def _iterations(place: Workplace) -> Sequence[int]:
    """Whose prompts, by `train.data`."""
    if place.settings.train.data == "current":
        return [place.data_iteration]
    history = place.store.runs.iteration_in_history
    found = (history(place.run.id, t) for t in range(1, place.iteration.t + 1))
    return [iteration.data_iteration_id for iteration in found if iteration is not None]


def _no_prompts(place: Workplace, count: int) -> Halted:
    return Halted(
        f"iteration {place.iteration.t} has no prompt to answer",
        f"{place.checkpoint.name} stays the current model. Raise self_instruct.target, or see why prompts "
        'were turned away with:\n  selfreward query "select reject_reason, count(*) from prompt group by 1"',
    )


async def _scored(place: Workplace, job: RlJob) -> RlJob:
    """The job with its reward model, trained first if none is named."""
    current = replace(place, checkpoint=_current(place))
    name = place.settings.judge.reward_model or (await train_reward(current)).name
    model = await usable(current, name)
    path = await asyncio.to_thread(_local, model.source)
    return job.model_copy(update={"reward_model": path, "reward_digest": model.digest or model.source})


def _local(source: str) -> Path:
    """Where a reward model's files are: the trainer, which is offline, finds them there. Blocks."""
    if Path(source).is_dir():
        return Path(source)
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(source, allow_patterns=list(SUMMED)))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        reason = str(error).partition("\n")[0]
        raise BadInput(f"the reward model {source} cannot be fetched: {reason}", WHAT_WORKS) from error


def _current(place: Workplace) -> CheckpointRow:
    """M_t, whatever training starts from."""
    return place.store.runs.checkpoint_by_id(place.iteration.checkpoint_id)


def _judged(place: Workplace, job: RlJob) -> RlJob:
    """The job with its judge, which has no address yet: that is not what a training is known by."""
    settings = place.settings.judge
    return job.model_copy(
        update={
            "reward_digest": _current(place).digest,
            "judge": settings,
            "template": rubric(settings, place.directory).text,
        }
    )


async def _beside_judge(
    place: Workplace, stage: StageRow, job: AnyTraining, job_dir: Path, leave_out: LeaveOut
) -> str:
    """`train` while an engine serves M_t. Raises what the engine died of, when it did."""
    assert job.states is not None
    before = await asyncio.to_thread(latest_step, job.states)
    async with engine_session(_judge_place(place)) as (engine, _):
        told = job.model_copy(update={"judge_url": engine.url, "judge_model": engine.model})
        training = asyncio.create_task(train(place, stage, told, job_dir, leave_out))
        try:
            await first_of(asyncio.wait([training]), engine.died.wait())
            if training.done():
                return training.result()
        except TrainingError as error:
            if error.kind != ENGINE_FAILED:
                raise
        finally:
            training.cancel()
            await asyncio.wait([training])
            if await asyncio.to_thread(latest_step, job.states) > before:
                place.load.rows += 1  # that much is done, whatever the engine died of
        raise await _cause(engine)


def _judge_place(place: Workplace) -> Workplace:
    """M_t, with the engine's part of a GPU's memory while the trainer has the rest."""
    memory = {"memory": place.settings.train.rl.engine_memory}
    engine = place.settings.engine.model_copy(update=memory)
    return replace(
        place, checkpoint=_current(place), settings=place.settings.model_copy(update={"engine": engine})
    )


async def _cause(engine: ServedEngine) -> EngineError:
    """Why there are no rewards any more: the engine's own report if it is dead."""
    try:
        await engine.statistics()
    except EngineError as error:
        return error
    return EngineError("the judge's engine answers no more requests of the trainer", "See its log in logs/.")
