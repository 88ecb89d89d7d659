"""What a stage of an iteration is given: the store, the settings, and where it is."""

import asyncio
from dataclasses import dataclass, field
from pathlib import Path

from selfreward.config import EngineSettings, Settings
from selfreward.places import root_of
from selfreward.reporting import Reporter
from selfreward.stages.load import Load
from selfreward.store import Store
from selfreward.types import CheckpointRow, IterationRow, RunRow

MODELS = "models"
"""Where checkpoints live in a run's directory."""


@dataclass(frozen=True, kw_only=True)
class Workplace:
    """One iteration in progress. `stop` is set when the work should drain to an item boundary."""

    directory: Path
    store: Store
    settings: Settings
    run: RunRow
    iteration: IterationRow
    checkpoint: CheckpointRow
    """M_t."""
    fence: int
    reporter: Reporter
    stop: asyncio.Event
    load: Load = field(default_factory=Load)

    @property
    def engine(self) -> EngineSettings:
        """What to serve with: the settings, with less at once after failures."""
        return self.load.lighten(self.settings.engine)

    @property
    def data_iteration(self) -> int:
        """Id of the iteration whose prompts and candidates this one uses."""
        return self.iteration.data_iteration_id

    @property
    def model_path(self) -> Path:
        """Directory of M_t."""
        return self.root / self.checkpoint.path

    @property
    def root(self) -> Path:
        """Directory of the run from which all forks come, where the paths of checkpoints begin."""
        return root_of(self.directory)

    def checkpoint_path(self, name: str) -> str:
        """Where a checkpoint that this run makes belongs, as its row has it: from the root's directory."""
        return checkpoint_path(self.directory, name)


def checkpoint_path(directory: Path, name: str) -> str:
    """The same for the run in `directory`."""
    return (directory.resolve().relative_to(root_of(directory)) / MODELS / name).as_posix()


class Drained(Exception):
    """The stage stopped at an item boundary because `stop` was set. Everything finished is committed."""


class Held(Exception):
    """A health gate holds the iteration until a user lets it go on. `message` says what was found."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message
