"""Where the files that ship with the package are, in a checkout and when installed."""

from pathlib import Path

PACKAGE = Path(__file__).resolve().parent


def shipped_dir(name: str) -> Path:
    """`migrations` or `prompts`: at the top of a checkout, inside the package (as `_name`) in a wheel."""
    installed = PACKAGE / f"_{name}"
    return installed if installed.is_dir() else PACKAGE.parent / name


def presets_dir() -> Path:
    """The settings presets."""
    return PACKAGE / "presets"


def seeds_dir() -> Path:
    """The seed data written for this project."""
    return PACKAGE / "seeds"
