"""Where the files of a run are. A root run lives in a directory of its own, its forks in forks/ below it."""

import shlex
from pathlib import Path

FORKS = "forks"
SETTINGS_FILE = "selfreward.toml"


def root_of(directory: Path) -> Path:
    """The root run's directory, absolute: that above forks/ for a fork, the run's own for any other run."""
    here = directory.resolve()
    above = here.parent.parent
    return above if here.parent.name == FORKS and (above / SETTINGS_FILE).is_file() else here


def fork_directory(root: Path, name: str) -> Path:
    """Where a fork lives, however deep in the tree of runs: directly in the root's forks/."""
    return root / FORKS / name


def fork_names(root: Path) -> list[str]:
    """Names of the forks that have settings, sorted."""
    return sorted(path.parent.name for path in (root / FORKS).glob(f"*/{SETTINGS_FILE}"))


def run_option(directory: Path) -> str:
    """How a command for the user to type names a run's directory: not at all where it is this one."""
    here, root, current = directory.resolve(), root_of(directory), Path.cwd()
    if here == current:
        return ""
    return f" --run {here.name}" if root == current else f" --dir {shlex.quote(str(directory))}"
