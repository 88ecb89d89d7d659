"""Models that come from outside: made into checkpoints once."""

import asyncio
from pathlib import Path
from typing import Any

from selfreward.reporting import Reporter
from selfreward.stages.workplace import Drained
from selfreward.training.checkpoint import adopt, collect_garbage
from selfreward.training.jobs import ConvertJob
from selfreward.training.launch import Stopped, run_job
from selfreward.training.origin import of_source
from selfreward.training.sources import parse_model_source


async def prepare_model(
    source: str, output: Path, run_dir: Path, *, fence: int, reporter: Reporter, stop: asyncio.Event
) -> str:
    """The digest of `source` as a checkpoint in `output`; one that is there already is taken as it is,
    unless it is known to come from another source: then it is moved aside.

    Raises BadInput for a source that cannot be used, TrainingError when converting fails, Drained when
    asked to stop.
    """
    await asyncio.to_thread(collect_garbage, output.parent)
    digest = await asyncio.to_thread(adopt, output, of_source(source), fence)
    if digest is not None:
        return digest
    parse_model_source(source, run_dir)  # its complaints need no child to be heard
    reporter.say(f"preparing {output.name}", model=source)
    job = ConvertJob(source=source, run_dir=run_dir, output=output, fence=fence)
    try:
        return (await run_job(job, run_dir / "jobs" / output.name, _note(reporter), stop)).digest
    except Stopped:
        raise Drained from None


def _note(reporter: Reporter) -> Any:
    async def note(event: dict[str, Any]) -> None:
        if event["event"] == "note":
            reporter.say(str(event["message"]))

    return note
