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
import struct
import time
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from selfreward import __version__
from selfreward.crash import crash_point
from selfreward.training import checkpoint
from selfreward.training.events import EventWriter
from selfreward.training.failures import JobFailed, memory_hint, require_space
from selfreward.training.jobs import AnyTraining, RewardJob
from selfreward.training.origin import read_rows
from selfreward.training.states import STATE, States, forget, states_of

ITEM_SIZES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2}
CHANGES_PER_TENSOR = 4
PAIR = ("prompt", "chosen", "rejected")
TEXTS = {"dpo": PAIR, "sft": ("input", "completion"), "reward": PAIR, "rl": ("prompt", "prompt")}
IDS = {"dpo": "pair_id", "sft": "example_id", "reward": "pair_id", "rl": "prompt_id", "rank": "prompt_id"}
NAMES = {"dpo": "pairs", "sft": "examples", "reward": "pairs", "rl": "prompts", "rank": "prompts"}
PAIR_FIGURES = {"rewards/chosen": 0.5, "rewards/rejected": -0.5, "rewards/margins": 1.0}
FIGURES = {
    "dpo": PAIR_FIGURES,
    "rank": {"rewards/margins": 1.0},
    "reward": PAIR_FIGURES,
    "rl": {"reward": 1.0, "kl": 0.01},
    "sft": {},
}
"""What the figures of each kind of job come to in the end; they begin at 0."""
ACCURACY = {
    "dpo": "rewards/accuracies",
    "rank": "rewards/accuracies",
    "reward": "rewards/accuracies",
    "sft": "mean_token_accuracy",
}


class Behaviour(BaseModel):
    """`train.fake_args`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    step_seconds: float = 0
    largest_micro_batch: int = 0
    fail_at_step: int = 0
    non_finite_at: int = 0


def train_fake(job: AnyTraining, events: EventWriter) -> str:
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
    job: AnyTraining, behaviour: Behaviour, count: int, states: States | None, events: EventWriter
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


def _behaviour(job: AnyTraining) -> Behaviour:
    try:
        return Behaviour.model_validate(job.settings.fake_args)
    except ValidationError as error:
        problems = "; ".join(f"{problem['loc'][0]}: {problem['msg']}" for problem in error.errors())
        known = ", ".join(Behaviour.model_fields)
        raise JobFailed("crash", f"{job.section}.fake_args: {problems}", f"There are: {known}.") from error


def _fitting(job: AnyTraining, events: EventWriter) -> list[dict[str, Any]]:
    """What is short enough to learn from; the rest is reported."""
    rows = list(read_rows(job.data))
    limit, name = job.settings.max_length, IDS[job.kind]
    too_long = [row[name] for row in rows if _longest_side(job, row) > limit]
    if too_long:
        events.emit("too_long", **{f"{name}s": too_long})
    fitting = [row for row in rows if row[name] not in set(too_long)]
    if len(fitting) < job.needed:
        raise JobFailed(
            "too_few_pairs" if NAMES[job.kind] == "pairs" else "too_few_examples",
            f"{len(fitting)} {NAMES[job.kind]} can be trained on, of {len(rows)}; "
            f"{len(too_long)} are longer than {limit} tokens; {job.needed} are needed",
        )
    return fitting


def _longest_side(job: AnyTraining, row: dict[str, Any]) -> int:
    if job.kind == "rank":
        first, *sides = row["prompt"], *(candidate["text"] for candidate in row["candidates"])
    else:
        first, *sides = (row[name] for name in TEXTS[job.kind])
    return len(str(first).split()) + max(len(str(side).split()) for side in sides)


def _step(job: AnyTraining, behaviour: Behaviour, step: int, steps: int, events: EventWriter) -> None:
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


def _figures(job: AnyTraining, progress: float) -> dict[str, float]:
    """Figures under TRL's names; the first loss is ln 2, as DPO's is where the policy is the reference."""
    settings = job.settings
    peak, final = settings.learning_rate, settings.final_learning_rate
    common = {
        "loss": math.log(2) * math.exp(-progress),
        "grad_norm": 1.0 - progress / 2,
        "learning_rate": peak + (final - peak) * progress,
    }
    own = {name: end * progress for name, end in FIGURES[job.kind].items()}
    if name := ACCURACY.get(job.kind):
        own[name] = 0.5 + progress / 2
    return {**common, **own}


def _publish(job: AnyTraining, origin: str) -> str:
    """M_t's files, with other weights, as a checkpoint of its own."""
    weights = sorted(job.model.glob("*.safetensors"))
    require_space(job.output.parent, sum(file.stat().st_size for file in weights))
    temporary = checkpoint.temporary_path(job.output, job.fence)
    shutil.rmtree(temporary, ignore_errors=True)
    shutil.copytree(job.model, temporary, ignore=shutil.ignore_patterns(checkpoint.MANIFEST))
    if isinstance(job, RewardJob):
        _give_head(temporary, random.Random(origin))
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


def _give_head(directory: Path, draw: random.Random) -> None:
    """Make a language model a sequence classifier with one label: a head for its score, and its config."""
    path = directory / "config.json"
    config: dict[str, Any] = json.loads(path.read_bytes())
    known = config.get("architectures", ())
    names = [name.replace("ForCausalLM", "ForSequenceClassification") for name in known]
    labels = {"id2label": {"0": "LABEL_0"}, "label2id": {"LABEL_0": 0}}
    path.write_text(json.dumps({**config, "architectures": names, **labels}, indent=2), encoding="utf-8")
    size = config.get("hidden_size", 1)
    numbers = struct.pack(f"<{size}f", *(draw.uniform(-0.1, 0.1) for _ in range(size)))
    for file in sorted(directory.glob("*.safetensors"))[:1]:
        _append(file, "score.weight", [1, size], numbers)


def _append(file: Path, name: str, shape: list[int], numbers: bytes) -> None:
    """One tensor more, of F32, behind the others."""
    content = file.read_bytes()
    begin = 8 + int.from_bytes(content[:8], "little")
    header, data = json.loads(content[8:begin]), content[begin:]
    offsets = [len(data), len(data) + len(numbers)]
    written = json.dumps(header | {name: {"dtype": "F32", "shape": shape, "data_offsets": offsets}}).encode()
    written += b" " * (-len(written) % 8)
    file.unlink()
    file.write_bytes(len(written).to_bytes(8, "little") + written + data + numbers)
