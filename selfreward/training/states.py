"""Saved states of a training that is under way: what the next attempt goes on from after a stop.

They live in `resume-<digest>` beside the attempts, named by what the training is made from, so that a state
never meets other data or settings. A state appears there complete, with a manifest, or not at all; only
the newest is kept. Standard library only: the daemon imports this.
"""

import hashlib
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from selfreward.training import manifest

PREFIX = "resume-"
STATE = "checkpoint-"
"""Followed by the step, as transformers names them."""
UNFINISHED = "unfinished-"


@dataclass(frozen=True, kw_only=True)
class States:
    """The saved states of one training. `fence` is that of the daemon whose child writes them."""

    directory: Path
    fence: int

    @property
    def unfinished(self) -> Path:
        """Where a state is written before it is kept."""
        return self.directory / f"{UNFINISHED}{self.fence}"

    def newest(self) -> Path | None:
        """The intact state of the latest step. All else is removed: damaged, half-written, of other data."""
        for other in self.directory.parent.glob(f"{PREFIX}*"):
            if other != self.directory:
                shutil.rmtree(other, ignore_errors=True)
        found = next((path for path in self._complete() if not manifest.differences(path, deep=True)), None)
        self._remove_all_but(found)
        return found

    def keep(self, written: Path) -> Path:
        """Make a written state the one to go on from, then remove the one before."""
        manifest.write(written)
        final = self.directory / written.name
        shutil.rmtree(final, ignore_errors=True)
        manifest.rename_durably(written, final)
        self._remove_all_but(final)
        return final

    def _complete(self) -> list[Path]:
        """Latest step first."""
        found = [path for path in self.directory.glob(f"{STATE}*") if path.name.removeprefix(STATE).isdigit()]
        return sorted(found, key=lambda path: int(path.name.removeprefix(STATE)), reverse=True)

    def _remove_all_but(self, kept: Path | None) -> None:
        for path in self._others(kept):
            shutil.rmtree(path, ignore_errors=True)

    def _others(self, kept: Path | None) -> Iterator[Path]:
        return (path for path in self.directory.glob("*") if path != kept)


def states_of(parent: Path, fence: int, *made_from: str) -> States:
    """The states below `parent` of the training that is made from this."""
    digest = hashlib.sha256("\n".join(made_from).encode()).hexdigest()
    return States(directory=parent / f"{PREFIX}{digest[:12]}", fence=fence)


def latest_step(parent: Path) -> int:
    """The step of the latest state below `parent`, intact or not; 0 where there is none."""
    steps = (path.name.removeprefix(STATE) for path in parent.glob(f"{PREFIX}*/{STATE}*"))
    return max((int(step) for step in steps if step.isdigit()), default=0)


def forget(parent: Path) -> None:
    """Remove every state below `parent`: its checkpoint is published."""
    for path in parent.glob(f"{PREFIX}*"):
        shutil.rmtree(path, ignore_errors=True)


def collect(jobs: Path, *current: str) -> None:
    """Remove the states of every checkpoint but those that are being trained."""
    for parent in jobs.glob("*"):
        if parent.name not in current:
            forget(parent)
