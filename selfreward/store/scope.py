"""What belongs to a run when it is read: its history's iterations, and what they use of others."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, func, select
from sqlalchemy.orm import InstrumentedAttribute

from selfreward.errors import BadInput
from selfreward.store.lineage import counted_iterations, lineage
from selfreward.store.rows import AnyRow
from selfreward.store.schema import Iteration, Run


@dataclass(frozen=True, kw_only=True)
class Used:
    """One iteration of a run's history."""

    id: int
    run_id: int
    t: int
    data_id: int
    """The iteration whose prompts and candidates it uses."""
    checkpoint_id: int
    judge_id: int | None


def history(connection: Connection, run_id: int) -> list[Used]:
    """A run's iterations and those it was forked after, oldest first."""
    query = (
        select(
            Iteration.id,
            Iteration.run_id,
            Iteration.t,
            func.coalesce(Iteration.data_iteration_id, Iteration.id).label("data_id"),
            Iteration.checkpoint_id,
            Iteration.judge_id,
        )
        .where(counted_iterations(lineage(connection, run_id)))
        .order_by(Iteration.t)
    )
    return [Used(**row._asdict()) for row in connection.execute(query)]


def only(used: Sequence[Used], t: int | None) -> list[Used]:
    """The iteration t, or all. Raises BadInput with those that are there."""
    found = [row for row in used if t is None or row.t == t]
    if t is not None and not found:
        raise no_iteration(used, t)
    return found


def no_iteration(used: Sequence[Used], t: int) -> BadInput:
    """There is no iteration t; what there is."""
    known = ", ".join(str(row.t) for row in used) or "none yet"
    return BadInput(f"there is no iteration {t} in this run", f"Iterations: {known}.")


def run_name(connection: Connection, run_id: int) -> str:
    """A run's slug."""
    return str(connection.execute(select(Run.name).where(Run.id == run_id)).scalar_one())


def require(
    connection: Connection,
    row: AnyRow | None,
    what: str,
    wanted: int,
    key: InstrumentedAttribute[int],
    where: ColumnElement[bool] | None = None,
) -> AnyRow:
    """The row. Raises BadInput, naming the ids that there are, when it is None."""
    if row is not None:
        return row
    query = select(func.min(key), func.max(key))
    low, high = connection.execute(query if where is None else query.where(where)).one()
    known = "There are none yet." if low is None else f"Ids run from {low} to {high}."
    raise BadInput(f"there is no {what} {wanted} in this database", known)
