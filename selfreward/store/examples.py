"""The examples that the bootstrap trains on, and those it left out, with the reason."""

from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import func, select, update

from selfreward.crash import crash_point
from selfreward.store.database import Database
from selfreward.store.rows import insert_new, now
from selfreward.store.schema import SftExample
from selfreward.types import DropReason, ExampleKind, NewExample, TrainingExample


class Examples:
    """Queries about examples."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, iteration_id: int, examples: Sequence[NewExample]) -> None:
        """Store the examples of the bootstrap, all of them in one transaction. Repeats are ignored."""
        rows = [_example_row(iteration_id, example) for example in examples]
        with self._database.write() as connection:
            insert_new(connection, SftExample, rows)
        crash_point("examples:stored")

    def drop(self, example_ids: Sequence[int], reason: DropReason) -> None:
        """Mark examples as not trained on."""
        with self._database.write() as connection:
            dropped = update(SftExample).where(SftExample.id.in_(example_ids))
            connection.execute(dropped.values(kept=False, drop_reason=reason))

    def kept(self, iteration_id: int, *kinds: ExampleKind) -> Iterator[TrainingExample]:
        """The kept examples of these kinds, in the order of their ids."""
        query = (
            select(SftExample.id, SftExample.input, SftExample.completion)
            .where(
                SftExample.iteration_id == iteration_id, SftExample.kept.is_(True), SftExample.kind.in_(kinds)
            )
            .order_by(SftExample.id)
        )
        with self._database.read() as connection:
            for row in connection.execute(query):
                yield TrainingExample(example_id=row.id, input=row.input, completion=row.completion)

    def counts(self, iteration_id: int) -> dict[tuple[ExampleKind, DropReason | None], int]:
        """How many examples of each kind were kept (None) or dropped, by reason."""
        query = (
            select(SftExample.kind, SftExample.drop_reason, func.count())
            .where(SftExample.iteration_id == iteration_id)
            .group_by(SftExample.kind, SftExample.drop_reason)
        )
        with self._database.read() as connection:
            return {
                (ExampleKind(kind), DropReason(reason) if reason else None): count
                for kind, reason, count in connection.execute(query)
            }


def _example_row(iteration_id: int, example: NewExample) -> dict[str, Any]:
    return {
        "iteration_id": iteration_id,
        "kind": example.kind,
        "prompt_id": example.prompt_id,
        "position": example.position,
        "reply_id": example.reply_id,
        "reply_judgement_id": example.reply_judgement_id,
        "score": example.score,
        "input": example.input,
        "completion": example.completion,
        "kept": example.drop_reason is None,
        "drop_reason": example.drop_reason,
        "created_at": now(),
    }
