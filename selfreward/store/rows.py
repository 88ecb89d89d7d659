"""What the repositories share: the clock of the rows, idempotent inserts, rows to dataclasses."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, Row, Select, insert
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import InstrumentedAttribute

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
    if rows:
        connection.execute(_insert(connection, table).on_conflict_do_nothing(), list(rows))


def insert_returning(
    connection: Connection,
    table: type[Table],
    rows: Sequence[dict[str, Any]],
    *columns: InstrumentedAttribute[Any],
) -> list[AnyRow]:
    """The same; returns these columns of the rows that were not there yet, in no order."""
    if not rows:
        return []
    statement = _insert(connection, table).on_conflict_do_nothing().returning(*columns)
    return list(connection.execute(statement, list(rows)).all())


def add_up(connection: Connection, table: type[Table], rows: Sequence[dict[str, Any]]) -> None:
    """Add each row's figures to those of the row that has its primary key; make it where there is none.

    In the order of their keys, so that two writers never wait for each other.
    """
    if not rows:
        return
    keys = [column.name for column in table.__table__.primary_key]
    new = _insert(connection, table)
    sums = {name: table.__table__.c[name] + new.excluded[name] for name in rows[0] if name not in keys}
    adding = new.on_conflict_do_update(index_elements=keys, set_=sums)
    connection.execute(adding, sorted(rows, key=lambda row: [row[name] for name in keys]))


def _insert(connection: Connection, table: type[Table]) -> "postgresql.Insert | sqlite.Insert":
    return postgresql.insert(table) if connection.dialect.name == "postgresql" else sqlite.insert(table)


def insert_one(connection: Connection, table: type[Table], **values: Any) -> int:
    """Insert a row and return its id."""
    result = connection.execute(insert(table).values(**values))
    key = result.inserted_primary_key
    assert key is not None
    return int(key[0])
