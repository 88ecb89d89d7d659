"""Finds M_t intact before it is used, and makes it again from what is stored when it is not.

A checkpoint that is damaged or gone is never used and never removed: its directory is moved aside. It is
trained again from the checkpoint before it, which must be intact itself, on the same rows and under the
same settings; the first one is prepared again from its source. On one machine that gives the same bytes.
Where it does not, the new checkpoint takes the place of the old one, whose row stays under another name.
"""

import asyncio
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from selfreward.config import Settings
from selfreward.errors import BadInput, TrainingError
from selfreward.stages import evaluate, making, objectives, reward
from selfreward.stages.model import prepare_model
from selfreward.stages.workplace import Workplace
from selfreward.store.replacing import files_are_back, move_iteration, present_name, replace_checkpoint
from selfreward.training.checkpoint import DAMAGED, adoptable, read_manifest, set_aside, verify
from selfreward.types import CheckpointKind, CheckpointRow, IterationRow, StageName, Status

BIG = 2**31
"""Bytes that take long enough to read that one wants to know what is being waited for."""
HINT = "Put an intact copy of that directory back and start again. The rows of the database are all there."


async def intact(place: Workplace, sound: set[str]) -> Workplace:
    """The place with M_t intact, made again if it must be.

    `sound` is what this daemon has read in full: the first time every byte is compared with its sum,
    afterwards names and sizes are. Raises BadInput when M_t cannot be made again, and
    whatever a training raises.
    """
    checkpoint = await _intact(place, place.checkpoint, sound)
    found = replace(place, checkpoint=checkpoint)
    before = place.store.runs.checkpoint_by_id(place.iteration.checkpoint_id)
    if before.id == checkpoint.id or _successor(place, before).id != checkpoint.id:
        return found
    if place.iteration.status is Status.DONE:
        return found
    await asyncio.to_thread(
        move_iteration, place.store.database, place.iteration.id, checkpoint.id, evaluate.ALL
    )
    return replace(found, iteration=replace(place.iteration, checkpoint_id=checkpoint.id))


async def available(place: Workplace, other: Workplace) -> Workplace:
    """The `other` place with its checkpoint intact, which may be another than M_t: read in full then."""
    if other.checkpoint.id == place.checkpoint.id:
        return other
    return replace(other, checkpoint=await _intact(place, other.checkpoint, set()))


async def _intact(place: Workplace, checkpoint: CheckpointRow, sound: set[str]) -> CheckpointRow:
    checkpoint = _successor(place, checkpoint)
    problems = await _problems(place, checkpoint, sound)
    if problems:
        checkpoint = await _restore(place, checkpoint, problems, sound)
    sound.add(_key(checkpoint))
    return checkpoint


def _successor(place: Workplace, checkpoint: CheckpointRow) -> CheckpointRow:
    """What has taken the place of a checkpoint that was lost before; else the checkpoint itself."""
    name = present_name(checkpoint.name)
    if name == checkpoint.name:
        return checkpoint
    return place.store.runs.checkpoint_named(checkpoint.run_id, name) or checkpoint


async def _problems(place: Workplace, checkpoint: CheckpointRow, sound: set[str]) -> list[str]:
    """Where the checkpoint's files are not what was recorded, in words."""
    path, deep = place.root / checkpoint.path, _key(checkpoint) not in sound
    if not path.is_dir():
        return ["its files were removed to save space" if checkpoint.removed else "it is not there"]
    size = sum(file.stat().st_size for file in path.glob("*.safetensors"))
    if deep and size > BIG:
        place.reporter.say(f"comparing every byte of {checkpoint.name} with its sums", gb=round(size / 1e9))
    problems = await asyncio.to_thread(verify, path, deep)
    manifest = read_manifest(path)
    if not problems and manifest is not None and manifest.digest != checkpoint.digest:
        return [f"it is another one: {manifest.digest[:12]}, and not {checkpoint.digest[:12]}"]
    return problems


def _key(checkpoint: CheckpointRow) -> str:
    return f"{checkpoint.path} {checkpoint.digest}"


async def _restore(
    place: Workplace, checkpoint: CheckpointRow, problems: list[str], sound: set[str]
) -> CheckpointRow:
    """The checkpoint made again: its own row, or that of the one that has taken its place."""
    _require_idle(place, checkpoint, problems)
    described = _describe(place, checkpoint, problems)
    await asyncio.to_thread(_move_aside, place.root / checkpoint.path, checkpoint)
    _tell(place, "checkpoint_damaged", f"{described}; it is made again", checkpoint, problems=problems)
    if checkpoint.kind is CheckpointKind.BASE:
        await _prepare_again(place, checkpoint, problems)
        return await _as_before(place, checkpoint, "its source")
    iteration = _made_in(place, checkpoint, problems)
    assert checkpoint.parent_id is not None
    parent = await _intact(place, place.store.runs.checkpoint_by_id(checkpoint.parent_id), sound)
    digest = await _train_again(_place_of(place, iteration, parent), checkpoint)
    if digest == checkpoint.digest:
        return await _as_before(place, checkpoint, parent.name)
    return await _taken_over(place, checkpoint, parent, digest)


def _require_idle(place: Workplace, checkpoint: CheckpointRow, problems: list[str]) -> None:
    """That of the run which this one was forked from is made again in its place, if nobody is there."""
    timeout = place.settings.daemon.lease_timeout_s
    if checkpoint.run_id != place.run.id and place.store.leases.running(checkpoint.run_id, timeout):
        raise BadInput(
            f"{_describe(place, checkpoint, problems)}; it belongs to another run, whose daemon is at work",
            "Stop that daemon with `selfreward stop` and start again: then the checkpoint is made again. "
            "Or put an intact copy of that directory back.",
        )


def _move_aside(path: Path, checkpoint: CheckpointRow) -> None:
    """Keep what is left of the checkpoint out of the way.

    A finished checkpoint that is only another one may come from an attempt to make this one again that was
    cut short: it is left for the training to take or to move aside.
    """
    found = adoptable(path) if checkpoint.kind is not CheckpointKind.BASE else None
    if path.exists() and (found is None or not found.made_from or found.digest == checkpoint.digest):
        set_aside(path, DAMAGED)


def _remains(place: Workplace, checkpoint: CheckpointRow) -> str:
    """The directory moved aside last, as a checkpoint's path; its own when there is none."""
    path = place.root / checkpoint.path
    moved = sorted(path.parent.glob(f"{path.name}.{DAMAGED}-*"), key=lambda each: each.stat().st_ctime)
    return Path(checkpoint.path).with_name(moved[-1].name).as_posix() if moved else checkpoint.path


async def _prepare_again(place: Workplace, checkpoint: CheckpointRow, problems: list[str]) -> None:
    """M_0 or M_1 from its source, which must give the same bytes. Raises BadInput when it does not."""
    first = place.store.runs.iteration(checkpoint.run_id, checkpoint.version)
    source = place.settings.model if first is None else str(place.store.runs.settings_of(first)["model"])
    path, described = place.root / checkpoint.path, _describe(place, checkpoint, problems)
    try:
        digest = await prepare_model(
            source, path, place.root, fence=place.fence, reporter=place.reporter, stop=place.stop
        )
    except (BadInput, TrainingError) as error:
        if isinstance(error, TrainingError) and error.kind != "bad_model":
            raise
        raise BadInput(f"{described}, and cannot be prepared again: {error.message}", HINT) from error
    if digest != checkpoint.digest:
        await asyncio.to_thread(shutil.rmtree, path)
        raise BadInput(
            f"{described}, and model = {source!r} gives another one by now: {digest[:12]}, and not "
            f"{checkpoint.digest[:12]}",
            HINT,
        )


def _made_in(place: Workplace, checkpoint: CheckpointRow, problems: list[str]) -> IterationRow:
    """The iteration that trained the checkpoint; the baseline stands beside M_0, and R_t beside M_t."""
    t = checkpoint.version - (checkpoint.kind is not CheckpointKind.REWARD)
    iteration = place.store.runs.iteration(checkpoint.run_id, max(t, 0))
    if iteration is None or checkpoint.parent_id is None:
        message = f"{_describe(place, checkpoint, problems)}, and it is not stored what it was trained on"
        raise BadInput(message, HINT)
    return iteration


def _place_of(place: Workplace, iteration: IterationRow, parent: CheckpointRow) -> Workplace:
    """The place of an earlier iteration, with the settings it was last worked on with."""
    try:
        settings = Settings.model_validate(dict(place.store.runs.settings_of(iteration)))
    except ValidationError:  # of a version that knew other settings
        place.reporter.say(f"the settings of iteration {iteration.t} cannot be read: today's are used")
        settings = place.settings
    return replace(place, iteration=iteration, checkpoint=parent, settings=settings)


async def _train_again(place: Workplace, checkpoint: CheckpointRow) -> str:
    """The digest that comes of it this time. Its figures are those of another attempt of the stage."""
    runs, name = place.store.runs, _stage_of(checkpoint)
    await asyncio.to_thread(runs.reopen_stage, place.iteration.id, name)
    stage = await asyncio.to_thread(runs.begin_stage, place.iteration.id, name)
    output = place.root / checkpoint.path
    if checkpoint.kind is CheckpointKind.SFT:
        kinds = making.BASELINE_KINDS if name is StageName.BASELINE else making.BOTH
        digest = await making.sft(place, stage, output, kinds, aside=DAMAGED)
    elif checkpoint.kind is CheckpointKind.REWARD:
        digest = await reward.make(place, stage, output, aside=DAMAGED)
    elif checkpoint.kind is CheckpointKind.COPY:  # whatever became of the reward model beside it
        digest = await asyncio.to_thread(objectives.copy, place, output, DAMAGED)
    else:
        digest = await objectives.make(place, stage, output, checkpoint.kind, aside=DAMAGED)
    detail = f"{checkpoint.name} {digest[:12]}"
    await asyncio.to_thread(runs.finish_stage, stage.id, detail)
    place.reporter.end(name, detail)
    return digest


def _stage_of(checkpoint: CheckpointRow) -> StageName:
    """In which it was trained."""
    if checkpoint.kind is CheckpointKind.REWARD:
        return StageName.TRAIN_REWARD
    return StageName.BASELINE if checkpoint.name == making.BASELINE else StageName.TRAIN


async def _as_before(place: Workplace, checkpoint: CheckpointRow, origin: str) -> CheckpointRow:
    """It is the same to the byte: nothing refers to anything else."""
    await asyncio.to_thread(files_are_back, place.store.database, checkpoint.id)
    message = f"{checkpoint.name} is made again from {origin}, and is the same to the byte"
    _tell(place, "checkpoint_restored", message, checkpoint, same=True)
    return replace(checkpoint, removed=False)


async def _taken_over(
    place: Workplace, lost: CheckpointRow, parent: CheckpointRow, digest: str
) -> CheckpointRow:
    """Another one: it takes the name, and whatever was made with the old one still refers to that."""
    baseline = lost.name == making.BASELINE
    name = await asyncio.to_thread(
        replace_checkpoint,
        place.store.database,
        lost,
        digest=digest,
        parent_id=parent.id,
        remains=_remains(place, lost),
        iteration_id=place.iteration.id if baseline else None,
        reopen=(StageName.JUDGE, StageName.MEASURE_BASELINE),
    )
    found = place.store.runs.checkpoint_named(lost.run_id, lost.name)
    assert found is not None
    message = f"{lost.name} is made again from {parent.name}, and is another one: the old one is now {name}"
    _tell(place, "checkpoint_restored", message, found, same=False, lost=lost.digest, lost_name=name)
    return found


def _tell(place: Workplace, kind: str, message: str, checkpoint: CheckpointRow, **data: Any) -> None:
    """An event of the run, and a line."""
    told = {"checkpoint": checkpoint.name, "digest": checkpoint.digest, **data}
    place.store.journal.event(place.run.id, kind, message, place.iteration.id, **told)
    place.reporter.say(message)


def _describe(place: Workplace, checkpoint: CheckpointRow, problems: list[str]) -> str:
    path = place.root / checkpoint.path
    return f"{checkpoint.name} at {path} is not intact: {'; '.join(problems)}"
