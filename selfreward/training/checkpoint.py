"""Checkpoints on disk: complete or absent, and provably the bytes that were written.

A checkpoint is a directory of safetensors weights with everything needed to serve them and a
`manifest.json` that names every file with its size and sha256. The manifest is written last, so
its presence means that the directory is complete. Standard library only: the daemon imports this.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from selfreward.errors import TrainingError

MANIFEST = "manifest.json"
PICKLED_SUFFIXES = frozenset({".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt"})


@dataclass(frozen=True, kw_only=True)
class FileEntry:
    """What one file of a checkpoint must be: hex sha256 and size in bytes."""

    sha256: str
    size: int


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """Every file of a checkpoint by its path within it, and one digest over them all."""

    files: dict[str, FileEntry]
    digest: str


def temporary_path(final: Path, fence: int) -> Path:
    """Where the owner with this fence assembles `final`."""
    return final.with_name(f"{final.name}.tmp-{fence}")


def write_manifest(directory: Path) -> str:
    """Sum every file below `directory`, write its manifest durably and return the digest.

    Raises TrainingError where there are pickled weights or no safetensors at all.
    """
    problems = _format_problems(_listing(directory))
    if problems:
        raise TrainingError(f"{directory} cannot become a checkpoint: {'; '.join(problems)}")
    files = {name: _entry(directory / name) for name in _listing(directory)}
    manifest = Manifest(files=files, digest=_digest(files))
    write_durably(directory / MANIFEST, json.dumps(asdict(manifest), indent=1, sort_keys=True))
    return manifest.digest


def read_manifest(directory: Path) -> Manifest | None:
    """The manifest of `directory`; None where there is none, or none that agrees with itself."""
    try:
        data = json.loads((directory / MANIFEST).read_bytes())
        files = {name: FileEntry(**entry) for name, entry in data["files"].items()}
        manifest = Manifest(files=files, digest=data["digest"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return manifest if manifest.digest == _digest(files) else None


def verify(directory: Path, deep: bool = False) -> list[str]:
    """What is wrong with the checkpoint in `directory`, in words; empty when it is intact.

    Shallow compares names and sizes; `deep` reads every byte and compares the sums too.
    """
    manifest = read_manifest(directory)
    if manifest is None:
        return [f"{MANIFEST} is missing or damaged"]
    present = _listing(directory)
    problems = _format_problems(present)
    problems += [f"{name} is missing" for name in sorted(manifest.files.keys() - set(present))]
    problems += [f"{name} is not in the manifest" for name in sorted(set(present) - manifest.files.keys())]
    for name in sorted(manifest.files.keys() & set(present)):
        problems += _file_problems(directory / name, manifest.files[name], deep)
    return problems


def adoptable(final: Path) -> Manifest | None:
    """The manifest of a checkpoint that is finished and has all its files, else None."""
    return read_manifest(final) if final.is_dir() and not verify(final) else None


def publish(temporary: Path, final: Path) -> None:
    """Make `temporary`, which carries its manifest, appear as `final` at once and for good.

    An incomplete `final` is replaced; an intact one with the same digest is left as it is. Raises
    TrainingError when another intact checkpoint is already there.
    """
    manifest = read_manifest(temporary)
    if manifest is None:
        raise TrainingError(f"{temporary} has no valid {MANIFEST}: it is not finished")
    existing = adoptable(final)
    if existing is not None and existing.digest != manifest.digest:
        raise TrainingError(
            f"{final} already holds another checkpoint ({existing.digest[:12]}, not {manifest.digest[:12]})",
            "Move it away if it is not needed; a finished checkpoint is never overwritten.",
        )
    if existing is not None:
        shutil.rmtree(temporary)
        return
    shutil.rmtree(final, ignore_errors=True)
    _sync_tree(temporary)
    temporary.rename(final)
    _sync(final.parent)


def collect_garbage(models_dir: Path) -> list[Path]:
    """Remove what interrupted trainings left behind; returns what was removed.

    Call it only as the owner of the run, while no job of its own is running.
    """
    leftovers = sorted(path for path in models_dir.glob("*.tmp-*") if path.is_dir())
    for path in leftovers:
        shutil.rmtree(path, ignore_errors=True)
    return leftovers


def write_durably(path: Path, text: str) -> None:
    """Replace `path` by `text` so that a crash at any moment leaves the old file or the new one."""
    temporary = path.with_name(f"{path.name}.new")
    with temporary.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    _sync(path.parent)


def _listing(directory: Path) -> list[str]:
    """Every file below `directory` but the manifest, as sorted relative paths."""
    paths = (path.relative_to(directory).as_posix() for path in directory.rglob("*") if not path.is_dir())
    return sorted(name for name in paths if name not in {MANIFEST, f"{MANIFEST}.new"})


def _format_problems(names: Iterable[str]) -> list[str]:
    names = list(names)
    problems = [f"{name} is pickled" for name in names if Path(name).suffix in PICKLED_SUFFIXES]
    if not any(name.endswith(".safetensors") for name in names):
        problems.append("there are no safetensors weights")
    return problems


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


def _sync_tree(directory: Path) -> None:
    for path in directory.rglob("*"):
        _sync(path)
    _sync(directory)


def _sync(path: Path) -> None:
    """fsync of a file or a directory."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
