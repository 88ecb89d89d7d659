"""Copies of the database made while it is in use, with SQLite's backup API."""

import os
import shlex
import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy.engine import URL

from selfreward.crash import crash_point
from selfreward.errors import BadInput, DiskFull, StoreError
from selfreward.store.database import Database

SECRETS = ("password", "sslpassword")


def backup(database: Database, target: Path, *, force: bool = False) -> None:
    """Copy the database into `target`, which appears complete or not at all.

    The copy is of one moment, keeps nobody from writing meanwhile, and is checked before it gets its name.
    Raises BadInput when `target` is there (unless `force`) or when the database is not SQLite, DiskFull when
    there is no room, and StoreError when the copy is not sound.
    """
    if not database.is_sqlite:
        raise BadInput("only SQLite is backed up from here", f"Run: {pg_dump_command(database.url, target)}")
    source = Path(str(database.url.database))
    _check_target(source, target, force)
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(target.name + ".part")
    _remove(partial)
    try:
        _copy(source, partial)
        _sync(partial)
        _remove_companions(target)  # of the one that is replaced: SQLite would apply them to the new one
        crash_point("backup:copied")
        partial.replace(target)
        _sync(target.parent)
    except sqlite3.Error as error:
        raise _explain(error, target) from error
    finally:
        _remove(partial)


def rotate(database: Database, directory: Path, keep: int) -> Path:
    """Make a dated backup in `directory` and remove all but the newest `keep`."""
    for unfinished in directory.glob("selfreward-*.db.part*"):  # of a daemon that was killed
        unfinished.unlink(missing_ok=True)
    target = directory / f"selfreward-{datetime.now(UTC):%Y%m%dT%H%M%S%f}Z.db"
    backup(database, target)
    for old in sorted(directory.glob("selfreward-*.db"))[:-keep]:
        old.unlink()
    return target


def pg_dump_command(url: URL, target: Path) -> str:
    """The command that backs a PostgreSQL database up, without its password."""
    public = url.difference_update_query(SECRETS)
    bare = URL.create(
        "postgresql",
        username=url.username,
        host=url.host,
        port=url.port,
        database=url.database,
        query=public.query,
    )
    where = shlex.quote(bare.render_as_string())
    return f"pg_dump --format=custom --file={shlex.quote(str(target))} --dbname={where}"


def _check_target(source: Path, target: Path, force: bool) -> None:
    if target.is_dir():
        raise BadInput(f"{target} is a directory", "Name a file in it.")
    if target.exists() and target.samefile(source):
        raise BadInput(f"{target} is the database itself", "Name another file.")
    if target.exists() and not force:
        raise BadInput(f"{target} is there already", "Name another file, or replace it with --force.")


def _copy(source: Path, partial: Path) -> None:
    """All pages in one step: it reads one snapshot, where several would start over at every commit."""
    with closing(sqlite3.connect(source)) as original, closing(sqlite3.connect(partial)) as copy:
        copy.execute("PRAGMA journal_mode = OFF")
        original.backup(copy)
        [found] = copy.execute("PRAGMA quick_check(1)").fetchone()
    if found != "ok":
        raise StoreError(
            f"the copy of {source} is not sound, and was not kept: {found}",
            "The database itself may be damaged: look with `selfreward verify`.",
        )


def _remove(file: Path) -> None:
    """Remove a database that is not finished, and what a crash left beside it."""
    file.unlink(missing_ok=True)
    _remove_companions(file)


def _remove_companions(file: Path) -> None:
    for suffix in ("-wal", "-shm", "-journal"):
        file.with_name(file.name + suffix).unlink(missing_ok=True)


def _explain(error: sqlite3.Error, target: Path) -> StoreError:
    if "full" in str(error):
        return DiskFull(f"no space left for the backup {target}", "Free some disk, or name another place.")
    return StoreError(f"the backup {target} could not be made: {error}", "Can that place be written to?")


def _sync(path: Path) -> None:
    """fsync of a file or a directory."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
