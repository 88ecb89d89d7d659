"""The database itself: connections set up so that nothing is lost, and the revision it must be at."""

import re
import shutil
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, make_url, select
from sqlalchemy.engine import URL
from sqlalchemy.exc import ArgumentError, DBAPIError, OperationalError

from selfreward.crash import crash_point
from selfreward.errors import BadInput, DiskFull, LeaseLost, StoreError, StoreUnavailable
from selfreward.store.patience import Patience, Tell
from selfreward.store.schema import Lease

LOCK_WAIT_S = 30.0
"""How long the database itself waits for a lock, for a command …"""
SHORT_LOCK_WAIT_S = 0.5
"""… and for a daemon, which asks again: SQLite's only lock …"""
LONG_LOCK_WAIT_S = 10.0
"""… and PostgreSQL's, which may be met in the middle of a transaction, where asking again costs more."""
IDLE_LIMIT_S = 30
"""A process that is stopped in the middle of a transaction holds its locks on PostgreSQL no longer."""
KEEPALIVE = {
    "connect_timeout": 10,
    "keepalives_idle": 15,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,
}
PASSING = ("SQLITE_IOERR", "SQLITE_CANTOPEN")
"""What a network file system or a full disk may bring, and take away again."""
DAMAGED = ("SQLITE_CORRUPT", "SQLITE_NOTADB")
LEAST_FREE_BYTES = 2**20
READ = {"selfreward_read": True}
REBUILD = {"selfreward_rebuild": True}


class Database:
    """One database. `read()` sees a snapshot, `write()` holds the writer's place and checks the fence.

    `fence` is None for commands (they write requests only); a daemon sets it with its lease. Commands wait
    for SQLite's writer for half a minute and for nothing else; a daemon has the patience of its settings.
    """

    def __init__(self, url: str, directory: Path) -> None:
        self.url = resolve_url(url, directory)
        self.patience = Patience()
        self._lock_wait_s = LOCK_WAIT_S
        self.engine = self._engine()
        self.fence: tuple[int, int] | None = None
        """(run id, fence) that every write must still own."""
        self._writing = threading.RLock()

    @property
    def is_sqlite(self) -> bool:
        """SQLite, rather than PostgreSQL."""
        return self.url.get_backend_name() == "sqlite"

    @property
    def directories(self) -> tuple[Path, ...]:
        """Where its files lie, as far as they are on this machine."""
        return (Path(str(self.url.database)).parent,) if self.is_sqlite else ()

    def be_patient(self, seconds: float, tell: Tell) -> None:
        """From now on, wait this long for a database that is locked or away, and `tell` when it takes long.

        In short turns: a thread that waits inside the database's library could not be called off.
        """
        self.patience = Patience(seconds, tell)
        self._lock_wait_s = SHORT_LOCK_WAIT_S if self.is_sqlite else LONG_LOCK_WAIT_S
        self.engine.dispose()  # connections that are open would still wait as before

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A read transaction. Raises StoreUnavailable when the database cannot be had within the patience."""
        with self._transaction(writing=False) as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A write transaction: all of it is committed, or nothing is.

        Raises LeaseLost when a newer owner has taken the run, StoreUnavailable when the database stays
        locked or away or goes away in the middle, DiskFull when there is no space. When it goes away during
        the commit nobody knows whether that took place: what is written must bear to be written again.
        """
        with self._transaction(writing=True) as connection:
            yield connection
            crash_point("write:storing")

    @contextmanager
    def _transaction(self, *, writing: bool) -> Iterator[Connection]:
        """Getting in is tried again, for nothing has been done then; what follows is not."""
        stack, connection = self.patience.wait_for(self._begin, writing)
        with self._explained(), stack:
            yield connection

    def _begin(self, writing: bool) -> tuple[ExitStack, Connection]:
        try:
            with self._explained(), ExitStack() as stack:
                if writing:
                    stack.enter_context(self._writing)
                options = {} if writing else READ
                connection = stack.enter_context(self.engine.connect().execution_options(**options))
                stack.enter_context(connection.begin())
                if writing:
                    self._check_fence(connection)
                self.patience.succeeded(writing)
                return stack.pop_all(), connection
        except StoreUnavailable:
            self.patience.failed(writing)
            raise

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except DBAPIError as error:
            explained = explain(error, self.url, max(self._lock_wait_s, self.patience.seconds))
            if explained is None:
                raise
            raise explained from error

    @contextmanager
    def migrate(self) -> Iterator[Connection]:
        """A write transaction in which tables can be rebuilt; foreign keys are checked at its end.

        SQLite changes a column by copying its table, and dropping the old one would break the references
        to it: they are off meanwhile, as SQLite's own procedure for this has it.
        """
        with (
            self._explained(),
            self._writing,
            self.engine.connect().execution_options(**REBUILD) as connection,
        ):
            try:
                with connection.begin():
                    yield connection
                    self._check_references(connection)
            finally:
                connection.invalidate()  # not back to the pool: its foreign keys are off

    def close(self) -> None:
        """Give all connections back."""
        self.engine.dispose()

    def _engine(self) -> Engine:
        if self.is_sqlite:
            engine = create_engine(self.url)
            event.listen(engine, "connect", self._set_up_sqlite)
            event.listen(engine, "begin", _begin_sqlite)
            return engine
        try:
            engine = create_engine(self.url, pool_pre_ping=True)
        except ModuleNotFoundError as error:
            raise BadInput(
                f"database.url names PostgreSQL, but {error.name} is not installed",
                'Install it: pip install "selfreward-daemon[postgres]"',
            ) from None
        event.listen(engine, "do_connect", self._set_up_postgresql)
        return engine

    def _set_up_sqlite(self, connection: Any, _record: Any) -> None:
        """WAL for readers beside the writer; FULL so that a commit survives a power cut."""
        connection.isolation_level = None  # we say BEGIN ourselves, so DDL is rolled back too
        cursor = connection.cursor()
        for pragma in (
            f"busy_timeout={round(self._lock_wait_s * 1000)}",
            "journal_mode=WAL",
            "synchronous=FULL",
            "foreign_keys=ON",
        ):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    def _set_up_postgresql(self, _dialect: Any, _record: Any, _args: Any, wanted: dict[str, Any]) -> None:
        """A server that is gone without a word is noticed, and a lock is not waited for without end."""
        for name, value in KEEPALIVE.items():
            wanted.setdefault(name, value)
        limits = {
            "lock_timeout": self._lock_wait_s,
            "idle_in_transaction_session_timeout": IDLE_LIMIT_S,
        }
        options = [f"-c {name}={seconds:g}s" for name, seconds in limits.items()]
        wanted["options"] = " ".join([*options, wanted.get("options", "")]).strip()

    def _check_references(self, connection: Connection) -> None:
        if self.is_sqlite and (broken := connection.exec_driver_sql("PRAGMA foreign_key_check").all()):
            raise StoreError(f"the migration would break {len(broken)} references: {broken[:3]}")

    def _check_fence(self, connection: Connection) -> None:
        if self.fence is None:
            return
        run_id, fence = self.fence
        query = select(Lease.fence, Lease.owner, Lease.heartbeat_at).where(Lease.run_id == run_id)
        row = connection.execute(query.with_for_update(read=True)).one()
        if row.fence != fence:
            raise LeaseLost(
                f"this run now belongs to {row.owner}, last seen {row.heartbeat_at:%H:%M:%S} UTC (fence "
                f"{row.fence}; ours was {fence})",
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


def _begin_sqlite(connection: Connection) -> None:
    """Writers queue at BEGIN, where waiting is safe, and not at their first write, where it deadlocks."""
    options = connection.get_execution_options()
    if options.get("selfreward_rebuild"):
        connection.exec_driver_sql("PRAGMA foreign_keys=OFF")
    if options.get("selfreward_read"):
        connection.exec_driver_sql("BEGIN")
        connection.exec_driver_sql("SELECT 1 FROM sqlite_master LIMIT 1")  # BEGIN alone takes no snapshot
    else:
        connection.exec_driver_sql("BEGIN IMMEDIATE")


def explain(error: DBAPIError, url: URL, waited_s: float) -> StoreError | None:
    """The database's complaint in terms of what to do about it; None when it is not about the database."""
    where, cause = url.render_as_string(hide_password=True), str(error.orig)
    if _name(error.orig).startswith(DAMAGED):
        return StoreError(
            f"the database {where} is damaged: {cause}",
            "See how much with `selfreward verify`, and put a backup in its place.",
        )
    if not (isinstance(error, OperationalError) or error.connection_invalidated):
        return None
    if _is_full(error.orig, cause, url):
        return DiskFull(
            f"no space left for the database {where}: {cause}",
            "Free some disk: everything up to the last commit is there.",
        )
    if re.search(r"\b(dead)?lock", cause):
        return StoreUnavailable(
            f"the database {where} stayed locked for {waited_s:g} s",
            "Another program holds a write transaction on it: end that one.",
        )
    passing = url.get_backend_name() != "sqlite" or _name(error.orig).startswith(PASSING)
    kind = StoreUnavailable if passing else StoreError
    return kind(f"the database {where} cannot be used: {cause}", "Is it reachable, and writable for you?")


def _is_full(complaint: BaseException | None, cause: str, url: URL) -> bool:
    """SQLite does not always say it: it may only be unable to make or to grow a file."""
    if "full" in cause or "No space left" in cause:
        return True
    if url.get_backend_name() != "sqlite" or not _name(complaint).startswith(PASSING):
        return False
    directory = Path(str(url.database)).parent
    return directory.is_dir() and shutil.disk_usage(directory).free < LEAST_FREE_BYTES


def _name(complaint: BaseException | None) -> str:
    """SQLite's own name of an error."""
    return str(getattr(complaint, "sqlite_errorname", ""))
