"""What a training was made from, as one digest: the model, the data, the settings that shape it, the seed.

Two trainings with the same origin are the same training: a saved state of one may be resumed by the other,
and its checkpoint stands for the other's. Standard library and settings only: the daemon imports this.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from selfreward.config import TrainerSettings

SHAPELESS = {
    "save_minutes",
    "report_to",
    "min_pairs",
    "micro_batch_size",
    "gradient_checkpointing",
    "fake_args",
}
"""Settings that change how fast or in how much memory a training runs, and not what is trained: a batch
that is cut into smaller parts after running out of memory is still the same batch."""
CHOOSES_DATA = {"init_from", "data", "positive_score"}
"""Settings that say what is trained, and on what: the model and the rows themselves are counted."""
OF_ONE_OBJECTIVE = {
    "losses": ("dpo",),
    "loss_weights": ("dpo",),
    "label_smoothing": ("dpo", "cdpo"),
    "slic": ("slic",),
    "rrhf_weight": ("rrhf",),
    "rl": ("rl",),
    "reward": (),
}
"""Settings that only these objectives read."""
NEWER = {"objective": "dpo", "losses": ["sigmoid"], "loss_weights": [], "label_smoothing": 0.0}
"""Settings of later versions with values that change nothing: what was saved before them is still good."""
MORE = ("soft_label", "reference", "candidates")
TEXTS = ("prompt", "chosen", "rejected", "input", "completion")


def digest(
    model: str,
    rows: Iterable[Mapping[str, Any]],
    settings: TrainerSettings,
    seed: int,
    *ingredients: str,
) -> str:
    """sha256 of the model's digest, what is learnt from each row in their order, settings, seed, and
    whatever else the training is made from.
    """
    found = hashlib.sha256()
    head = [model, _shape(settings), seed, *ingredients]
    for part in (head, *map(_learnt, rows)):
        found.update(json.dumps(part, sort_keys=True).encode() + b"\n")
    return found.hexdigest()


def _learnt(row: Mapping[str, Any]) -> list[Any]:
    """The texts of a pair, an example or a group, and what is known of them besides."""
    more = {name: row[name] for name in MORE if row.get(name) is not None}
    return [row[name] for name in TEXTS if name in row] + ([more] if more else [])


def _shape(settings: TrainerSettings) -> dict[str, Any]:
    """The settings that decide what comes out."""
    shape = settings.model_dump(mode="json", exclude=SHAPELESS | CHOOSES_DATA)
    objective = shape.get("objective")
    return {
        name: value
        for name, value in shape.items()
        if objective in OF_ONE_OBJECTIVE.get(name, (objective,))
        and not (name in NEWER and NEWER[name] == value)
    }


def of_source(text: str) -> str:
    """sha256 that stands for what `model = "…"` names."""
    return hashlib.sha256(f"model\0{text.strip()}".encode()).hexdigest()


def read_rows(path: Path) -> Iterator[dict[str, Any]]:
    """The objects of a JSONL file."""
    with path.open(encoding="utf-8") as file:
        for line in file:
            if line.strip():
                yield json.loads(line)
