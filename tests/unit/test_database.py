"""A database that is locked, gone, restarted or full: what is waited for, for how long, and what is said."""

import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, TypeVar

import psycopg
import pytest
from sqlalchemy import insert, select, text
from sqlalchemy.exc import IntegrityError

from selfreward.errors import DiskFull, LeaseLost, StoreError, StoreUnavailable
from selfreward.store import Store
from selfreward.store import patience as patience_module
from selfreward.store.migrate import upgrade
from selfreward.store.schema import Event
from selfreward.types import RunRow
from tests.conftest import Filled
from tests.postgres import server_of_its_own

Answer = TypeVar("Answer")
LONG_S = 60.0
"""A patience that no test lives to see the end of."""


class Waiting:
    """A store whose waiting can be waited for."""

    def __init__(self, store: Store, patience_s: float) -> None:
        self.store = store
        self.run: RunRow = store.runs.ensure("main")
        self.causes: list[StoreUnavailable] = []
        self.waits = threading.Event()
        store.database.be_patient(patience_s, self._hear)

    def _hear(self, cause: StoreUnavailable) -> None:
        self.causes.append(cause)
        self.waits.set()

    def note(self, message: str = "written") -> None:
        self.store.journal.event(self.run.id, "test", message)

    def notes(self) -> list[str]:
        return [event.message for event in self.store.journal.events(self.run.id)]


@pytest.fixture(autouse=True)
def told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who waits says so at once."""
    monkeypatch.setattr(patience_module, "TELL_AFTER_S", 0.0)


@pytest.fixture
def in_thread() -> Iterator[Callable[..., Future[Any]]]:
    with ThreadPoolExecutor(4) as pool:
        yield pool.submit


@contextmanager
def locked(store: Store) -> Iterator[Callable[[], None]]:
    """Another program's write transaction; yields what ends it."""
    path = str(store.database.url.database)
    with closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield lambda: other.execute("ROLLBACK").close()


def sqlite_store(directory: Path, template: Path) -> Store:
    (directory / "selfreward.db").write_bytes(template.read_bytes())
    return Store("sqlite:///selfreward.db", directory)


@pytest.fixture
def on_sqlite(tmp_path: Path, sqlite_template: Path) -> Iterator[Store]:
    store = sqlite_store(tmp_path, sqlite_template)
    yield store
    store.close()


def test_a_locked_database_is_waited_for(on_sqlite: Store, in_thread: Callable[..., Future[Any]]) -> None:
    waiting = Waiting(on_sqlite, LONG_S)
    with locked(on_sqlite) as release:
        done = in_thread(waiting.note)
        assert waiting.waits.wait(10) and not done.done()
        assert waiting.notes() == [], "readers are not kept away by a writer"
        release()
        done.result(10)
    assert waiting.notes() == ["written"]
    assert "locked" in waiting.causes[0].message


def test_patience_ends_and_says_who_is_to_blame(on_sqlite: Store) -> None:
    waiting = Waiting(on_sqlite, 0.2)
    with locked(on_sqlite), pytest.raises(StoreUnavailable, match="stayed locked") as caught:
        waiting.note()
    assert "end that one" in caught.value.hint
    waiting.note()
    assert waiting.notes() == ["written"], "it can be tried again later"


def test_an_outage_is_waited_out_once_and_not_by_each_in_turn(on_sqlite: Store) -> None:
    waiting = Waiting(on_sqlite, 1.0)
    with locked(on_sqlite) as release:
        with pytest.raises(StoreUnavailable):
            waiting.note()
        begun = time.monotonic()
        with pytest.raises(StoreUnavailable):
            waiting.note()
        assert time.monotonic() - begun < 0.95, "one look, without the patience"
        release()
    waiting.note()
    with locked(on_sqlite), pytest.raises(StoreUnavailable):
        begun = time.monotonic()
        waiting.note()
    assert time.monotonic() - begun >= 0.9, "a new outage is waited for anew"


def test_waiting_can_be_cut_short(on_sqlite: Store, in_thread: Callable[..., Future[Any]]) -> None:
    waiting = Waiting(on_sqlite, LONG_S)
    with locked(on_sqlite):
        threads = [in_thread(waiting.note) for _ in range(3)]
        assert waiting.waits.wait(10)
        waiting.store.database.patience.end_by(time.monotonic())
        for thread in threads:
            with pytest.raises(StoreUnavailable):
                thread.result(5)


def test_what_is_called_until_it_succeeds_may_wait_within(on_sqlite: Store) -> None:
    """Waiting for a whole call contains the waiting for its transaction."""
    waiting, tries = Waiting(on_sqlite, LONG_S), []

    def write() -> str:
        tries.append(1)
        waiting.note(f"try {len(tries)}")
        if len(tries) < 3:
            raise StoreUnavailable("gone in the middle")
        return "done"

    assert waiting.store.database.patience.wait_for(write) == "done"
    assert waiting.notes() == ["try 1", "try 2", "try 3"]


def test_a_command_has_no_patience_beyond_the_databases_own(on_sqlite: Store) -> None:
    store = Store("postgresql://nobody@127.0.0.1:9/nothing", Path())
    begun = time.monotonic()
    with pytest.raises(StoreUnavailable, match="cannot be used"):
        store.runs.names()
    assert time.monotonic() - begun < 5


def test_another_error_passes_as_it_is(filled: Filled) -> None:
    with pytest.raises(IntegrityError), filled.store.database.write() as connection:
        connection.execute(text("INSERT INTO event (run_id, at, kind, message) VALUES (-1, NULL, 'k', 'm')"))
    with pytest.raises(LeaseLost):
        filled.store.database.fence = (filled.run.id, filled.store.leases.take(filled.run.id, 60) + 1)
        filled.store.journal.event(filled.run.id, "k", "m")


# --- PostgreSQL ---------------------------------------------------------------------------------------


def end_connections(uri: str, database: str) -> int:
    """What an administrator does; returns how many there were."""
    others = "pg_stat_activity WHERE datname = %s AND pid <> pg_backend_pid()"
    with psycopg.connect(uri, autocommit=True) as connection:
        return len(
            connection.execute(f"SELECT pg_terminate_backend(pid) FROM {others}", [database]).fetchall()
        )


@pytest.fixture
def on_postgresql(postgres_uri: str, postgres_template: str) -> Iterator[Store]:
    name = f"gone_{time.monotonic_ns()}"
    with psycopg.connect(postgres_uri, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE {postgres_template}")
    store = Store(postgres_uri.replace("/postgres?", f"/{name}?"), Path())
    yield store
    store.close()


def test_connections_that_were_ended_between_transactions_are_made_again(
    on_postgresql: Store, postgres_uri: str
) -> None:
    waiting = Waiting(on_postgresql, LONG_S)
    waiting.note()
    assert end_connections(postgres_uri, str(on_postgresql.database.url.database)) >= 1
    waiting.note()
    assert waiting.notes() == ["written", "written"]


def test_a_transaction_whose_connection_is_ended_leaves_nothing_and_can_be_repeated(
    on_postgresql: Store, postgres_uri: str
) -> None:
    waiting = Waiting(on_postgresql, LONG_S)
    database, tries = on_postgresql.database, []

    def write() -> None:
        tries.append(1)
        with database.write() as connection:
            values = {"run_id": waiting.run.id, "at": waiting.run.created_at, "kind": "test", "data": {}}
            connection.execute(insert(Event).values(message=f"try {len(tries)}", **values))
            if len(tries) == 1:
                end_connections(postgres_uri, str(database.url.database))
            connection.execute(select(Event.id))

    with pytest.raises(StoreUnavailable, match="terminating connection"):
        write()
    tries.clear()
    database.patience.wait_for(write)
    assert waiting.notes() == ["try 2"]


def test_a_server_that_is_restarted_is_waited_for(in_thread: Callable[..., Future[Any]]) -> None:
    with server_of_its_own() as server:
        store = Store(server.uri, Path())
        upgrade(store.database)
        waiting = Waiting(store, LONG_S)
        waiting.note("before")
        server.stop()
        done = [in_thread(waiting.note, "meanwhile"), in_thread(waiting.notes)]
        assert waiting.waits.wait(10) and not done[0].done()
        server.start()
        for thread in done:
            thread.result(20)
        assert waiting.notes() == ["before", "meanwhile"]
        server.stop()
        with pytest.raises(StoreUnavailable, match="cannot be used"):
            Store(server.uri, Path()).runs.names()
        store.close()


def test_a_lock_on_a_table_is_not_waited_for_without_end(on_postgresql: Store, postgres_uri: str) -> None:
    waiting = Waiting(on_postgresql, 0.0)
    waiting.store.database._lock_wait_s = 0.2  # the setting is ten seconds
    name = str(on_postgresql.database.url.database)
    with psycopg.connect(postgres_uri.replace("/postgres?", f"/{name}?")) as other:
        other.execute("LOCK TABLE event IN ACCESS EXCLUSIVE MODE")
        with pytest.raises(StoreUnavailable, match="stayed locked"):
            waiting.note()
    waiting.note()
    assert waiting.notes() == ["written"]


# --- a full disk --------------------------------------------------------------------------------------


def test_a_full_disk_is_told_from_a_database_that_is_away(on_sqlite: Store) -> None:
    waiting = Waiting(on_sqlite, LONG_S)
    with on_sqlite.database.engine.connect() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
    with pytest.raises(DiskFull, match="no space left"), on_sqlite.database.write() as connection:
        connection.exec_driver_sql(f"PRAGMA max_page_count={pages}")  # what SQLite says of a full disk, too
        connection.execute(
            insert(Event).values(
                run_id=waiting.run.id, at=waiting.run.created_at, kind="k", message="x" * 10**6, data={}
            )
        )
    assert waiting.notes() == []


def test_a_directory_that_is_not_there_is_explained(tmp_path: Path) -> None:
    store = Store("sqlite:///missing/selfreward.db", tmp_path)
    with pytest.raises(StoreError, match="cannot be used"):
        store.runs.names()
