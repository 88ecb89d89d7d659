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
        {"objective": "slic"},
        {"losses": ("ipo",)},
        {"losses": ("sigmoid", "sft"), "loss_weights": (1.0, 0.5)},
        {"rows": [ROWS[0] | {"soft_label": 0.7}, ROWS[1]]},
        {"rows": [ROWS[0] | {"reference": "Pear"}, ROWS[1]]},
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


@pytest.mark.parametrize(
    ("objective", "of_it", "of_another"),
    [
        ("slic", {"slic": {"margin": 2}}, {"rrhf_weight": 2}),
        ("rrhf", {"rrhf_weight": 2}, {"slic": {"margin": 2}}),
        ("cdpo", {"label_smoothing": 0.1}, {"losses": ("ipo",)}),
        ("rl", {"rl": {"kl": 0.2}}, {"label_smoothing": 0.1}),
        ("dpo", {"label_smoothing": 0.1}, {"reward": {"centre": 0.1}}),
    ],
)
def test_what_only_another_objective_reads_is_not(
    objective: str, of_it: dict[str, Any], of_another: dict[str, Any]
) -> None:
    before = of(objective=objective)
    assert of(objective=objective, **of_it) != before
    assert of(objective=objective, **of_another) == before


def test_which_data_and_which_start_are_known_by_the_data_and_the_start() -> None:
    assert of(data="accumulated", init_from="bootstrap", positive_score=3) == of()


def test_a_training_of_before_there_were_objectives_is_still_the_same() -> None:
    """Its states and its checkpoint are taken by a later version; made with the version before."""
    assert of() == "09b91555fedf7b4804250d4722a68617c78f2d5f5cdb48386ca86b6c11fbe9bb"


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
