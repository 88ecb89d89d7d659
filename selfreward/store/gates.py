"""What the health gates found before each training."""

from collections.abc import Sequence

from sqlalchemy import delete, insert, select, update

from selfreward.store.database import Database
from selfreward.store.lineage import counted_iterations, lineage
from selfreward.store.rows import now
from selfreward.store.schema import GateCheck, Iteration
from selfreward.types import Gate, GateResult, GateState


class Gates:
    """Queries about gates."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def put(self, iteration_id: int, results: Sequence[GateResult]) -> None:
        """Store what the gates found in place of what they found before."""
        rows = [
            {
                "iteration_id": iteration_id,
                "gate": result.gate,
                "state": result.state,
                "value": result.value,
                "limit_value": result.limit,
                "message": result.message,
                "checked_at": now(),
            }
            for result in results
        ]
        with self._database.write() as connection:
            connection.execute(delete(GateCheck).where(GateCheck.iteration_id == iteration_id))
            if rows:
                connection.execute(insert(GateCheck), rows)

    def accept(self, iteration_id: int) -> None:
        """A user lets the iteration go on in spite of what paused it."""
        paused = (GateCheck.iteration_id == iteration_id) & (GateCheck.state == GateState.PAUSE)
        with self._database.write() as connection:
            connection.execute(update(GateCheck).where(paused).values(state=GateState.ACCEPTED))

    def rows(self, run_id: int) -> list[tuple[int, GateResult]]:
        """(t, what a gate found) of a run and of what it was forked from, oldest first."""
        query = (
            select(
                Iteration.t,
                GateCheck.gate,
                GateCheck.state,
                GateCheck.value,
                GateCheck.limit_value,
                GateCheck.message,
            )
            .join(Iteration, Iteration.id == GateCheck.iteration_id)
            .order_by(Iteration.t, GateCheck.gate)
        )
        with self._database.read() as connection:
            mine = counted_iterations(lineage(connection, run_id))
            return [
                (
                    t,
                    GateResult(
                        gate=Gate(gate), state=GateState(state), value=value, limit=limit, message=text
                    ),
                )
                for t, gate, state, value, limit, text in connection.execute(query.where(mine))
            ]
