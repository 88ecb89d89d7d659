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
TEXTS = ("prompt", "chosen", "rejected", "input", "completion")


def digest(model: str, rows: Iterable[Mapping[str, Any]], settings: TrainerSettings, seed: int) -> str:
    """sha256 of the model's digest, the texts of the pairs or examples in their order, settings and seed."""
    found = hashlib.sha256()
    shape = settings.model_dump(mode="json", exclude=SHAPELESS)
    for part in ([model, shape, seed], *([row[name] for name in TEXTS if name in row] for row in rows)):
        found.update(json.dumps(part, sort_keys=True).encode() + b"\n")
    return found.hexdigest()


def of_source(text: str) -> str:
    """sha256 that stands for what `model = "…"` names."""
    return hashlib.sha256(f"model\0{text.strip()}".encode()).hexdigest()


def read_rows(path: Path) -> Iterator[dict[str, Any]]:
    """The objects of a JSONL file."""
    with path.open(encoding="utf-8") as file:
        for line in file:
            if line.strip():
                yield json.loads(line)
