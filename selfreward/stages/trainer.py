"""A training job of a stage: runs the child and turns what it tells into rows."""

import asyncio
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from selfreward.errors import TrainingError
from selfreward.stages.workplace import Drained, Workplace
from selfreward.training.jobs import DpoJob, SftJob
from selfreward.training.launch import Stopped, run_job
from selfreward.types import MetricPoint, StageRow, Status

SHOWN = {"loss": "loss", "rewards/margins": "margin", "mean_token_accuracy": "accuracy"}
LeaveOut = Callable[[Sequence[int]], None]
"""Told the ids of what is too long to train on."""


async def train(
    place: Workplace, stage: StageRow, job: DpoJob | SftJob, job_dir: Path, leave_out: LeaveOut
) -> str:
    """The digest of the checkpoint that the job has published.

    Raises TrainingError when the trainer failed, which the stage then says, and Drained when asked to stop.
    """
    try:
        done = await run_job(job, job_dir, _Listener(place, stage, leave_out).hear, place.stop)
    except Stopped:
        raise Drained from None
    except TrainingError as error:
        place.store.runs.fail_stage(stage.id, Status.FAILED, str(error))
        raise
    return done.digest


def job_directory(place: Workplace, stage: StageRow, checkpoint: str) -> Path:
    """Where this attempt's job, events and log are kept; made when missing."""
    directory = place.directory / "jobs" / checkpoint / f"attempt_{stage.attempts}"
    directory.mkdir(parents=True, exist_ok=True)
    return directory


def write_rows(path: Path, rows: Iterable[Mapping[str, Any]]) -> int:
    """Write JSONL for the child; returns how many rows there are."""
    count = 0
    with path.open("w", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
            count += 1
    return count


class _Listener:
    """Turns the child's events into rows while it runs."""

    def __init__(self, place: Workplace, stage: StageRow, leave_out: LeaveOut) -> None:
        self._place, self._stage, self._leave_out = place, stage, leave_out

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
        self._place.reporter.begin(self._stage.name, 0, event["total_steps"])

    def _metric(self, event: dict[str, Any]) -> None:
        step, values = event["step"], event["values"]
        points = [MetricPoint(step=step, name=name, value=value) for name, value in values.items()]
        stage = self._stage
        self._place.store.journal.add_metrics(self._place.iteration.id, stage.name, stage.attempts, points)
        figures = {label: values[name] for name, label in SHOWN.items() if name in values}
        self._place.reporter.progress(stage.name, step, **figures)

    def _too_long(self, event: dict[str, Any]) -> None:
        ids = event["pair_ids"] if "pair_ids" in event else event["example_ids"]
        self._leave_out(ids)
        self._place.reporter.say(f"{len(ids)} are longer than max_length tokens and are left out")

    def _note(self, event: dict[str, Any]) -> None:
        self._place.reporter.say(str(event["message"]))
