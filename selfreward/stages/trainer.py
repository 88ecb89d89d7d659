"""A training job of a stage: runs the child, with less in memory if it must, and turns events into rows."""

import asyncio
import json
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from selfreward.crash import crash_point
from selfreward.errors import DiskFull, StoreUnavailable, TrainingError
from selfreward.stages.workplace import Drained, Workplace
from selfreward.training.events import EVENTS_FILE, EventReader
from selfreward.training.jobs import SCRATCH, AnyTraining
from selfreward.training.launch import Stopped, run_job
from selfreward.types import MetricPoint, StageRow, Status

SHOWN = {
    "loss": "loss",
    "rewards/margins": "margin",
    "mean_token_accuracy": "accuracy",
    "reward": "reward",
    "kl": "kl",
}
NEED_MEMORY = ("out_of_memory", "killed")
"""Kinds of failure that less in memory at once may avoid: the system kills who takes too much."""
LeaveOut = Callable[[Sequence[int]], None]
"""Told the ids of what is too long to train on."""


async def train(
    place: Workplace, stage: StageRow, job: AnyTraining, job_dir: Path, leave_out: LeaveOut
) -> str:
    """The digest of the checkpoint that the job has published.

    One that ran out of memory is tried again, as another attempt of the stage, with half of the batch in
    memory at once and the same batch in all. Raises TrainingError when the trainer failed, which the stage
    then says, and Drained when asked to stop.
    """
    while True:
        listener = _Listener(place, stage, leave_out)
        try:
            done = await run_job(job, job_dir, listener.hear, place.stop)
        except Stopped:
            raise Drained from None
        except TrainingError as error:
            smaller = halved(job) if error.kind in NEED_MEMORY else None
            if smaller is None:
                await asyncio.to_thread(place.store.runs.fail_stage, stage.id, Status.FAILED, str(error))
                raise
            stage = await asyncio.to_thread(_begin_again, place, stage, job, smaller, error)
            job, job_dir = smaller, job_directory(place, stage, job.output.name)
            continue
        await asyncio.to_thread(listener.write_metrics)
        return done.digest


def halved(job: AnyTraining) -> AnyTraining | None:
    """The same training with half of the batch in memory at once, or what divides it; None below one."""
    settings = job.settings
    smaller = (
        size for size in range(settings.micro_batch_size // 2, 0, -1) if not settings.batch_size % size
    )
    size = next(smaller, None)
    if size is None:
        return None
    return job.model_copy(update={"settings": settings.model_copy(update={"micro_batch_size": size})})


def _begin_again(
    place: Workplace, stage: StageRow, job: AnyTraining, smaller: AnyTraining, error: TrainingError
) -> StageRow:
    """Record what is tried now; another attempt, whose metrics stand beside those of this one."""
    figures = {
        "micro_batch_size": smaller.settings.micro_batch_size,
        "before": job.settings.micro_batch_size,
        "batch_size": smaller.settings.batch_size,
    }
    message = (
        f"the trainer had too little memory and is started again with {figures['micro_batch_size']} at once"
    )
    place.store.journal.event(
        place.run.id, "micro_batch_halved", f"{message}: {error.message}", place.iteration.id, **figures
    )
    place.reporter.say(message, level="warning", **figures)
    return place.store.runs.begin_stage(place.iteration.id, stage.name)


def job_directory(place: Workplace, stage: StageRow, checkpoint: str) -> Path:
    """Where this attempt's job, events and log are kept; made when missing."""
    directory = place.directory / "jobs" / checkpoint / f"attempt_{stage.attempts}"
    directory.mkdir(parents=True, exist_ok=True)
    return directory


def catch_up(place: Workplace, stage: StageRow, job_dir: Path) -> None:
    """Store the figures that earlier attempts told when their daemon was not there any more to hear them.

    What a killed daemon left of their scratch is removed. Blocks: called in a thread.
    """
    for directory in job_dir.parent.glob("attempt_*"):
        if directory == job_dir:
            continue
        told = EventReader(directory / EVENTS_FILE).read()
        points = [point for event in told if event["event"] == "metric" for point in _points(event)]
        attempt = int(directory.name.rpartition("_")[2])
        place.store.journal.add_metrics(place.iteration.id, stage.name, attempt, points)
        shutil.rmtree(directory / SCRATCH, ignore_errors=True)


def write_rows(path: Path, rows: Iterable[Mapping[str, Any]]) -> int:
    """Write JSONL for the child; returns how many rows there are."""
    count = 0
    with path.open("w", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
            count += 1
    return count


def _points(event: Mapping[str, Any]) -> list[MetricPoint]:
    """The figures of a step."""
    values = event["values"].items()
    return [MetricPoint(step=event["step"], name=name, value=value) for name, value in values]


class _Listener:
    """Turns the child's events into rows while it runs."""

    def __init__(self, place: Workplace, stage: StageRow, leave_out: LeaveOut) -> None:
        self._place, self._stage, self._leave_out = place, stage, leave_out
        self._unwritten: list[MetricPoint] = []
        """Metrics that wait for the database: a training is not given up for them."""

    async def hear(self, event: dict[str, Any]) -> None:
        """One event, in order."""
        handler = {
            "start": self._start,
            "metric": self._metric,
            "too_long": self._too_long,
            "note": self._note,
        }.get(event["event"])
        if handler is not None:
            await asyncio.to_thread(handler, event)

    def _start(self, event: dict[str, Any]) -> None:
        self._place.reporter.begin(self._stage.name, event.get("first_step", 1) - 1, event["total_steps"])

    def _metric(self, event: dict[str, Any]) -> None:
        step, values = event["step"], event["values"]
        self._unwritten += _points(event)
        with suppress(StoreUnavailable, DiskFull):
            self.write_metrics()
        figures = {label: values[name] for name, label in SHOWN.items() if name in values}
        self._place.reporter.progress(self._stage.name, step, **figures)

    def write_metrics(self) -> None:
        """Store what the child has told. Raises StoreUnavailable or DiskFull, and then keeps it."""
        stage, points = self._stage, self._unwritten[:]
        if not points:
            return
        self._place.store.journal.add_metrics(self._place.iteration.id, stage.name, stage.attempts, points)
        del self._unwritten[: len(points)]
        crash_point("train:told")

    def _too_long(self, event: dict[str, Any]) -> None:
        ids = next(value for name, value in event.items() if name.endswith("_ids"))
        self._leave_out(ids)
        self._place.reporter.say(f"{len(ids)} are longer than max_length tokens and are left out")

    def _note(self, event: dict[str, Any]) -> None:
        self._place.reporter.say(str(event["message"]))
