"""Checkpoints that were lost: the old row keeps its digest and all that refers to it, under another name."""

import re
from collections.abc import Sequence

from sqlalchemy import Connection, select, update

from selfreward.store.checkpoints import insert_checkpoint
from selfreward.store.database import Database
from selfreward.store.rows import now
from selfreward.store.schema import Checkpoint, Iteration, Stage
from selfreward.types import CheckpointRow, StageName, Status

LOST = re.compile(r"(?P<name>.+)_lost(_\d+)?")


def present_name(name: str) -> str:
    """The name under which a checkpoint is looked for: that of its successor, if it was lost."""
    found = LOST.fullmatch(name)
    return found["name"] if found else name


def replace_checkpoint(
    database: Database,
    lost: CheckpointRow,
    *,
    digest: str,
    parent_id: int | None,
    remains: str,
    iteration_id: int | None = None,
    reopen: Sequence[StageName] = (),
) -> str:
    """Record another checkpoint in the place of a lost one, which is renamed; returns the lost one's name.

    `remains` is where the damaged files are, as a checkpoint's path. `reopen` are stages of an iteration that
    begin anew with it. All of it in one transaction.
    """
    with database.write() as connection:
        taken = set(connection.scalars(select(Checkpoint.name).where(Checkpoint.run_id == lost.run_id)))
        names = [f"{lost.name}_lost", *(f"{lost.name}_lost_{number}" for number in range(2, len(taken) + 3))]
        name = next(name for name in names if name not in taken)
        mine = update(Checkpoint).where(Checkpoint.id == lost.id)
        connection.execute(mine.values(name=name, path=remains, removed_at=now()))
        insert_checkpoint(
            connection, lost.run_id, lost.version, lost.name, lost.kind, lost.path, digest, parent_id
        )
        if iteration_id is not None:
            _reopen(connection, iteration_id, reopen)
    return name


def move_iteration(
    database: Database, iteration_id: int, checkpoint_id: int, reopen: Sequence[StageName]
) -> None:
    """Let an iteration go on with another checkpoint: it judges anew, and is measured anew.

    What is written, answered or wholly judged stays; stages in `reopen` begin anew even if they are done.
    """
    with database.write() as connection:
        mine = update(Iteration).where(Iteration.id == iteration_id)
        connection.execute(mine.values(checkpoint_id=checkpoint_id))
        unfinished = (Stage.iteration_id == iteration_id) & (Stage.status != Status.DONE)
        judging = unfinished & (Stage.name == StageName.JUDGE)
        connection.execute(update(Stage).where(judging).values(cursor=0))
        _reopen(connection, iteration_id, reopen)


def files_are_back(database: Database, checkpoint_id: int) -> None:
    """A checkpoint that retention had removed was made again."""
    with database.write() as connection:
        connection.execute(update(Checkpoint).where(Checkpoint.id == checkpoint_id).values(removed_at=None))


def _reopen(connection: Connection, iteration_id: int, names: Sequence[StageName]) -> None:
    these = (Stage.iteration_id == iteration_id) & Stage.name.in_(names)
    connection.execute(update(Stage).where(these).values(status=Status.PENDING, cursor=0))
