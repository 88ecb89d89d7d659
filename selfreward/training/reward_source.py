"""Reading `judge.reward_model = "…"`: which model gives rewards, and whether it has the head for it.

Standard library only: the daemon imports this, and refuses before anything is started.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from selfreward.errors import BadInput
from selfreward.training.sources import ModelSource, parse_model_source

OF_THIS_RUN = re.compile(r"R_\d+")
"""Names of the reward models that a run has trained."""
CLASSIFIER = "ForSequenceClassification"
DEFAULT_LABELS = 2
"""What a config means that does not say how many labels there are."""
WHAT_WORKS = (
    "Name a sequence classifier with one label (num_labels = 1): a directory, a hub id (org/name), or R_t of "
    'this run, which train.objective = "reward_model" makes. judge.type = "rubric" needs none.'
)


def parse_reward_source(text: str, run_dir: Path) -> ModelSource:
    """The directory or hub id that `text` names, relative paths taken from `run_dir`.

    A directory's head is looked at. R_t of a run is found by its row, not here. Raises BadInput.
    """
    if not text.strip():
        raise BadInput("judge.reward_model is not set: there is nothing to score with", WHAT_WORKS)
    try:
        source = parse_model_source(text, run_dir)
    except BadInput as error:
        raise BadInput(f"judge.reward_model: {error.message}", WHAT_WORKS) from error
    if source.kind == "gguf":
        raise BadInput(f"judge.reward_model {text!r} is a GGUF file, which has no head", WHAT_WORKS)
    if source.path is not None:
        require_reward_head(source.path, text)
    return source


def require_reward_head(directory: Path, name: str) -> None:
    """Raise BadInput unless the model in `directory` is a sequence classifier with one label."""
    try:
        config = json.loads((directory / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BadInput(f"the reward model {name} has no config.json that can be read", WHAT_WORKS) from error
    problem = head_problem(config) if isinstance(config, dict) else "has an odd config.json"
    if problem:
        raise BadInput(f"{name} is no reward model: it {problem}", WHAT_WORKS)


def head_problem(config: Mapping[str, Any]) -> str:
    """Why a model with this config gives no reward, in words; empty when it does."""
    architectures = config.get("architectures") or ()
    if architectures and not any(str(each).endswith(CLASSIFIER) for each in architectures):
        return f"is a {architectures[0]}, and has no head that gives a number"
    labels = _labels(config)
    return f"has {labels} labels, and a reward is one number" if labels != 1 else ""


def _labels(config: Mapping[str, Any]) -> int:
    """As transformers counts them."""
    named = config.get("id2label")
    return int(config.get("num_labels") or (len(named) if named else DEFAULT_LABELS))
