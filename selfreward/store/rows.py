"""What the repositories share: the clock of the rows, idempotent inserts, rows to dataclasses."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, Row, Select, insert
from sqlalchemy.dialects import postgresql, sqlite

from selfreward.store.schema import Table

AnyRow = Row[*tuple[Any, ...]]
AnySelect = Select[*tuple[Any, ...]]


def now() -> datetime:
    """The time that is written into rows, UTC."""
    return datetime.now(UTC)


def insert_new(connection: Connection, table: type[Table], rows: Sequence[dict[str, Any]]) -> None:
    """Insert rows; one whose unique key is already there is left as it is.

    A replay after a crash goes through here, which is why it can do no harm.
    """
    if not rows:
        return
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    connection.execute(dialect.insert(table).on_conflict_do_nothing(), list(rows))


def insert_one(connection: Connection, table: type[Table], **values: Any) -> int:
    """Insert a row and return its id."""
    result = connection.execute(insert(table).values(**values))
    key = result.inserted_primary_key
    assert key is not None
    return int(key[0])
