"""The database itself: connections set up so that nothing is lost, and the revision it must be at."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, make_url, select
from sqlalchemy.engine import URL
from sqlalchemy.exc import ArgumentError, OperationalError

from selfreward.errors import BadInput, LeaseLost, StoreError
from selfreward.store.schema import Lease

BUSY_TIMEOUT_MS = 30_000
READ = {"selfreward_read": True}
REBUILD = {"selfreward_rebuild": True}


class Database:
    """One database. `read()` sees a snapshot, `write()` holds the writer's place and checks the fence.

    `fence` is None for commands (they write requests only); a daemon sets it with its lease.
    """

    def __init__(self, url: str, directory: Path) -> None:
        self.url = resolve_url(url, directory)
        self.engine = _engine(self.url)
        self.fence: tuple[int, int] | None = None
        """(run id, fence) that every write must still own."""
        self._writing = threading.RLock()

    @property
    def is_sqlite(self) -> bool:
        """SQLite, rather than PostgreSQL."""
        return self.url.get_backend_name() == "sqlite"

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A read transaction."""
        with self.engine.connect().execution_options(**READ) as connection, connection.begin():
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A write transaction: all of it is committed, or nothing is.

        Raises LeaseLost when a newer owner has taken the run, StoreError when the disk is full.
        """
        try:
            with self._writing, self.engine.begin() as connection:
                self._check_fence(connection)
                yield connection
        except OperationalError as error:
            raise explain(error, self.url) from error

    @contextmanager
    def migrate(self) -> Iterator[Connection]:
        """A write transaction in which tables can be rebuilt; foreign keys are checked at its end.

        SQLite changes a column by copying its table, and dropping the old one would break the references
        to it: they are off meanwhile, as SQLite's own procedure for this has it.
        """
        with self._writing, self.engine.connect().execution_options(**REBUILD) as connection:
            try:
                with connection.begin():
                    yield connection
                    self._check_references(connection)
            except OperationalError as error:
                raise explain(error, self.url) from error
            finally:
                connection.invalidate()  # not back to the pool: its foreign keys are off

    def close(self) -> None:
        """Give all connections back."""
        self.engine.dispose()

    def _check_references(self, connection: Connection) -> None:
        if self.is_sqlite and (broken := connection.exec_driver_sql("PRAGMA foreign_key_check").all()):
            raise StoreError(f"the migration would break {len(broken)} references: {broken[:3]}")

    def _check_fence(self, connection: Connection) -> None:
        if self.fence is None:
            return
        run_id, fence = self.fence
        query = select(Lease.fence, Lease.owner).where(Lease.run_id == run_id).with_for_update(read=True)
        row = connection.execute(query).one()
        if row.fence != fence:
            raise LeaseLost(
                f"this run now belongs to {row.owner} (fence {row.fence}; ours was {fence})",
                "This daemon writes nothing more. The new owner goes on from the last committed row.",
            )


def resolve_url(url: str, directory: Path) -> URL:
    """The URL with a relative SQLite path taken from `directory`. Raises BadInput if it cannot be read."""
    try:
        parsed = make_url(url)
        backend = parsed.get_backend_name()
    except ArgumentError:
        raise BadInput(
            f"database.url {url!r} is not a database URL",
            "Use sqlite:///selfreward.db or postgresql+psycopg://user@host/name.",
        ) from None
    if backend == "postgresql":
        return parsed.set(drivername="postgresql+psycopg")
    if backend != "sqlite":
        raise BadInput(f"database.url: {backend} is not supported", "Use SQLite or PostgreSQL.")
    if not parsed.database or parsed.database == ":memory:":
        raise BadInput("database.url: a run needs a database on disk", "Use sqlite:///selfreward.db.")
    return parsed.set(database=str((directory / parsed.database).resolve()))


def _engine(url: URL) -> Engine:
    if url.get_backend_name() != "sqlite":
        try:
            return create_engine(url, pool_pre_ping=True)
        except ModuleNotFoundError as error:
            raise BadInput(
                f"database.url names PostgreSQL, but {error.name} is not installed",
                'Install it: pip install "selfreward-daemon[postgres]"',
            ) from None
    engine = create_engine(url, connect_args={"timeout": BUSY_TIMEOUT_MS / 1000})
    event.listen(engine, "connect", _set_up_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _set_up_sqlite(connection: Any, _record: Any) -> None:
    """WAL for readers beside the writer; FULL so that a commit survives a power cut."""
    connection.isolation_level = None  # we say BEGIN ourselves, so DDL is rolled back too
    cursor = connection.cursor()
    for pragma in (
        f"busy_timeout={BUSY_TIMEOUT_MS}",
        "journal_mode=WAL",
        "synchronous=FULL",
        "foreign_keys=ON",
    ):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    """Writers queue at BEGIN, where waiting is safe, and not at their first write, where it deadlocks."""
    options = connection.get_execution_options()
    if options.get("selfreward_rebuild"):
        connection.exec_driver_sql("PRAGMA foreign_keys=OFF")
    reading = options.get("selfreward_read")
    connection.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")


def explain(error: OperationalError, url: URL) -> StoreError:
    """The database's complaint in terms of what to do about it."""
    where = url.render_as_string(hide_password=True)
    cause = str(error.orig)
    if "full" in cause or "No space left" in cause:
        return StoreError(
            f"no space left for the database {where}: {cause}",
            "Free some disk and start again: everything up to the last commit is there.",
        )
    if "locked" in cause:
        return StoreError(
            f"the database {where} stayed locked for {BUSY_TIMEOUT_MS // 1000} s",
            "Another program holds a write transaction on it: end that one and start again.",
        )
    return StoreError(
        f"the database {where} cannot be used: {cause}", "Is it reachable, and writable for you?"
    )
