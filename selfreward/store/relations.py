"""Tables and views for people who look around: what each holds, and the query for its newest rows."""

from selfreward.store.database import Database
from selfreward.store.readonly import relations
from selfreward.store.schema import VIEWS, Table

SEARCH = "Full-text index of prompt.text: WHERE prompt_search MATCH 'word'; its rowid is prompt.id."


def described(database: Database) -> list[tuple[str, str, str]]:
    """(name, kind, what it holds) of every table and view."""
    comments = comments_by_name()
    return [(name, kind, comments.get(name, "")) for name, kind in relations(database)]


def comments_by_name() -> dict[str, str]:
    """What each table and view of this version holds."""
    tables = {name: table.comment or "" for name, table in Table.metadata.tables.items()}
    views = {view.name: view.comment for view in VIEWS}
    return tables | views | {"prompt_search": SEARCH}


def newest_rows(name: str) -> str:
    """SQL for all columns of a table, its newest rows first. Views come in their own order."""
    table = Table.metadata.tables.get(name)
    if table is None:
        return f'SELECT * FROM "{name}"'
    keys = [column.name for column in table.primary_key]
    if keys != ["id"] and "created_at" in table.columns:
        keys = ["created_at"]
    order = ", ".join(f'"{key}" DESC' for key in keys)
    return f'SELECT * FROM "{name}" ORDER BY {order}'
