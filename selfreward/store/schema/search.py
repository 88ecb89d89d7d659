"""The search of prompts by their words: not a table of ours, and made by the migration alone.

SQLite has `prompt_search`, a full-text index (FTS5) over `prompt` that triggers keep up to date; PostgreSQL
has an index over `to_tsvector('simple', text)`. The schema's own definition knows neither. A migration that
copies `prompt`, as Alembic's batches do on SQLite, loses the triggers and must make them again.
"""

from typing import Any

SEARCH = "prompt_search"
INDEX = "ix_prompt_search"


def is_compared(_object: Any, name: str | None, *_: Any) -> bool:
    """Whether models and database are compared in this: Alembic's `include_object`."""
    return name is None or not name.startswith((SEARCH, INDEX))
