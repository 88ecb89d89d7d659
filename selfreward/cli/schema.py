"""Commands about the database's schema: its revision, bringing it to the newest, and its documentation."""

from pathlib import Path

import typer

from selfreward.cli.options import Dir, RunName, open_store, settings_of

commands = typer.Typer(help="The database's schema.", no_args_is_help=True)


@commands.command()
def upgrade(directory: Dir = Path(), run_name: RunName = None) -> None:
    """Make the database, or bring it to the schema of this version."""
    from selfreward.store.migrate import current_revision, upgrade

    store = open_store(settings_of(directory), directory, check=False)
    before = current_revision(store.database)
    upgrade(store.database)
    print(f"revision {before or 'none'} → {current_revision(store.database)}")


@commands.command()
def current(directory: Dir = Path(), run_name: RunName = None) -> None:
    """The database's revision, and the one this version needs."""
    from selfreward.store.migrate import current_revision, head_revision

    store = open_store(settings_of(directory), directory, check=False)
    print(f"revision {current_revision(store.database) or 'none'}, this version needs {head_revision()}")


@commands.command()
def docs() -> None:
    """Print what every table, view and column holds, as Markdown: docs/schema.md.

    Example:

        selfreward db docs > docs/schema.md
    """
    from selfreward.schema_page import page

    print(page(), end="")
