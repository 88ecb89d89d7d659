"""Manifests: a directory's files by name, size and sha256, written last, so that one that is there means
that the directory is complete. Standard library only: the daemon imports this.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from selfreward.crash import crash_point

MANIFEST = "manifest.json"


@dataclass(frozen=True, kw_only=True)
class FileEntry:
    """What one file must be: hex sha256 and size in bytes."""

    sha256: str
    size: int


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """Every file of a directory by its path within it, and one digest over them all."""

    files: dict[str, FileEntry]
    digest: str
    made_from: tuple[str, ...] = ()
    """Digests of `origin.digest`, any of which names what it was made from. Not part of `digest`."""

    def may_come_from(self, origin: str) -> bool:
        """Whether it was made from this; an old manifest does not say, and is believed."""
        return not self.made_from or origin in self.made_from


def write(directory: Path, made_from: Sequence[str] = ()) -> Manifest:
    """Sum every file below `directory` and write its manifest durably, last of all."""
    files = {name: _entry(directory / name) for name in listing(directory)}
    manifest = Manifest(files=files, digest=_digest(files), made_from=tuple(dict.fromkeys(made_from)))
    write_durably(directory / MANIFEST, json.dumps(asdict(manifest), indent=1, sort_keys=True))
    return manifest


def digest_of(directory: Path, names: Iterable[str]) -> str:
    """The digest that a directory of these files alone would have."""
    return _digest({name: _entry(directory / name) for name in names})


def read(directory: Path) -> Manifest | None:
    """The manifest of `directory`; None where there is none, or none that agrees with itself."""
    try:
        data = json.loads((directory / MANIFEST).read_bytes())
        files = {name: FileEntry(**entry) for name, entry in data["files"].items()}
        made_from = tuple(str(digest) for digest in data.get("made_from", ()))
        manifest = Manifest(files=files, digest=data["digest"], made_from=made_from)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return manifest if manifest.digest == _digest(files) else None


def differences(directory: Path, deep: bool = False) -> list[str]:
    """Where `directory` is not what its manifest says, in words; empty when it is intact.

    Shallow compares names and sizes; `deep` reads every byte and compares the sums too.
    """
    manifest = read(directory)
    if manifest is None:
        return [f"{MANIFEST} is missing or damaged"]
    present = set(listing(directory))
    problems = [f"{name} is missing" for name in sorted(manifest.files.keys() - present)]
    problems += [f"{name} is not in the manifest" for name in sorted(present - manifest.files.keys())]
    for name in sorted(manifest.files.keys() & present):
        problems += _file_problems(directory / name, manifest.files[name], deep)
    return problems


def listing(directory: Path) -> list[str]:
    """Every file below `directory` but the manifest, as sorted relative paths."""
    paths = (path.relative_to(directory).as_posix() for path in directory.rglob("*") if not path.is_dir())
    return sorted(name for name in paths if name not in {MANIFEST, f"{MANIFEST}.new"})


def write_durably(path: Path, text: str) -> None:
    """Replace `path` by `text` so that a crash at any moment leaves the old file or the new one."""
    temporary = path.with_name(f"{path.name}.new")
    with temporary.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    _sync(path.parent)


def rename_durably(directory: Path, final: Path) -> None:
    """Give a directory with all that is in it another name, at once and for good."""
    for path in directory.rglob("*"):
        _sync(path)
    _sync(directory)
    crash_point("model:synced")
    directory.rename(final)
    _sync(final.parent)


def _file_problems(path: Path, expected: FileEntry, deep: bool) -> list[str]:
    size = path.stat().st_size
    if size != expected.size:
        return [f"{path.name} has {size} bytes instead of {expected.size}"]
    if deep and _entry(path) != expected:
        return [f"{path.name} has other content than was written"]
    return []


def _entry(path: Path) -> FileEntry:
    with path.open("rb") as file:
        return FileEntry(sha256=hashlib.file_digest(file, "sha256").hexdigest(), size=path.stat().st_size)


def _digest(files: dict[str, FileEntry]) -> str:
    lines = (f"{name}\0{entry.sha256}\0{entry.size}\n" for name, entry in sorted(files.items()))
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _sync(path: Path) -> None:
    """fsync of a file or a directory."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
