"""Answers as a `model_outputs.json` of AlpacaEval, whose judges are not of this project.

The form: a JSON list with one object an answer, of the texts `dataset`, `instruction`, `output` and
`generator`; `alpaca_eval --model_outputs FILE` reads it (github.com/tatsu-lab/alpaca_eval).
"""

import json
from collections.abc import Iterable
from pathlib import Path

from selfreward.errors import BadInput
from selfreward.training.checkpoint import write_durably


def alpaca_outputs(answers: Iterable[tuple[str, str]], generator: str, dataset: str) -> list[dict[str, str]]:
    """One object for each (instruction, answer), in order.

    `generator` names the model: AlpacaEval expects one name in a file. An empty answer stays: it loses
    there, and leaving it out would flatter the model.
    """
    return [
        {"dataset": dataset, "instruction": instruction, "output": answer, "generator": generator}
        for instruction, answer in answers
    ]


def write_outputs(path: Path, outputs: list[dict[str, str]]) -> None:
    """Write them at once and whole. Raises BadInput when there are none, or the place cannot be written."""
    if not outputs:
        raise BadInput(f"no answers to write to {path}", "Answer the held-out prompts first: selfreward eval")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_durably(path, json.dumps(outputs, ensure_ascii=False, indent=2) + "\n")
    except OSError as error:
        raise BadInput(
            f"cannot write {path}: {error.strerror}", "Give a file in a writable place."
        ) from error
