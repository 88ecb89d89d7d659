"""Running a training job to its end, with its events and processes in view."""

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from selfreward.errors import TrainingError
from selfreward.training.checkpoint import collect_garbage
from selfreward.training.jobs import AnyTraining
from selfreward.training.launch import DoneEvent, Stopped, run_job

TrainingJob = AnyTraining


@dataclass
class Recorder:
    """Collects the events of a job, and reacts to the first of one kind."""

    react: tuple[str, Callable[[], None]] | None = None
    events: list[dict[str, Any]] = field(default_factory=list)

    async def __call__(self, event: dict[str, Any]) -> None:
        self.events.append(event)
        if self.react and event["event"] == self.react[0]:
            self.react[1]()

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [event for event in self.events if event["event"] == kind]

    def series(self, name: str) -> list[float]:
        return [event["values"][name] for event in self.of("metric")]


@dataclass
class Ran:
    """A job that has ended, one way or the other."""

    job: TrainingJob
    recorder: Recorder
    result: DoneEvent | None
    error: Exception | None


def job_directory(job: TrainingJob) -> Path:
    """Where the job's files are, its log among them."""
    return job.work.parent / "job"


def run(job: TrainingJob, recorder: Recorder | None = None, stop: asyncio.Event | None = None) -> Ran:
    return asyncio.run(attempt(job, recorder or Recorder(), stop or asyncio.Event()))


async def attempt(job: TrainingJob, recorder: Recorder, stop: asyncio.Event) -> Ran:
    try:
        result = await run_job(job, job_directory(job), recorder, stop)
    except (TrainingError, Stopped) as error:
        return Ran(job, recorder, None, error)
    return Ran(job, recorder, result, None)


def workers(job: TrainingJob) -> list[psutil.Process]:
    """Running processes of this job, the guard among them."""
    mine = str(job_directory(job) / "job.json")
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.NoSuchProcess):
            if mine in process.cmdline() and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def kill_worker(job: TrainingJob) -> None:
    """SIGKILL the child itself, not its guard."""
    for process in workers(job):
        if "selfreward.guard" not in process.cmdline():
            os.kill(process.pid, signal.SIGKILL)


def weights(directory: Path) -> dict[str, Any]:
    from safetensors.torch import load_file

    return dict(load_file(directory / "model.safetensors"))


def assert_nothing_left(ran: Ran) -> None:
    assert workers(ran.job) == []
    assert not (job_directory(ran.job) / "scratch").exists()
    assert not ran.job.output.exists()
    collect_garbage(ran.job.output.parent)
    assert list(ran.job.output.parent.glob("*")) == []


def overflow(model_dir: Path) -> None:
    """Make the weights of the first layer so large that its products leave the range of float32."""
    from safetensors.torch import save_file

    changed = weights(model_dir)
    for name in changed:
        if "layers.0.mlp" in name:
            changed[name] = (changed[name].float() * 1e38).bfloat16()
    save_file(changed, model_dir / "model.safetensors", metadata={"format": "pt"})
