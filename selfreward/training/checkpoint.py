"""Checkpoints on disk: complete or absent, and provably the bytes that were written.

A checkpoint is a directory of safetensors weights with everything needed to serve them and a manifest,
which is written last. Standard library only: the daemon imports this.
"""

import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

from selfreward.crash import crash_point
from selfreward.errors import TrainingError
from selfreward.training import manifest
from selfreward.training.manifest import MANIFEST, FileEntry, Manifest, write_durably
from selfreward.training.manifest import read as read_manifest

__all__ = [
    "DAMAGED",
    "MANIFEST",
    "PICKLED_SUFFIXES",
    "STALE",
    "FileEntry",
    "Manifest",
    "adopt",
    "adoptable",
    "collect_garbage",
    "publish",
    "read_manifest",
    "set_aside",
    "temporary_path",
    "verify",
    "write_durably",
    "write_manifest",
]

PICKLED_SUFFIXES = frozenset({".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt"})
STALE = "stale"
"""What a finished checkpoint without a row is called that was made from something else."""
DAMAGED = "damaged"
"""What a checkpoint is called whose files are no longer what was written. Never removed."""


def temporary_path(final: Path, fence: int) -> Path:
    """Where the owner with this fence assembles `final`."""
    return final.with_name(f"{final.name}.tmp-{fence}")


def write_manifest(directory: Path, made_from: Sequence[str] = ()) -> str:
    """Sum every file below `directory`, write its manifest durably and return the digest.

    `made_from` are digests of `origin.digest`. Raises TrainingError where there are pickled weights or
    no safetensors at all.
    """
    crash_point("model:assembled")
    problems = _format_problems(manifest.listing(directory))
    if problems:
        raise TrainingError(f"{directory} cannot become a checkpoint: {'; '.join(problems)}")
    digest = manifest.write(directory, made_from).digest
    crash_point("model:summed")
    return digest


def verify(directory: Path, deep: bool = False) -> list[str]:
    """What is wrong with the checkpoint in `directory`, in words; empty when it is intact.

    Shallow compares names and sizes; `deep` reads every byte and compares the sums too.
    """
    problems = manifest.differences(directory, deep)
    if read_manifest(directory) is None:
        return problems
    return _format_problems(manifest.listing(directory)) + problems


def adoptable(final: Path) -> Manifest | None:
    """The manifest of a checkpoint that is finished and has all its files, else None."""
    return read_manifest(final) if final.is_dir() and not verify(final) else None


def adopt(final: Path, origin: str, fence: int, aside: str = STALE) -> str | None:
    """The digest of `final` when it is a finished checkpoint that was made from `origin`, else None.

    A finished one that was made from something else, or has changed since, is moved aside: it is never
    used, and as a stale one collected when another has taken its place. A half-written one stays for
    `publish` to replace.
    """
    found = adoptable(final)
    if found is None:
        return None
    if found.may_come_from(origin) and not verify(final, deep=True):
        return found.digest
    set_aside(final, aside, fence)
    return None


def set_aside(directory: Path, why: str, number: int = 1) -> Path:
    """Move `directory` to `<name>.<why>-<number>`, or the next number that is free; returns where it is."""
    while (target := directory.with_name(f"{directory.name}.{why}-{number}")).exists():
        number += 1
    directory.rename(target)
    return target


def publish(temporary: Path, final: Path) -> None:
    """Make `temporary`, which carries its manifest, appear as `final` at once and for good.

    An incomplete `final` is replaced; an intact one with the same digest is left as it is. Raises
    TrainingError when another intact checkpoint is already there.
    """
    written = read_manifest(temporary)
    if written is None:
        raise TrainingError(f"{temporary} has no valid {MANIFEST}: it is not finished")
    existing = adoptable(final)
    if existing is not None and existing.digest != written.digest:
        raise TrainingError(
            f"{final} already holds another checkpoint ({existing.digest[:12]}, not {written.digest[:12]})",
            "Move it away if it is not needed; a finished checkpoint is never overwritten.",
        )
    if existing is not None:
        shutil.rmtree(temporary)
        return
    shutil.rmtree(final, ignore_errors=True)
    manifest.rename_durably(temporary, final)
    crash_point("model:renamed")


def collect_garbage(models_dir: Path) -> list[Path]:
    """Remove what interrupted trainings left behind, and stale checkpoints whose place is taken.

    Returns what was removed. Call it only as the owner of the run, while no job of its own is running.
    """
    stale = [path for path in models_dir.glob(f"*.{STALE}-*") if adoptable(_replacement(path)) is not None]
    leftovers = sorted(path for path in [*models_dir.glob("*.tmp-*"), *stale] if path.is_dir())
    for path in leftovers:
        shutil.rmtree(path, ignore_errors=True)
    return leftovers


def _replacement(stale: Path) -> Path:
    return stale.with_name(stale.name.rpartition(f".{STALE}-")[0])


def _format_problems(names: Iterable[str]) -> list[str]:
    names = list(names)
    problems = [f"{name} is pickled" for name in names if Path(name).suffix in PICKLED_SUFFIXES]
    if not any(name.endswith(".safetensors") for name in names):
        problems.append("there are no safetensors weights")
    return problems
