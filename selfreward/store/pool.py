"""The accepted prompts of a run's history by id: a long run has many, and a request shows a few."""

from collections.abc import Collection

from sqlalchemy import select

from selfreward.store.database import Database
from selfreward.store.lineage import data_iterations, lineage
from selfreward.store.schema import Prompt
from selfreward.types import PromptStatus


class Pool:
    """Queries about the prompts from which demonstrations are drawn: those of `Prompts.written`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def ids(self, run_id: int) -> list[int]:
        """Every accepted prompt that a run's iterations use, those before it was forked too, oldest first."""
        with self._database.read() as connection:
            used = data_iterations(lineage(connection, run_id))
            query = select(Prompt.id).where(
                Prompt.iteration_id.in_(used), Prompt.status == PromptStatus.ACCEPTED
            )
            return list(connection.scalars(query.order_by(Prompt.id)).all())

    def texts(self, ids: Collection[int]) -> dict[int, str]:
        """The texts of a few prompts."""
        query = select(Prompt.id, Prompt.text).where(Prompt.id.in_(ids))
        with self._database.read() as connection:
            return {key: text for key, text in connection.execute(query)}
