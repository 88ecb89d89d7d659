"""The runs that are disturbed: small, on the fake engine and the fake trainer, and the same every time."""

import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tomlkit

from selfreward.training.checkpoint import write_manifest
from tests.integration.daemon_driver import Run

WEIGHTS = 64
JUDGE = "independent_judge"

# One request at a time and one item in a transaction: what a run writes next depends on what is stored alone.
SERIAL = """
name = "main"
model = "{model}"
iterations = 1
[engine]
type = "fake"
concurrency = 1
[engine.extra_args]
fixed-replies = true
[seeds]
files = ["seeds.jsonl"]
[self_instruct]
target = 3
max_attempts = 60
[train]
type = "fake"
batch_size = 1
micro_batch_size = 1
[daemon]
commit_rows = 1
commit_seconds = 0.05
backup_every_minutes = 0
grace_s = 10
"""
EVALUATION = {
    "evaluation.prompts": 6,
    "evaluation.replies": 8,
    "evaluation.independent.model": "another",
}


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """A way to run: settings on top of SERIAL, and what the run must come to."""

    settings: dict[str, Any] = field(default_factory=dict)
    first: str = "M_1"
    """The checkpoint that is there from the start."""
    models: tuple[str, ...] = ("M_1", "M_2")
    """What is in models/ in the end."""
    deterministic: bool = True
    """Whether each row is the same whatever happened; else only how many there are."""
    from_nothing: bool = False
    """Whether the database is made by the run itself."""
    imported: int = 0
    """Preferences that are imported before it starts."""
    converts: bool = False
    """Whether the first checkpoint is made from the model by the run itself."""


SCENARIOS = {
    "plain": Scenario(settings={"evaluation.enabled": False}),
    "long": Scenario(settings={"evaluation.enabled": False, "self_instruct.target": 12, "judge.samples": 2}),
    "from nothing": Scenario(settings={"evaluation.enabled": False}, from_nothing=True),
    "side by side": Scenario(
        settings={"evaluation.enabled": False, "engine.concurrency": 8, "daemon.commit_rows": 4},
        deterministic=False,
    ),
    "unhurried": Scenario(
        settings={
            "evaluation.enabled": False,
            "engine.extra_args.latency": 0.1,
            "train.fake_args.step_seconds": 0.2,
        }
    ),
    "saving": Scenario(settings={"evaluation.enabled": False, "train.save_minutes": 1e-6}),
    "measured": Scenario(settings=EVALUATION, models=("M_1", "M_2", JUDGE)),
    "bootstrap": Scenario(
        settings={
            "evaluation.prompts": 0,
            "evaluation.replies": 8,
            "bootstrap.mode": "sft",
            "bootstrap.eft": "judged",
            "bootstrap.max_ift": 2,
            "bootstrap.max_eft": 4,
            "bootstrap.samples": 1,
            "bootstrap.sft.type": "fake",
            "bootstrap.sft.batch_size": 4,
            "self_instruct.target": 2,
            "judge.samples": 1,
        },
        first="M_0",
        models=("M_0", "M_0_ift", "M_1", "M_2"),
    ),
    "retention": Scenario(
        settings={"evaluation.enabled": False, "iterations": 3, "daemon.keep_checkpoints": 1},
        models=("M_1", "M_4"),
    ),
    "reward model": Scenario(
        settings={"evaluation.enabled": False, "train.objective": "reward_model"},
        models=("M_1", "M_2", "R_1"),
    ),
    "methods": Scenario(
        settings={
            "evaluation.enabled": False,
            "iterations": 2,
            "judge.meta.enabled": True,
            "pair.rule": "anchored",
            "train.objective": "cream",
        },
        models=("M_1", "M_2", "M_3"),
    ),
    "imported": Scenario(settings={"evaluation.enabled": False, "pair.imported_share": 0.5}, imported=6),
    "backup": Scenario(settings={"evaluation.enabled": False, "daemon.backup_every_minutes": 0.002}),
    "converted": Scenario(settings={"evaluation.enabled": False}, converts=True),
}


def seeds() -> list[dict[str, Any]]:
    """Seeds with answers, and seeds with ranked replies to learn from and to be measured by."""
    plain = [
        {"instruction": f"Name {number} uses of a {thing}.", "answer": f"It has {number} uses."}
        for number, thing in enumerate(("spoon", "rope", "brick", "kettle", "ladder", "mirror", "candle"), 2)
    ]
    ranked = [
        {"prompt": f"Why is {thing}?", "split": split, "replies": [_reply(thing, rank) for rank in range(3)]}
        for split, things in RANKED.items()
        for thing in things
    ]
    return plain + ranked


RANKED = {
    "train": ("the sea salty", "ice cold", "snow white"),
    "held_out": ("the sky blue", "grass green", "honey sweet", "glass clear", "lead heavy", "silk soft"),
}


def _reply(thing: str, rank: int) -> dict[str, Any]:
    return {"text": f"{thing.capitalize()} {'because ' * (3 - rank)}it is.", "rank": rank}


def make_model(directory: Path) -> Path:
    """A model as far as nobody computes with it: a config, and weights as safetensors."""
    directory.mkdir(parents=True)
    (directory / "config.json").write_text('{"model_type": "llama"}')
    tensor = {"dtype": "F32", "shape": [WEIGHTS], "data_offsets": [0, 4 * WEIGHTS]}
    header = json.dumps({"weights": tensor}).encode()
    body = len(header).to_bytes(8, "little") + header + bytes(range(4 * WEIGHTS))
    (directory / "model.safetensors").write_bytes(body)
    write_manifest(directory)
    return directory


def prepare(scenario: Scenario, directory: Path, model: Path, url: str) -> Run:
    """A run's directory with its settings and its first checkpoint."""
    run = Run(directory, model)
    settings = tomlkit.parse(SERIAL.format(model=model))
    for key, value in (scenario.settings | {"database.url": url}).items():
        *tables, name = key.split(".")
        place: Any = settings
        for table in tables:
            place = place.setdefault(table, {})
        place[name] = value
    run.settings.write_text(tomlkit.dumps(settings))
    (directory / "seeds.jsonl").write_text("\n".join(map(json.dumps, seeds())))
    there = () if scenario.converts else {scenario.first, *scenario.models} & {scenario.first, JUDGE}
    for name in there:
        shutil.copytree(model, directory / "models" / name)
    if scenario.imported:
        _import(run, scenario.imported)
    return run


def _import(run: Run, number: int) -> None:
    file = run.directory / "people.jsonl"
    records = ({"prompt": f"Is {n} odd?", "chosen": f"{n} is.", "rejected": "No."} for n in range(number))
    file.write_text("\n".join(map(json.dumps, records)))
    done = run.command("import", "preferences", str(file))
    assert done.returncode == 0, done.stderr
