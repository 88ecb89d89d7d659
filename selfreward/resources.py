"""Where the files that ship with the package are, in a checkout and when installed."""

from itertools import takewhile
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent


def shipped_dir(name: str) -> Path:
    """`migrations` or `prompts`: at the top of a checkout, inside the package (as `_name`) in a wheel."""
    installed = PACKAGE / f"_{name}"
    return installed if installed.is_dir() else PACKAGE.parent / name


def presets_dir() -> Path:
    """The settings presets."""
    return PACKAGE / "presets"


def preset_lines() -> dict[str, str]:
    """Each preset with the first line of its comment, which says what it is; sorted."""
    names = sorted(file.stem for file in presets_dir().glob("*.toml"))
    return {name: preset_comment(name).partition("\n")[0] for name in names}


def preset_comment(name: str) -> str:
    """The comment that a preset begins with, as lines; nothing for one that is not there."""
    path = presets_dir() / f"{name}.toml"
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    comment = takewhile(lambda line: line.startswith("#"), lines)
    return "".join(f"{line.removeprefix('#').strip()}\n" for line in comment)


def seeds_dir() -> Path:
    """The seed data written for this project."""
    return PACKAGE / "seeds"
