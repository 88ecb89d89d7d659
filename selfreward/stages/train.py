"""M_t learns, in a child process, what `train.objective` says: M_{t+1} appears complete or not at all."""

import asyncio

from selfreward.crash import crash_point
from selfreward.stages import objectives, restore
from selfreward.stages.workplace import Workplace
from selfreward.training.checkpoint import collect_garbage
from selfreward.training.states import collect
from selfreward.types import CheckpointRow, StageName
from selfreward.whereabouts import at_stage


async def run(place: Workplace) -> CheckpointRow:
    """M_{t+1} as a row and a directory. One that a crash left without its row is adopted.

    Raises Halted when there is too little to learn from, TrainingError when the trainer failed, Drained
    when asked to stop. M_t is untouched by all of them.
    """
    store, kind, name = place.store, objectives.kind_of(place.settings.train), f"M_{place.iteration.t + 1}"
    stage = await asyncio.to_thread(store.runs.begin_stage, place.iteration.id, StageName.TRAIN)
    path = place.checkpoint_path(name)
    output = place.root / path
    await asyncio.to_thread(collect_garbage, output.parent)
    await asyncio.to_thread(collect, place.directory / "jobs", name, f"R_{place.iteration.t}")
    start = await restore.available(place, objectives.from_start(place))
    with at_stage(StageName.TRAIN):
        digest = await objectives.make(start, stage, output, kind)
    crash_point("train:published")
    store.runs.describe_stage(stage.id, f"{name} {digest[:12]}")
    place.reporter.end(StageName.TRAIN, f"{name} {digest[:12]}")
    trained = store.runs.finish_iteration(place.iteration, kind, path, digest, start.checkpoint.id)
    crash_point("train:recorded")
    return trained
