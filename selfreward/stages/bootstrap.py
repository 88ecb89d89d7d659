"""Iteration 0, where M_1 comes from: made once from the model that the settings name."""

import asyncio
from pathlib import Path
from typing import Any

from selfreward.config import Settings
from selfreward.errors import BadInput
from selfreward.reporting import Reporter
from selfreward.stages.workplace import Drained
from selfreward.store import Store
from selfreward.training.checkpoint import adoptable, collect_garbage, verify
from selfreward.training.jobs import ConvertJob
from selfreward.training.launch import Stopped, run_job
from selfreward.training.sources import parse_model_source
from selfreward.types import CheckpointKind, CheckpointRow, RunRow

MODELS = "models"


async def prepare(
    directory: Path,
    settings: Settings,
    store: Store,
    run: RunRow,
    fence: int,
    reporter: Reporter,
    stop: asyncio.Event,
) -> CheckpointRow:
    """M_1 as a row and a safetensors directory; one that a crash left without its row is adopted."""
    path = f"{MODELS}/M_1"
    final = directory / path
    collect_garbage(directory / MODELS)
    manifest = adoptable(final)
    if manifest is None:
        parse_model_source(settings.model, directory)  # its complaints need no child to be heard
        reporter.say("preparing M_1", model=settings.model)
        job = ConvertJob(source=settings.model, run_dir=directory, output=final, fence=fence)
        try:
            digest = (await run_job(job, directory / "jobs" / "M_1", _note(reporter), stop)).digest
        except Stopped:
            raise Drained from None
    else:
        digest = manifest.digest
    reporter.say("M_1 is ready", digest=digest[:12])
    return store.runs.add_checkpoint(run.id, 1, CheckpointKind.BASE, path, digest)


def require_intact(directory: Path, checkpoint: CheckpointRow) -> None:
    """Raise BadInput unless the checkpoint's files are there, of the right size, and are its own."""
    path = directory / checkpoint.path
    problems = verify(path)
    manifest = adoptable(path)
    if manifest is not None and manifest.digest != checkpoint.digest:
        problems = [f"it holds {manifest.digest[:12]}, the database says {checkpoint.digest[:12]}"]
    if problems:
        raise BadInput(
            f"{checkpoint.name} at {path} is not intact: {'; '.join(problems)}",
            "Restore that directory from a copy. The rows of the database are all there.",
        )


def _note(reporter: Reporter) -> Any:
    async def note(event: dict[str, Any]) -> None:
        if event["event"] == "note":
            reporter.say(str(event["message"]))

    return note
