"""Which checkpoints keep their files. Rows are never removed: a checkpoint whose files are gone says when."""

import shutil
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection, func, select, update

from selfreward.config import Settings
from selfreward.crash import crash_point
from selfreward.errors import BadInput
from selfreward.store.database import Database
from selfreward.store.replacing import present_name
from selfreward.store.rows import now
from selfreward.store.schema import Checkpoint, Iteration, Run, Setting, Stage
from selfreward.types import CheckpointRow, StageName, Status


@dataclass(frozen=True, kw_only=True)
class Stored:
    """A checkpoint that a run made and whose files are there."""

    id: int
    version: int
    name: str
    pinned: bool

    @property
    def is_step(self) -> bool:
        """M_0, M_1, …, and not what was made beside them on the way."""
        return self.name == f"M_{self.version}"

    @property
    def is_reward(self) -> bool:
        """R_t, a reward model."""
        return self.name == f"R_{self.version}"


@dataclass(frozen=True, kw_only=True)
class Retained:
    """What a pass of retention did."""

    removed: tuple[str, ...]
    """Checkpoints that lost their files in this pass."""
    stuck: tuple[str, ...]
    """Paths of files that could not be removed; the next pass tries again."""

    def __bool__(self) -> bool:
        """Whether there is anything to tell."""
        return bool(self.removed or self.stuck)

    def describe(self) -> str:
        """The same in a sentence."""
        parts = {"the files of {} are removed": self.removed, "these could not be removed: {}": self.stuck}
        return "; ".join(said.format(", ".join(names)) for said, names in parts.items() if names)


def dispensable(stored: Sequence[Stored], needed: Collection[int], keep: int) -> list[Stored]:
    """The checkpoints whose files may go.

    Not M_0, M_1, the `keep` newest, the newest reward model, a pinned or a `needed` one.
    """
    steps = sorted((row for row in stored if row.is_step), key=lambda row: row.version)
    rewards = sorted((row for row in stored if row.is_reward), key=lambda row: row.version)
    newest = {row.id for row in [*steps[-keep:], *rewards[-1:]]}
    first = {row.id for row in steps if row.version <= 1}
    return [row for row in stored if not row.pinned and row.id not in {*newest, *first, *needed}]


def retain(database: Database, root: Path, run_id: int, settings: Settings) -> Retained:
    """Remove the files of the checkpoints that a run need not keep (`daemon.keep_checkpoints`).

    For the run's owner, between two iterations. `root` is where the paths of checkpoints begin. The rows
    come first: what a crash leaves of the files after that, the next pass removes.
    """
    removed: list[str] = []
    if settings.daemon.keep_checkpoints:
        with database.write() as connection:
            removed = _mark(connection, run_id, settings)
    crash_point("retention:marked")
    stuck = [path for path in _paths_to_clear(database, run_id) if not _clear(root, path)]
    return Retained(removed=tuple(removed), stuck=tuple(stuck))


def _earlier(settings: Settings) -> int:
    """How many of the newest the next iteration works with: M_{t-1} too, where it judges or is the anchor."""
    anchored = settings.pair.rule == "anchored" and settings.pair.anchor == "previous"
    return 2 if anchored or settings.train.objective == "cream" else 1


def pin(database: Database, checkpoint: CheckpointRow, pinned: bool) -> None:
    """Keep a checkpoint's files whatever the settings say, or no longer. Raises BadInput if they are gone."""
    there = (Checkpoint.id == checkpoint.id) & Checkpoint.removed_at.is_(None)
    with database.write() as connection:
        changed = connection.execute(update(Checkpoint).where(there).values(pinned=pinned))
        if changed.rowcount == 0:
            raise BadInput(
                f"the files of {checkpoint.name} are gone: retention has removed them",
                "Its rows are all there. Keep more with daemon.keep_checkpoints, or pin earlier.",
            )


def _mark(connection: Connection, run_id: int, settings: Settings) -> list[str]:
    """Decide and write it down. The rows are locked: a pin or a fork waits, and then finds it done."""
    mine = (Checkpoint.run_id == run_id) & Checkpoint.removed_at.is_(None)
    columns = (Checkpoint.id, Checkpoint.version, Checkpoint.name, Checkpoint.pinned)
    rows = connection.execute(select(*columns).where(mine).order_by(Checkpoint.id).with_for_update())
    stored = [Stored(**row._asdict()) for row in rows]
    needed = _at_work(connection) | _forked(connection) | _judging(connection, stored, settings)
    if settings.evaluation.enabled:
        needed |= {row.id for row in stored if row.is_step} - _measured(connection)
    going = dispensable(stored, needed, max(settings.daemon.keep_checkpoints, _earlier(settings)))
    gone = update(Checkpoint).where(Checkpoint.id.in_([row.id for row in going]))
    connection.execute(gone.values(removed_at=now()))
    return [row.name for row in going]


def _at_work(connection: Connection) -> set[int]:
    """What iterations that are not done work with, and what they have made beside it."""
    unfinished = Iteration.status != Status.DONE
    made = (Checkpoint.run_id == Iteration.run_id) & (Checkpoint.parent_id == Iteration.checkpoint_id)
    beside = select(Checkpoint.id).join(Iteration, made).where(unfinished)
    return set(connection.scalars(select(Iteration.checkpoint_id).where(unfinished).union(beside)))


def _forked(connection: Connection) -> set[int]:
    """What forks start from."""
    first = (Iteration.run_id == Run.id) & (Iteration.t == Run.parent_iteration)
    return set(connection.scalars(select(Iteration.checkpoint_id).join(Run, first)))


def _judging(connection: Connection, stored: Sequence[Stored], settings: Settings) -> set[int]:
    """Reward models that this run's settings name as judge, or those that a run was last worked on with."""
    newest = select(func.max(Iteration.id)).group_by(Iteration.run_id)
    used = select(Setting.body).join(Iteration, Iteration.setting_hash == Setting.hash)
    bodies = connection.scalars(used.where(Iteration.id.in_(newest)))
    named = {str(body.get("judge", {}).get("reward_model", "")).strip() for body in bodies}
    named.add(settings.judge.reward_model.strip())
    return {row.id for row in stored if row.is_reward and row.name in named}


def _measured(connection: Connection) -> set[int]:
    done = (Stage.name == StageName.EVALUATE) & (Stage.status == Status.DONE)
    measured = select(Iteration.checkpoint_id).join(Stage, Stage.iteration_id == Iteration.id).where(done)
    return set(connection.scalars(measured))


def _paths_to_clear(database: Database, run_id: int) -> list[str]:
    """Paths of the checkpoints that were removed, but for what another row still has there.

    What is left of a damaged one, which has lost its name, is nobody's to remove but the user's.
    """
    kept = select(Checkpoint.path).where(Checkpoint.removed_at.is_(None))
    gone = (Checkpoint.run_id == run_id) & Checkpoint.removed_at.is_not(None) & Checkpoint.path.not_in(kept)
    query = select(Checkpoint.name, Checkpoint.path).where(gone).order_by(Checkpoint.id)
    with database.read() as connection:
        return [path for name, path in connection.execute(query) if present_name(name) == name]


def _clear(root: Path, path: str) -> bool:
    """Remove a checkpoint's directory, or the link to it. False when something of it is left."""
    directory = root / path
    if ".." in directory.parts or not directory.is_relative_to(root):
        return False
    with suppress(OSError):
        directory.unlink() if directory.is_symlink() else shutil.rmtree(directory)
    return not directory.exists()
