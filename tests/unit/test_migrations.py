"""The migrated schema is the defined one, a wrong revision is refused, half a migration is none."""

from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import inspect, text

from selfreward.errors import StoreError
from selfreward.store import Store
from selfreward.store import migrate as migration
from selfreward.store.migrate import current_revision, head_revision, upgrade
from selfreward.store.schema import Table


def test_models_and_migrations_agree(store: Store) -> None:
    with store.database.read() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, Table.metadata) == []


def test_every_table_and_column_is_explained() -> None:
    for table in Table.metadata.sorted_tables:
        assert table.comment, table.name
        missing = [column.name for column in table.columns if not column.comment and column.name != "id"]
        assert not missing, (table.name, missing)


def test_upgrade_is_idempotent(empty_url: str, tmp_path: Path) -> None:
    store = Store(empty_url, tmp_path)
    assert current_revision(store.database) is None
    for _ in range(2):
        upgrade(store.database)
        assert current_revision(store.database) == head_revision()


def test_an_empty_database_is_refused_with_the_command(empty_url: str, tmp_path: Path) -> None:
    with pytest.raises(StoreError) as caught:
        Store.open(empty_url, tmp_path)
    assert "selfreward db upgrade" in caught.value.hint


def test_a_database_of_a_newer_version_is_refused(database_url: str, tmp_path: Path) -> None:
    store = Store(database_url, tmp_path)
    with store.database.write() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(StoreError, match="does not know"):
        Store.open(database_url, tmp_path)


def test_a_migration_that_fails_midway_leaves_nothing(
    empty_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(empty_url, tmp_path)
    real = migration._config

    def failing(connection: object = None) -> object:
        """Stands in the way of the last statements: a table of the same name as a view is there."""
        if connection is not None:
            connection.execute(text("CREATE TABLE training_curve (x INTEGER)"))  # type: ignore[attr-defined]
        return real(connection)  # type: ignore[arg-type]

    monkeypatch.setattr(migration, "_config", failing)
    with pytest.raises(Exception, match="training_curve"):
        upgrade(store.database)
    with store.database.read() as connection:
        assert inspect(connection).get_table_names() == []
    monkeypatch.undo()
    upgrade(store.database)
    assert current_revision(store.database) == head_revision()
