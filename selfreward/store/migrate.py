"""The schema's revision: upgrade to it, tell it, refuse a database that is not at it."""

from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Connection

from selfreward.crash import crash_point
from selfreward.errors import StoreError
from selfreward.resources import shipped_dir
from selfreward.store.database import Database

if TYPE_CHECKING:
    from alembic.config import Config


def head_revision() -> str:
    """The revision this version of selfreward needs."""
    from alembic.script import ScriptDirectory

    head = ScriptDirectory.from_config(_config()).get_current_head()
    assert head is not None
    return head


def current_revision(database: Database) -> str | None:
    """The revision the database is at; None when it is empty."""
    from alembic.migration import MigrationContext

    if database.is_sqlite and not Path(str(database.url.database)).exists():
        return None
    with database.read() as connection:
        return MigrationContext.configure(connection).get_current_revision()


def upgrade(database: Database) -> None:
    """Bring the database to the head revision, all of it or nothing, whatever it is at."""
    from alembic import command

    if database.is_sqlite:
        Path(str(database.url.database)).parent.mkdir(parents=True, exist_ok=True)
    with database.migrate() as connection:
        command.upgrade(_config(connection), "head")
        crash_point("migration:done")


def require_head(database: Database, command_hint: str = "selfreward db upgrade") -> None:
    """Raise StoreError, naming the command that helps, unless the database is at the head revision."""
    current, head = current_revision(database), head_revision()
    if current == head:
        return
    where = database.url.render_as_string(hide_password=True)
    if current is not None and not _known(current):
        raise StoreError(
            f"the database {where} is at revision {current}, which this version does not know",
            "It was written by a newer selfreward: install that version.",
        )
    raise StoreError(
        f"the database {where} is at revision {current or 'none'}; this version needs {head}",
        f"Run: {command_hint}",
    )


def _known(revision: str) -> bool:
    from alembic.script import ScriptDirectory

    return revision in {script.revision for script in ScriptDirectory.from_config(_config()).walk_revisions()}


def _config(connection: Connection | None = None) -> "Config":
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(shipped_dir("migrations")).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config
