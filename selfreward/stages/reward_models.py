"""The reward model that `judge.reward_model` names: R_t of this run, a directory, or a model of the hub."""

import asyncio
import functools
from dataclasses import dataclass, replace
from pathlib import Path

from selfreward.errors import BadInput
from selfreward.stages.workplace import Workplace
from selfreward.training import manifest
from selfreward.training.reward_source import OF_THIS_RUN, WHAT_WORKS, parse_reward_source
from selfreward.types import CheckpointKind, CheckpointRow

SUMMED = ("*.safetensors", "*.json", "*.jinja", "*.model")
"""Files that decide what a model gives."""


@dataclass(frozen=True, kw_only=True)
class NamedRewardModel:
    """A reward model as it is named, and where it is."""

    name: str
    source: str
    """A directory, or a hub id that is not fetched yet."""
    digest: str
    """Of its manifest or its files, or its commit on the hub; empty while that is not known."""
    checkpoint: CheckpointRow | None
    """Its row where it is one of this run's."""


def look_up(place: Workplace, name: str) -> NamedRewardModel:
    """What `name` means here. Raises BadInput for what is not there, and for what is no reward model."""
    name = name.strip()
    if OF_THIS_RUN.fullmatch(name):
        return _of_row(place, _row(place, name))
    source = parse_reward_source(name, place.directory)
    if source.path is None:
        return NamedRewardModel(name=name, source=name, digest=_commit(name), checkpoint=None)
    path = source.path.resolve()
    return NamedRewardModel(name=name, source=str(path), digest=_digest(path), checkpoint=None)


async def usable(place: Workplace, name: str) -> NamedRewardModel:
    """The same, with R_t of this run intact: made again from its rows if it must be.

    Raises whatever a training raises besides.
    """
    from selfreward.stages.restore import available  # which needs this: reinforcement is made again too

    found = await asyncio.to_thread(look_up, place, name)  # which may read every byte
    if found.checkpoint is None:
        return found
    intact = await available(place, replace(place, checkpoint=found.checkpoint))
    return _of_row(place, intact.checkpoint)


def _row(place: Workplace, name: str) -> CheckpointRow:
    """The run's own, or the nearest ancestor's: a fork from iteration t may be judged by its parent's R_t."""
    runs = place.store.runs
    family = [link.run_id for link in runs.lineage(place.run.id)]
    found = (runs.checkpoint_named(run_id, name) for run_id in family)
    row = next((row for row in found if row is not None), None)
    if row is not None and row.kind is CheckpointKind.REWARD:
        return row
    rows = {row.name: row for run_id in family for row in runs.checkpoints(run_id)}
    known = [
        key for key, row in rows.items() if row.kind is CheckpointKind.REWARD and OF_THIS_RUN.fullmatch(key)
    ]
    there = f"There are: {', '.join(sorted(known))}. " if known else ""
    raise BadInput(f"run {place.run.name!r} has no reward model {name}", there + WHAT_WORKS)


def _of_row(place: Workplace, row: CheckpointRow) -> NamedRewardModel:
    source = str(place.root / row.path)
    return NamedRewardModel(name=row.name, source=source, digest=row.digest, checkpoint=row)


def _digest(directory: Path) -> str:
    """Of the manifest where there is one, as another run's R_t has; else every byte is read, once."""
    found = manifest.read(directory)
    if found is not None:
        return found.digest
    files = sorted({file for pattern in SUMMED for file in directory.glob(pattern) if file.is_file()})
    return _summed(directory, tuple((file.name, file.stat().st_mtime_ns) for file in files))


@functools.lru_cache(maxsize=8)
def _summed(directory: Path, files: tuple[tuple[str, int], ...]) -> str:
    return manifest.digest_of(directory, [name for name, _ in files])


def _commit(name: str) -> str:
    """Which commit of a hub model is in the hub's cache; empty when none is."""
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(name, "config.json")
    return Path(found).parent.name if isinstance(found, str) else ""
