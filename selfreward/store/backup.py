"""Copies of the database made while it is in use, with SQLite's backup API."""

import os
import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

from selfreward.errors import BadInput
from selfreward.store.database import Database

PAGES_PER_STEP = 1024  # the source is unlocked between steps, so the daemon's writes go on


def backup(database: Database, target: Path) -> None:
    """Copy the database into `target`, which appears complete or not at all."""
    if not database.is_sqlite:
        url = database.url.render_as_string(hide_password=True)
        raise BadInput("only SQLite is backed up from here", f"Run: pg_dump --format=custom '{url}'")
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(target.name + ".part")
    with (
        closing(sqlite3.connect(str(database.url.database))) as source,
        closing(sqlite3.connect(partial)) as copy,
    ):
        source.backup(copy, pages=PAGES_PER_STEP)
    with partial.open("rb") as file:
        os.fsync(file.fileno())
    partial.rename(target)


def rotate(database: Database, directory: Path, keep: int) -> Path:
    """Make a dated backup in `directory` and remove all but the newest `keep`."""
    target = directory / f"selfreward-{datetime.now(UTC):%Y%m%dT%H%M%S%f}Z.db"
    backup(database, target)
    for old in sorted(directory.glob("selfreward-*.db"))[:-keep]:
        old.unlink()
    return target
