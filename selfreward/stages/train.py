"""DPO of M_t on its own pairs, in a child process: M_{t+1} appears complete or not at all."""

import asyncio
import json
from pathlib import Path
from typing import Any

from selfreward.errors import Halted, TrainingError
from selfreward.stages.bootstrap import MODELS
from selfreward.stages.pair import describe
from selfreward.stages.workplace import Drained, Workplace
from selfreward.training.checkpoint import adoptable, collect_garbage
from selfreward.training.jobs import DpoJob
from selfreward.training.launch import Stopped, run_job
from selfreward.types import CheckpointKind, CheckpointRow, MetricPoint, StageName, StageRow, Status

SHOWN = {"loss": "loss", "rewards/margins": "margin"}


async def run(place: Workplace) -> CheckpointRow:
    """M_{t+1} as a row and a directory. One that a crash left without its row is adopted.

    Raises Halted when there are too few pairs, TrainingError when the trainer failed, Drained when
    asked to stop. M_t is untouched by all of them.
    """
    store, t = place.store, place.iteration.t
    stage = await asyncio.to_thread(store.runs.begin_stage, place.iteration.id, StageName.TRAIN)
    path = f"{MODELS}/M_{t + 1}"
    collect_garbage(place.directory / MODELS)
    manifest = adoptable(place.directory / path)
    digest = manifest.digest if manifest else await _train(place, stage, place.directory / path)
    store.runs.describe_stage(stage.id, f"M_{t + 1} {digest[:12]}")
    place.reporter.end(StageName.TRAIN, f"M_{t + 1} {digest[:12]}")
    return store.runs.finish_iteration(place.iteration, CheckpointKind.DPO, path, digest)


async def _train(place: Workplace, stage: StageRow, output: Path) -> str:
    """Run the child and store what it tells; returns the digest of the new checkpoint."""
    job_dir = place.directory / "jobs" / output.name / f"attempt_{stage.attempts}"
    job_dir.mkdir(parents=True, exist_ok=True)
    pairs = await asyncio.to_thread(_write_pairs, place, job_dir / "pairs.jsonl")
    if pairs < place.settings.train.min_pairs:
        raise _too_few(place, stage, pairs)
    job = DpoJob(
        output=output,
        fence=place.fence,
        model=place.model_path,
        pairs=job_dir / "pairs.jsonl",
        settings=place.settings.train,
        seed=place.settings.seed,
        work=job_dir / "work",
    )
    place.reporter.say(f"starting the trainer on {place.checkpoint.name}", pairs=pairs)
    try:
        done = await run_job(job, job_dir, _Listener(place, stage).hear, place.stop)
    except Stopped:
        raise Drained from None
    except TrainingError as error:
        place.store.runs.fail_stage(stage.id, Status.FAILED, str(error))
        raise
    return done.digest


class _Listener:
    """Turns the child's events into rows while it runs."""

    def __init__(self, place: Workplace, stage: StageRow) -> None:
        self._place, self._stage = place, stage

    async def hear(self, event: dict[str, Any]) -> None:
        """One event, in order."""
        handler = {
            "start": self._start,
            "metric": self._metric,
            "too_long": self._too_long,
        }.get(event["event"])
        if handler is not None:
            await asyncio.to_thread(handler, event)

    def _start(self, event: dict[str, Any]) -> None:
        self._place.reporter.begin(StageName.TRAIN, 0, event["total_steps"])

    def _metric(self, event: dict[str, Any]) -> None:
        step, values = event["step"], event["values"]
        points = [MetricPoint(step=step, name=name, value=value) for name, value in values.items()]
        self._place.store.journal.add_metrics(
            self._place.iteration.id, self._stage.name, self._stage.attempts, points
        )
        figures = {label: values[name] for name, label in SHOWN.items() if name in values}
        self._place.reporter.progress(StageName.TRAIN, step, **figures)

    def _too_long(self, event: dict[str, Any]) -> None:
        self._place.store.pairs.exclude(self._place.iteration.id, event["pair_ids"])
        count, limit = len(event["pair_ids"]), self._place.settings.train.max_length
        self._place.reporter.say(f"{count} pairs are longer than {limit} tokens and are left out")


def _write_pairs(place: Workplace, path: Path) -> int:
    """Write the pairs to train on as JSONL; returns how many there are."""
    count = 0
    with path.open("w", encoding="utf-8") as file:
        for pair in place.store.pairs.training_pairs(place.iteration.id):
            row = {
                "pair_id": pair.pair_id,
                "prompt": pair.prompt,
                "chosen": pair.chosen,
                "rejected": pair.rejected,
            }
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
            count += 1
    return count


def _too_few(place: Workplace, stage: StageRow, pairs: int) -> Halted:
    needed = place.settings.train.min_pairs
    outcomes = place.store.pairs.outcomes(place.iteration.id)
    message = f"{pairs} pairs are too few to train on (train.min_pairs is {needed}): {describe(outcomes)}"
    place.store.runs.fail_stage(stage.id, Status.HALTED, message)
    return Halted(
        message,
        f"{place.checkpoint.name} stays the current model. See why with:\n"
        '  selfreward query "select * from pair_outcomes"\n'
        "More prompts (self_instruct.target), more candidates, more judgements per candidate or "
        "judge.guided = true give more pairs.",
    )
