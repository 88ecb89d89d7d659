"""Models that come from outside: made into checkpoints once, and found intact before they are used."""

import asyncio
from pathlib import Path
from typing import Any

from selfreward.errors import BadInput
from selfreward.reporting import Reporter
from selfreward.stages.workplace import Drained
from selfreward.training.checkpoint import adoptable, collect_garbage, verify
from selfreward.training.jobs import ConvertJob
from selfreward.training.launch import Stopped, run_job
from selfreward.training.sources import parse_model_source
from selfreward.types import CheckpointRow


async def prepare_model(
    source: str, output: Path, run_dir: Path, *, fence: int, reporter: Reporter, stop: asyncio.Event
) -> str:
    """The digest of `source` as a checkpoint in `output`; one that is there already is taken as it is.

    Raises BadInput for a source that cannot be used, TrainingError when converting fails, Drained when
    asked to stop.
    """
    collect_garbage(output.parent)
    manifest = adoptable(output)
    if manifest is not None:
        return manifest.digest
    parse_model_source(source, run_dir)  # its complaints need no child to be heard
    reporter.say(f"preparing {output.name}", model=source)
    job = ConvertJob(source=source, run_dir=run_dir, output=output, fence=fence)
    try:
        return (await run_job(job, run_dir / "jobs" / output.name, _note(reporter), stop)).digest
    except Stopped:
        raise Drained from None


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
