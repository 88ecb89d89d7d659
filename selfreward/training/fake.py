"""The fake trainer: M_{t+1} is M_t with a few bits of its weights changed. For tests of everything around it.

`train.type = "fake"` runs it in the same child, with the same events and the same way of publishing, and
without importing torch. What comes out depends on M_t, the texts to learn from, the seed and the settings,
and on nothing else. `train.fake_args` make it behave badly on purpose:

    step_seconds         seconds that every step takes; 0
    largest_micro_batch  with a larger train.micro_batch_size than this it runs out of memory; 0: never
    fail_at_step         an error that nobody foresaw comes at this step; 0: never
    non_finite_at        the loss is not a number at this step; 0: never

A token is a word. Runs in the child only.
"""

import json
import math
import random
import shutil
import time
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from selfreward import __version__
from selfreward.crash import crash_point
from selfreward.training import checkpoint
from selfreward.training.events import EventWriter
from selfreward.training.failures import JobFailed, memory_hint, require_space
from selfreward.training.jobs import DpoJob, SftJob
from selfreward.training.origin import read_rows
from selfreward.training.states import STATE, States, forget, states_of

ITEM_SIZES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2}
CHANGES_PER_TENSOR = 4
TEXTS = {"dpo": ("prompt", "chosen", "rejected"), "sft": ("input", "completion")}
IDS = {"dpo": "pair_id", "sft": "example_id"}
NAMES = {"dpo": "pairs", "sft": "examples"}


class Behaviour(BaseModel):
    """`train.fake_args`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    step_seconds: float = 0
    largest_micro_batch: int = 0
    fail_at_step: int = 0
    non_finite_at: int = 0


def train_fake(job: DpoJob | SftJob, events: EventWriter) -> str:
    """Publish M_t, slightly changed, as `job.output`; returns its digest.

    Raises JobFailed as the real trainers do, and where `fake_args` ask for it.
    """
    behaviour = _behaviour(job)
    rows = _fitting(job, events)
    origin = job.origin(rows)
    states = None if job.states is None else states_of(job.states, job.fence, origin, "fake", __version__)
    _train(job, behaviour, len(rows), states, events)
    digest = _publish(job, origin)
    if job.states is not None:
        forget(job.states)
    return digest


def _train(
    job: DpoJob | SftJob, behaviour: Behaviour, count: int, states: States | None, events: EventWriter
) -> None:
    """Step after step, from where the newest state was saved."""
    settings = job.settings
    steps = math.ceil(count / settings.batch_size) * settings.epochs
    newest = None if states is None else states.newest()
    first = 1 if newest is None else 1 + int(newest.name.removeprefix(STATE))
    events.emit(
        "start",
        first_step=first,
        total_steps=steps,
        **{NAMES[job.kind]: count},
        device="none",
        versions={"selfreward": __version__},
    )
    if behaviour.largest_micro_batch and settings.micro_batch_size > behaviour.largest_micro_batch:
        message = f"{settings.micro_batch_size} at once are more than {behaviour.largest_micro_batch}"
        raise JobFailed("out_of_memory", message, memory_hint(job.section))
    saved = time.monotonic()
    for step in range(first, steps + 1):
        _step(job, behaviour, step, steps, events)
        due = 60 * settings.save_minutes
        if states is not None and due and step < steps and time.monotonic() - saved >= due:
            _save(states, step)
            saved = time.monotonic()


def _save(states: States, step: int) -> None:
    written = states.unfinished / f"{STATE}{step}"
    written.mkdir(parents=True, exist_ok=True)
    (written / "state.json").write_text(json.dumps({"step": step}), encoding="utf-8")
    states.keep(written)
    crash_point("train:saved")


def _behaviour(job: DpoJob | SftJob) -> Behaviour:
    try:
        return Behaviour.model_validate(job.settings.fake_args)
    except ValidationError as error:
        problems = "; ".join(f"{problem['loc'][0]}: {problem['msg']}" for problem in error.errors())
        known = ", ".join(Behaviour.model_fields)
        raise JobFailed("crash", f"{job.section}.fake_args: {problems}", f"There are: {known}.") from error


def _fitting(job: DpoJob | SftJob, events: EventWriter) -> list[dict[str, Any]]:
    """What is short enough to learn from; the rest is reported."""
    rows = list(read_rows(job.data))
    limit, name = job.settings.max_length, IDS[job.kind]
    too_long = [row[name] for row in rows if _longer_side(job, row) > limit]
    if too_long:
        events.emit("too_long", **{f"{name}s": too_long})
    fitting = [row for row in rows if row[name] not in set(too_long)]
    needed = max(1, job.settings.min_pairs) if isinstance(job, DpoJob) else 1
    if len(fitting) < needed:
        raise JobFailed(
            "too_few_pairs" if isinstance(job, DpoJob) else "too_few_examples",
            f"{len(fitting)} {NAMES[job.kind]} can be trained on, of {len(rows)}; "
            f"{len(too_long)} are longer than {limit} tokens; {needed} are needed",
        )
    return fitting


def _longer_side(job: DpoJob | SftJob, row: dict[str, Any]) -> int:
    first, *sides = (len(str(row[name]).split()) for name in TEXTS[job.kind])
    return first + max(sides)


def _step(job: DpoJob | SftJob, behaviour: Behaviour, step: int, steps: int, events: EventWriter) -> None:
    """One step: nothing is computed, but its figures look like a training that works."""
    time.sleep(behaviour.step_seconds)
    if step == behaviour.fail_at_step:
        raise RuntimeError(f"failing at step {step}, as told")
    values = _figures(job, (step - 1) / steps)
    if step == behaviour.non_finite_at:
        del values["loss"]
    events.emit("metric", step=step, values=values)
    if step == behaviour.non_finite_at:
        hint = f"Lower {job.section}.learning_rate."
        raise JobFailed("non_finite", f"loss is nan at step {step} of {steps}", hint)
    crash_point("train:step")


def _figures(job: DpoJob | SftJob, progress: float) -> dict[str, float]:
    """Figures under TRL's names; the first loss is ln 2, as DPO's is where the policy is the reference."""
    settings = job.settings
    peak, final = settings.learning_rate, settings.final_learning_rate
    common = {
        "loss": math.log(2) * math.exp(-progress),
        "grad_norm": 1.0 - progress / 2,
        "learning_rate": peak + (final - peak) * progress,
    }
    if isinstance(job, SftJob):
        return {**common, "mean_token_accuracy": 0.5 + progress / 2}
    return {
        **common,
        "rewards/chosen": progress / 2,
        "rewards/rejected": -progress / 2,
        "rewards/margins": progress,
        "rewards/accuracies": min(1.0, 2 * progress),
    }


def _publish(job: DpoJob | SftJob, origin: str) -> str:
    """M_t's files, with other weights, as a checkpoint of its own."""
    weights = sorted(job.model.glob("*.safetensors"))
    require_space(job.output.parent, sum(file.stat().st_size for file in weights))
    temporary = checkpoint.temporary_path(job.output, job.fence)
    shutil.rmtree(temporary, ignore_errors=True)
    shutil.copytree(job.model, temporary, ignore=shutil.ignore_patterns(checkpoint.MANIFEST))
    for file in weights:
        _change(temporary / file.name, random.Random(f"{origin}\0{file.name}"))
    digest = checkpoint.write_manifest(temporary, [job.origin(), origin])
    checkpoint.publish(temporary, job.output)
    return digest


def _change(path: Path, draw: random.Random) -> None:
    """Change the last bits of a few numbers of each tensor: they stay finite, and nearly what they were."""
    with path.open("r+b") as file:
        header_size = int.from_bytes(file.read(8), "little")
        header: dict[str, Any] = json.loads(file.read(header_size))
        header.pop("__metadata__", None)
        for name in sorted(header):
            begin, end = header[name]["data_offsets"]
            size = ITEM_SIZES.get(header[name]["dtype"])
            if size is None or begin == end:
                continue
            for item in draw.sample(range(begin, end, size), min(CHANGES_PER_TENSOR, (end - begin) // size)):
                place = 8 + header_size + item  # little endian: the first byte holds the last bits
                file.seek(place)
                byte = file.read(1)[0]
                file.seek(place)
                file.write(bytes([byte ^ draw.randint(1, 127)]))
