"""Alembic's environment: migrates over the connection it is handed, or one made from `-x url=…`."""

from pathlib import Path
from typing import Any, Literal

from alembic import context
from sqlalchemy import BigInteger, Connection

from selfreward.crash import crash_point
from selfreward.store.database import Database
from selfreward.store.schema import CleanJson, CleanText, Table, UtcDateTime, is_compared


def render_item(kind: str, item: Any, _: Any) -> str | Literal[False]:
    """Migrations stand alone: they name SQLAlchemy's types, never ours, which change with time."""
    if kind == "type" and isinstance(item, UtcDateTime):
        return "sa.DateTime(timezone=True)"
    if kind == "type" and isinstance(item, CleanText):
        return "sa.Text()"
    if kind == "type" and isinstance(item, CleanJson):
        return 'sa.JSON().with_variant(postgresql.JSONB(), "postgresql")'
    if kind == "type" and isinstance(item, BigInteger):
        return 'sa.BigInteger().with_variant(sa.Integer(), "sqlite")'
    return False


def migrate(connection: Connection) -> None:
    context.configure(
        connection=connection,
        target_metadata=Table.metadata,
        render_as_batch=True,
        compare_type=True,
        render_item=render_item,
        include_object=is_compared,
        transactional_ddl=True,
        on_version_apply=lambda **_: crash_point("migration:begun"),
    )
    with context.begin_transaction():
        context.run_migrations()


connection = context.config.attributes.get("connection")
if connection is not None:
    migrate(connection)
else:
    url = context.get_x_argument(as_dictionary=True).get("url", "sqlite:///selfreward.db")
    with Database(url, Path.cwd()).migrate() as own_connection:
        migrate(own_connection)
