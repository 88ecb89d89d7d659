"""One checkpoint with all that belongs to it."""

from collections.abc import Mapping
from pathlib import Path

from sqlalchemy import ColumnElement, Connection, func, select

from selfreward.errors import BadInput
from selfreward.store.browsed import (
    CheckpointDetail,
    CheckpointRef,
)
from selfreward.store.database import Database
from selfreward.store.lineage import counted_checkpoints, lineage
from selfreward.store.references import checkpoint_refs, evaluations_of, iteration_refs
from selfreward.store.rows import AnyRow
from selfreward.store.schema import (
    Checkpoint,
    Iteration,
    PreferencePair,
    Run,
    SftExample,
    TrainingMetric,
)
from selfreward.types import (
    CheckpointKind,
    StageName,
)


class BrowseCheckpoints:
    """Queries about checkpoints: a part of `Browse`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def checkpoint(self, run_id: int, name: str, root: Path | None = None) -> CheckpointDetail:
        """A checkpoint of a run's history. `root` is the directory of the run from which all forks come.

        Raises BadInput with the names that are there.
        """
        with self._database.read() as connection:
            counted = counted_checkpoints(lineage(connection, run_id))
            known = select(Checkpoint).where(counted).order_by(Checkpoint.version, Checkpoint.id)
            rows = {row.name: row for row in connection.execute(known)}
            if name not in rows:
                run = connection.execute(select(Run.name).where(Run.id == run_id)).scalar_one()
                there = ", ".join(rows) or "none yet"
                raise BadInput(f"run {run!r} has no checkpoint {name!r}", f"Checkpoints: {there}.")
            return _checkpoint(connection, rows[name], root)


def _checkpoint(connection: Connection, row: AnyRow, root: Path | None) -> CheckpointDetail:
    refs = checkpoint_refs(connection)
    made_in = _made_in(connection, row)
    return CheckpointDetail(
        id=row.id,
        run=refs[row.id][0].run,
        version=row.version,
        name=row.name,
        kind=CheckpointKind(row.kind),
        path=row.path,
        digest=row.digest,
        pinned=row.pinned,
        removed_at=row.removed_at,
        created_at=row.created_at,
        size_bytes=None if root is None else _size(root / row.path),
        ancestors=tuple(_ancestors(refs, row.parent_id)),
        children=tuple(ref for ref, of in refs.values() if of.parent_id == row.id),
        trained_in=None if made_in is None else iteration_refs(connection, Iteration.id == made_in)[0],
        pairs=_count(connection, PreferencePair, PreferencePair.excluded.is_(None), made_in),
        examples=_count(connection, SftExample, SftExample.kept.is_(True), made_in),
        steps=_steps(connection, made_in, _stage_of(row)),
        works_in=tuple(iteration_refs(connection, Iteration.checkpoint_id == row.id)),
        evaluations=evaluations_of(connection, row),
    )


def _stage_of(row: AnyRow) -> StageName:
    """In which it was trained."""
    if row.kind == CheckpointKind.REWARD:
        return StageName.TRAIN_REWARD
    return StageName.TRAIN if row.name == f"M_{row.version}" else StageName.BASELINE


def _made_in(connection: Connection, row: AnyRow) -> int | None:
    """The id of the iteration that made it; None for one that was given."""
    if row.kind == CheckpointKind.BASE:
        return None
    t = row.version - 1 if row.name == f"M_{row.version}" else row.version
    query = select(Iteration.id).where(Iteration.run_id == row.run_id, Iteration.t == t)
    return connection.execute(query).scalar_one_or_none()


def _ancestors(
    refs: Mapping[int, tuple[CheckpointRef, AnyRow]], parent_id: int | None
) -> list[CheckpointRef]:
    found = []
    while parent_id is not None:
        ref, row = refs[parent_id]
        found.append(ref)
        parent_id = row.parent_id
    return found


def _count(
    connection: Connection,
    table: type[PreferencePair] | type[SftExample],
    counted: ColumnElement[bool],
    iteration_id: int | None,
) -> int:
    query = select(func.count()).select_from(table).where(table.iteration_id == iteration_id, counted)
    return connection.execute(query).scalar_one()


def _steps(connection: Connection, iteration_id: int | None, stage: StageName) -> int | None:
    mine = (TrainingMetric.iteration_id == iteration_id) & (TrainingMetric.stage == stage)
    return connection.execute(select(func.max(TrainingMetric.step)).where(mine)).scalar_one()


def _size(path: Path) -> int | None:
    """Of all files below, in bytes; None when there are none."""
    sizes = [file.stat().st_size for file in path.rglob("*") if file.is_file()] if path.is_dir() else []
    return sum(sizes) if sizes else None
