"""Where an export goes: it appears at once and whole, or not at all.

It is made in a hidden directory beside its place and renamed when every byte is on the disk. What a killed
export leaves is hidden, is not called like an export, and is cleared by the next one to the same place.
"""

import os
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from selfreward.errors import BadInput
from selfreward.training.manifest import rename_durably

CARD = "README.md"
TAG = "- selfreward"
"""The line of a card's front matter by which an export is known."""


def refuse_existing(destination: Path, force: bool, *, as_file: bool = False) -> None:
    """Raise BadInput where something is in the way, before any work is done."""
    if not destination.exists() or (_is_empty(destination) and not as_file):
        return
    if destination.is_dir() == as_file:
        kind = "directory" if as_file else "file"
        raise BadInput(f"{destination} is there already, and is a {kind}", "Choose another place.")
    if not force:
        raise BadInput(f"{destination} is there already", "Choose another place, or replace it with --force.")
    if not as_file and not is_export(destination):
        raise BadInput(
            f"{destination} is not replaced: it does not look like an export of selfreward",
            f"Only a directory with the {CARD} of an export is. Choose another place, or move it away.",
        )


def is_export(directory: Path) -> bool:
    """Whether a directory carries the card of an export."""
    try:
        text = (directory / CARD).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return False
    front = text.split("\n---", 1)[0] if text.startswith("---\n") else ""
    return TAG in front.splitlines()


@contextmanager
def placed(destination: Path, force: bool) -> Iterator[Path]:
    """A new directory to fill, which becomes `destination` when the block ends well.

    Raises BadInput when something is there and `force` is not given, or when it is no export.
    """
    destination = destination.resolve()
    refuse_existing(destination, force)
    with _scratch(destination) as scratch:
        yield scratch
        refuse_existing(destination, force)
        with _aside(destination):
            rename_durably(scratch, destination)


@contextmanager
def placed_file(destination: Path, force: bool) -> Iterator[Path]:
    """The same for a file: whatever single file the directory holds when the block ends becomes it."""
    destination = destination.resolve()
    refuse_existing(destination, force, as_file=True)
    with _scratch(destination) as scratch:
        yield scratch
        [made] = scratch.iterdir()
        _sync(made)
        refuse_existing(destination, force, as_file=True)
        made.replace(destination)
        _sync(destination.parent)


@contextmanager
def _scratch(destination: Path) -> Iterator[Path]:
    destination.parent.mkdir(parents=True, exist_ok=True)
    prefix = f".{destination.name}.partial-{socket.gethostname()}-"
    _clear(destination.parent, prefix)
    scratch = destination.with_name(f"{prefix}{os.getpid()}")
    scratch.mkdir()
    try:
        yield scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


@contextmanager
def _aside(destination: Path) -> Iterator[None]:
    """What is there makes room, comes back if the new one cannot take its place, and goes when it has."""
    if not destination.is_dir() or _is_empty(destination):
        yield
        return
    old = destination.with_name(f".{destination.name}.partial-{socket.gethostname()}-{os.getpid()}-old")
    destination.rename(old)
    try:
        yield
    except BaseException:
        old.rename(destination)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _clear(parent: Path, prefix: str) -> None:
    """Remove what exports to the same place have left that were killed on this machine."""
    for left in parent.iterdir():
        if not left.name.startswith(prefix):
            continue
        number = left.name.removeprefix(prefix).removesuffix("-old")
        if number.isdigit() and not _is_alive(int(number)):
            shutil.rmtree(left, ignore_errors=True)


def _is_alive(pid: int) -> bool:
    if pid == os.getpid():
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _is_empty(path: Path) -> bool:
    return path.is_dir() and not any(path.iterdir())


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
