"""What a training is made from, told apart from whatever does not shape it."""

import json
from pathlib import Path
from typing import Any

import pytest

from selfreward.config import SftSettings, TrainSettings
from selfreward.training.jobs import DpoJob, SftJob
from selfreward.training.origin import SHAPELESS, digest

ROWS = [
    {"pair_id": 1, "prompt": "Name a fruit.", "chosen": "Apple", "rejected": "Stone"},
    {"pair_id": 2, "prompt": "Name a river.", "chosen": "Rhine", "rejected": "é\ud800"},
]


def of(rows: list[dict[str, Any]] = ROWS, model: str = "m", seed: int = 3, **settings: Any) -> str:
    return digest(model, rows, TrainSettings.model_validate(settings), seed)


def test_the_same_training_has_the_same_origin() -> None:
    assert of() == of()
    assert of([row | {"pair_id": 7} for row in ROWS]) == of(), "ids are not what is learnt"


@pytest.mark.parametrize(
    "change",
    [
        {"model": "n"},
        {"seed": 4},
        {"rows": ROWS[::-1]},
        {"rows": ROWS[:1]},
        {"rows": [ROWS[0], ROWS[1] | {"chosen": "Rhône"}]},
        {"learning_rate": 1e-5},
        {"beta": 0.2},
        {"batch_size": 8},
        {"epochs": 2},
        {"lora": {"enabled": True}},
        {"type": "fake"},
    ],
)
def test_whatever_shapes_a_training_is_part_of_its_origin(change: dict[str, Any]) -> None:
    assert of(**change) != of()


@pytest.mark.parametrize(
    "change",
    [
        {"micro_batch_size": 2},
        {"fake_args": {"step_seconds": 2}},
        {"gradient_checkpointing": True},
        {"save_minutes": 1},
        {"report_to": ("tensorboard",)},
        {"min_pairs": 2},
    ],
)
def test_how_it_is_run_is_not(change: dict[str, Any]) -> None:
    assert change.keys() <= SHAPELESS
    assert of(**change) == of()


def test_every_name_of_what_does_not_shape_is_a_setting() -> None:
    assert TrainSettings.model_fields.keys() >= SHAPELESS


def test_a_job_knows_the_origin_of_all_its_data_and_of_a_part(tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    common: dict[str, Any] = {"output": tmp_path, "fence": 1, "model": tmp_path, "work": tmp_path, "seed": 3}
    dpo = DpoJob(**common, pairs=path, settings=TrainSettings(), model_digest="m")
    assert dpo.origin() == of()
    assert dpo.origin(ROWS[:1]) == of(ROWS[:1])
    examples = [{"example_id": 1, "input": "Hello?", "completion": "Hi."}]
    path.write_text(json.dumps(examples[0]))
    sft = SftJob(**common, examples=path, settings=SftSettings())
    assert sft.origin() == digest("", examples, SftSettings(), 3) != dpo.origin()
