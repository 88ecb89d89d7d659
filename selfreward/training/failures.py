"""Failures of a job by kind, so that the user is told what to do about them. Runs in the child."""

import errno
import shutil
from pathlib import Path
from typing import Literal

from selfreward.errors import SelfRewardError

ErrorKind = Literal[
    "out_of_memory",
    "non_finite",
    "too_few_pairs",
    "too_few_examples",
    "bad_model",
    "no_space",
    "missing_package",
    "engine",
    "no_reward",
    "crash",
]
SPACE_MARGIN = 1.05


class JobFailed(Exception):
    """A failure of a known kind, raised in the child and told to the user by the daemon."""

    def __init__(self, kind: ErrorKind, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message
        self.hint = hint


def memory_hint(section: str) -> str:
    """What to do when memory runs out; `section` holds the job's settings, empty if it trains nothing."""
    if not section:
        return "Stop other programs, or name a smaller model."
    return (
        f"Lower {section}.micro_batch_size or {section}.max_length, set "
        f"{section}.gradient_checkpointing = true, or train adapters only with {section}.lora.enabled = true."
    )


def explain(error: BaseException, directory: Path, section: str) -> JobFailed:
    """The known kind of failure behind `error`, wherever in the libraries it was raised.

    `directory` is where the job writes, `section` its settings. Reads messages too:
    safetensors and torch wrap the system's errors.
    """
    text = f"{type(error).__name__}: {error}"
    lowered = text.lower()
    if isinstance(error, JobFailed):
        return error
    if isinstance(error, SelfRewardError):
        return JobFailed("crash", error.message, error.hint)
    if (
        getattr(error, "errno", None) == errno.ENOSPC
        or "no space left" in lowered
        or "os error 28" in lowered
    ):
        return no_space("the disk is full", directory)
    if isinstance(error, MemoryError) or "outofmemory" in lowered or "can't allocate memory" in lowered:
        return JobFailed("out_of_memory", text.splitlines()[0], memory_hint(section))
    if isinstance(error, ImportError) or "to be installed" in lowered:
        hint = 'Install it: pip install "selfreward-daemon[train]" brings all that training needs.'
        return JobFailed("missing_package", text, hint)
    return JobFailed("crash", text)


def require_space(directory: Path, size: int) -> None:
    """Raise JobFailed unless `size` bytes, and a little more, are free where `directory` is."""
    directory.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(directory).free
    if free < size * SPACE_MARGIN:
        raise no_space(f"{size / 1e9:.2f} GB are needed and {free / 1e9:.2f} GB are free", directory)


def no_space(message: str, directory: Path) -> JobFailed:
    """The failure of a full disk."""
    return JobFailed("no_space", f"{message} (in {directory})", "Free some disk space and start again.")
