"""Checkpoints: M_0, M_1, … of a run, those that a fork has from its parent among them."""

from sqlalchemy import Connection, select

from selfreward.store.database import Database
from selfreward.store.lineage import Link, counted_checkpoints, lineage
from selfreward.store.rows import AnyRow, insert_new, now
from selfreward.store.schema import Checkpoint
from selfreward.types import CheckpointKind, CheckpointRow


class Checkpoints:
    """Queries about checkpoints: a part of `Runs`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def lineage(self, run_id: int) -> list[Link]:
        """The run itself, then the runs it was forked from, with how much of each counts."""
        with self._database.read() as connection:
            return lineage(connection, run_id)

    def add_checkpoint(
        self,
        run_id: int,
        version: int,
        kind: CheckpointKind,
        path: str,
        digest: str,
        parent_id: int | None = None,
        name: str | None = None,
    ) -> CheckpointRow:
        """Record M_version, or a checkpoint beside it called `name`; one that is recorded stays as it is."""
        name = name or f"M_{version}"
        with self._database.write() as connection:
            insert_checkpoint(connection, run_id, version, name, kind, path, digest, parent_id)
        row = self.checkpoint_named(run_id, name)
        assert row is not None
        return row

    def checkpoint(self, run_id: int, version: int) -> CheckpointRow | None:
        """M_version of a run, or of the run it was forked from."""
        return self.checkpoint_named(run_id, f"M_{version}")

    def checkpoint_named(self, run_id: int, name: str) -> CheckpointRow | None:
        """A checkpoint of a run, or of the run it was forked from, by its name."""
        with self._database.read() as connection:
            counted = counted_checkpoints(lineage(connection, run_id))
            query = select(*_CHECKPOINT).where(counted, Checkpoint.name == name)
            row = connection.execute(query).one_or_none()
        return None if row is None else _checkpoint(row)

    def checkpoint_by_id(self, checkpoint_id: int) -> CheckpointRow:
        """A checkpoint by its id."""
        with self._database.read() as connection:
            return _checkpoint(
                connection.execute(select(*_CHECKPOINT).where(Checkpoint.id == checkpoint_id)).one()
            )

    def checkpoints(self, run_id: int) -> list[CheckpointRow]:
        """All checkpoints of a run in the order of their versions, with those it was forked from."""
        with self._database.read() as connection:
            mine = select(*_CHECKPOINT).where(counted_checkpoints(lineage(connection, run_id)))
            query = mine.order_by(Checkpoint.version, Checkpoint.id)
            return [_checkpoint(row) for row in connection.execute(query)]


_CHECKPOINT = (
    Checkpoint.id,
    Checkpoint.run_id,
    Checkpoint.version,
    Checkpoint.name,
    Checkpoint.kind,
    Checkpoint.path,
    Checkpoint.digest,
    Checkpoint.parent_id,
    Checkpoint.pinned,
    Checkpoint.removed_at.is_not(None).label("removed"),
)


def insert_checkpoint(
    connection: Connection,
    run_id: int,
    version: int,
    name: str,
    kind: CheckpointKind,
    path: str,
    digest: str,
    parent_id: int | None,
) -> None:
    """Record a checkpoint in a transaction; one that is recorded stays as it is."""
    new = {
        "run_id": run_id,
        "version": version,
        "name": name,
        "kind": kind,
        "path": path,
        "digest": digest,
        "parent_id": parent_id,
        "created_at": now(),
    }
    insert_new(connection, Checkpoint, [new])


def _checkpoint(row: AnyRow) -> CheckpointRow:
    return CheckpointRow(**{**row._asdict(), "kind": CheckpointKind(row.kind)})
