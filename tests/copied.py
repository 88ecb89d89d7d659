"""The rows of one database in another of the other kind, so that both can be asked the same."""

from sqlalchemy import insert, select, text

from selfreward.store import Store
from selfreward.store.schema import Table


def copy_rows(source: Store, target: Store) -> None:
    """Every row of every table, ids and all, into a PostgreSQL database without rows."""
    with source.database.read() as reader, target.database.write() as writer:
        writer.execute(text("SET LOCAL session_replication_role = replica"))  # in any order
        for table in Table.metadata.tables.values():
            rows = [dict(row._mapping) for row in reader.execute(select(table))]
            if rows:
                writer.execute(insert(table), rows)
