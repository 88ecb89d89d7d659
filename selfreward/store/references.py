"""What rows tell of others: which checkpoint, which iteration, what was measured of it."""

from sqlalchemy import ColumnElement, Connection, select

from selfreward.store.browsed import (
    CheckpointRef,
    IterationRef,
)
from selfreward.store.rows import AnyRow
from selfreward.store.schema import (
    Checkpoint,
    Evaluation,
    Iteration,
    Run,
)
from selfreward.types import (
    CheckpointKind,
    EvaluationRow,
    Metric,
    Suite,
)


def checkpoint_refs(connection: Connection) -> dict[int, tuple[CheckpointRef, AnyRow]]:
    """Every checkpoint of the database with its row, by id, oldest first: they are few."""
    query = select(Checkpoint, Run.name.label("run")).join(Run, Run.id == Checkpoint.run_id)
    return {
        row.id: (CheckpointRef(id=row.id, run=row.run, name=row.name, kind=CheckpointKind(row.kind)), row)
        for row in connection.execute(query.order_by(Checkpoint.id))
    }


def iteration_refs(connection: Connection, of_these: ColumnElement[bool]) -> list[IterationRef]:
    """The iterations that meet a condition, oldest first."""
    query = select(Run.name.label("run"), Iteration.t).join(Run, Run.id == Iteration.run_id).where(of_these)
    return [IterationRef(**row._asdict()) for row in connection.execute(query.order_by(Iteration.id))]


def evaluations_of(connection: Connection, checkpoint: AnyRow) -> tuple[EvaluationRow, ...]:
    """Every figure of a checkpoint, in the order in which they were stored."""
    columns = (Evaluation.checkpoint, Evaluation.suite, Evaluation.metric)
    figures = (Evaluation.value, Evaluation.low, Evaluation.high, Evaluation.n)
    query = (
        select(*columns, *figures)
        .where(Evaluation.run_id == checkpoint.run_id, Evaluation.checkpoint == checkpoint.name)
        .order_by(Evaluation.id)
    )
    return tuple(
        EvaluationRow(**row._asdict() | {"suite": Suite(row.suite), "metric": Metric(row.metric)})
        for row in connection.execute(query)
    )
