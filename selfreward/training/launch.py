"""The daemon's side of a job: start the child, pass on what it says, and never leave it behind."""

import asyncio
import shutil
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from selfreward.children import Child, spawn
from selfreward.crash import crash_point
from selfreward.errors import SelfRewardError, TrainingError
from selfreward.training.checkpoint import adoptable, collect_garbage
from selfreward.training.events import EVENTS_FILE, EventReader
from selfreward.training.failures import memory_hint
from selfreward.training.jobs import SCRATCH, AnyJob, write_job

__all__ = ["DoneEvent", "Stopped", "adoptable", "collect_garbage", "run_job"]

LOG_FILE = "log.txt"
POLL_S = 0.2
KILLED = 128 + 9
OnEvent = Callable[[dict[str, Any]], Awaitable[None]]


class Stopped(SelfRewardError):
    """The job was ended because a stop was asked for; nothing of it remains that counts."""


@dataclass(frozen=True, kw_only=True)
class DoneEvent:
    """A published checkpoint."""

    path: Path
    digest: str


async def run_job(job: AnyJob, job_dir: Path, on_event: OnEvent, stop: asyncio.Event) -> DoneEvent:
    """Run `job` in a child and return when its checkpoint is published.

    Writes job.json, events.jsonl and log.txt into `job_dir` and awaits `on_event` for every event of
    the child, in order. Raises TrainingError when the child fails or dies, and Stopped when `stop` is
    set. However this is left, no process of the job is left running.
    """
    job_path = write_job(job, job_dir)
    crash_point("train:job_written")
    events_path = job_dir / EVENTS_FILE
    events_path.unlink(missing_ok=True)  # of an earlier attempt
    child = spawn([sys.executable, "-m", "selfreward.training.worker", str(job_path)], job_dir / LOG_FILE)
    try:
        last = await _follow(child, EventReader(events_path), on_event, stop)
        return _outcome(job, last, await child.wait(), child)
    finally:
        child.kill()
        await child.wait()
        shutil.rmtree(job_dir / SCRATCH, ignore_errors=True)


async def _follow(
    child: Child, reader: EventReader, on_event: OnEvent, stop: asyncio.Event
) -> dict[str, Any] | None:
    """Pass events on until the child has ended; returns the last one."""
    exited = asyncio.ensure_future(child.wait())
    stopped = asyncio.ensure_future(stop.wait())
    last = None
    try:
        while True:
            await asyncio.wait({exited, stopped}, timeout=POLL_S, return_when=asyncio.FIRST_COMPLETED)
            ended = exited.done()  # looked at before the events are: what comes after is not lost
            for event in reader.read():
                await on_event(event)
                last = event
            if ended:
                return last
            if stop.is_set():
                raise Stopped("the job was stopped")
    finally:
        exited.cancel()
        stopped.cancel()


def _outcome(job: AnyJob, last: dict[str, Any] | None, code: int, child: Child) -> DoneEvent:
    kind = last["event"] if last else None
    if last and kind == "done" and code == 0:
        return _published(job, last)
    if last and kind == "error":
        hint = last["hint"] or f"The whole story is in {child.log}."
        raise TrainingError(last["message"], hint, last["kind"])
    if code == KILLED:
        raise TrainingError(
            f"the {job.kind} process was killed (SIGKILL), by hand or because the machine ran out of memory",
            memory_hint(job.section),
            "killed",
        )
    raise TrainingError(
        f"the {job.kind} process ended with status {code}:\n{child.log_tail()}",
        f"The whole story is in {child.log}.",
    )


def _published(job: AnyJob, done: dict[str, Any]) -> DoneEvent:
    manifest = adoptable(job.output)
    if manifest is None or manifest.digest != done["digest"]:
        raise TrainingError(f"{job.output} is not the checkpoint that the {job.kind} process has published")
    return DoneEvent(path=job.output, digest=manifest.digest)
