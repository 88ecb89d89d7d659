"""How far two successive models agree in ranking the same candidates (CREAM, arXiv 2410.12735)."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import delete, func, select

from selfreward.crash import crash_point
from selfreward.store.database import Database
from selfreward.store.rows import AnySelect, insert_new
from selfreward.store.schema import Consistency, Iteration, Judge
from selfreward.types import IterationRow


@dataclass(frozen=True, kw_only=True)
class PromptConsistency:
    """Agreement about one prompt."""

    prompt_id: int
    tau: float | None
    """Kendall's τ-b, -1 to 1; None where one of the rankings tells no two candidates apart."""
    candidates: int
    """Scored by both."""


class Consistencies:
    """Queries about the agreement of two judges."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def put(
        self,
        iteration_id: int,
        judge_id: int,
        previous_judge_id: int,
        rows: Sequence[PromptConsistency],
    ) -> None:
        """Store rows of an iteration, in one transaction. Those of other judges go; repeats are ignored."""
        mine = Consistency.iteration_id == iteration_id
        others = (Consistency.judge_id != judge_id) | (Consistency.previous_judge_id != previous_judge_id)
        new = [
            {
                "iteration_id": iteration_id,
                "prompt_id": row.prompt_id,
                "judge_id": judge_id,
                "previous_judge_id": previous_judge_id,
                "tau": row.tau,
                "candidates": row.candidates,
            }
            for row in rows
        ]
        with self._database.write() as connection:
            connection.execute(delete(Consistency).where(mine, others))
            insert_new(connection, Consistency, new)
            crash_point("consistency:storing")

    def summary(self, iteration_id: int) -> tuple[float | None, int, int]:
        """(mean τ or None, prompts with a τ, prompts) of an iteration."""
        query = select(func.avg(Consistency.tau), func.count(Consistency.tau), func.count())
        with self._database.read() as connection:
            mean, known, prompts = connection.execute(
                query.where(Consistency.iteration_id == iteration_id)
            ).one()
        return None if mean is None else float(mean), known, prompts


def previous_judges(iteration: IterationRow) -> AnySelect:
    """Ids of the judges that are another model than M_t and judge in the way that counts in the iteration."""
    way = select(Judge.digest).join(Iteration, Iteration.judge_id == Judge.id)
    mine = Judge.digest == way.where(Iteration.id == iteration.id).scalar_subquery()
    return select(Judge.id).where(mine, Judge.checkpoint_id != iteration.checkpoint_id)
