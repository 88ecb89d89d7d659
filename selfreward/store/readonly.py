"""The user's own SQL: read-only in truth, bounded in time, rows and memory, on both databases."""

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any

from sqlalchemy.exc import DBAPIError

from selfreward.errors import BadInput, StoreError
from selfreward.store.database import Database

MAX_VALUE_BYTES = 64 * 2**20
PROGRESS_STEPS = 10_000
# `mode=ro` and PRAGMA query_only still let ATTACH, VACUUM INTO and PRAGMA through: allow only reading.
_ALLOWED = frozenset({sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_RECURSIVE})
_FORBIDDEN_FUNCTIONS = frozenset({"load_extension", "writefile", "readfile", "edit", "fts3_tokenizer"})


@dataclass(frozen=True, kw_only=True)
class QueryResult:
    """What a query returned; `truncated` tells that there were more rows than asked for."""

    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]
    truncated: bool


def run_query(database: Database, sql: str, *, max_rows: int = 1000, timeout_s: float = 30) -> QueryResult:
    """Run one SELECT and return at most `max_rows` rows.

    Raises BadInput with the database's own words when it is not valid, writes, or takes too long.
    """
    run = _sqlite if database.is_sqlite else _postgresql
    return run(database, sql.strip().rstrip(";"), max_rows, timeout_s)


def _sqlite(database: Database, sql: str, max_rows: int, timeout_s: float) -> QueryResult:
    with closing(_open_sqlite(database)) as connection, _sqlite_errors(timeout_s):
        deadline = time.monotonic() + timeout_s
        connection.set_progress_handler(lambda: time.monotonic() > deadline, PROGRESS_STEPS)
        connection.set_authorizer(_authorise)
        cursor = connection.execute(sql)
        if cursor.description is None:
            raise BadInput("the query returns nothing", "Only SELECT (or WITH … SELECT) can be run here.")
        rows = cursor.fetchmany(max_rows + 1)
        return _result([column[0] for column in cursor.description], rows, max_rows)


def _open_sqlite(database: Database) -> sqlite3.Connection:
    path = str(database.url.database).replace("?", "%3f").replace("#", "%23")
    try:
        connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=10)
    except sqlite3.OperationalError as error:
        raise StoreError(f"{database.url.database}: {error}", "Is the run's directory right?") from None
    connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, MAX_VALUE_BYTES)
    return connection


def _authorise(action: int, first: str | None, second: str | None, *_: str | None) -> int:
    if action in _ALLOWED:
        return sqlite3.SQLITE_OK
    if action == sqlite3.SQLITE_FUNCTION and str(second).lower() not in _FORBIDDEN_FUNCTIONS:
        return sqlite3.SQLITE_OK
    return sqlite3.SQLITE_DENY


@contextmanager
def _sqlite_errors(timeout_s: float) -> Iterator[None]:
    try:
        yield
    except (sqlite3.Warning, sqlite3.ProgrammingError) as error:
        raise BadInput(f"one statement at a time: {error}") from None
    except sqlite3.Error as error:
        raise _explain(str(error), timeout_s) from None


def _postgresql(database: Database, sql: str, max_rows: int, timeout_s: float) -> QueryResult:
    connection = database.engine.raw_connection()
    try:
        driver: Any = connection.driver_connection
        with driver.transaction(force_rollback=True):
            driver.execute("SET TRANSACTION READ ONLY")
            driver.execute(f"SET LOCAL statement_timeout = {int(timeout_s * 1000)}")
            # A declared cursor takes one SELECT and nothing else, and fetches only what is asked for.
            with driver.cursor("selfreward_query") as cursor:
                cursor.execute(sql)
                rows = cursor.fetchmany(max_rows + 1)
                return _result([column.name for column in cursor.description], rows, max_rows)
    except Exception as error:
        if type(error).__module__.split(".")[0] != "psycopg" and not isinstance(error, DBAPIError):
            raise
        raise _explain(str(error), timeout_s) from None
    finally:
        connection.close()


def _explain(cause: str, timeout_s: float) -> BadInput:
    if "interrupted" in cause or "statement timeout" in cause:
        return BadInput(f"the query took longer than {timeout_s:g} s", "Narrow it, or give it --timeout.")
    if "not authorized" in cause or "prohibited" in cause or "read-only" in cause:
        return BadInput(f"only reading is allowed here: {cause}", "Use SELECT; nothing was changed.")
    if "no such table" in cause or "does not exist" in cause:
        return BadInput(f"{cause.strip()}", "Tables and views: selfreward query --tables")
    return BadInput(cause.strip())


def _result(columns: list[str], rows: list[tuple[Any, ...]], max_rows: int) -> QueryResult:
    return QueryResult(
        columns=tuple(columns),
        rows=tuple(tuple(row) for row in rows[:max_rows]),
        truncated=len(rows) > max_rows,
    )


def relations(database: Database) -> list[tuple[str, str]]:
    """(name, kind) of every table and view a query can name."""
    if database.is_sqlite:
        sql = "SELECT name, type FROM sqlite_master WHERE type IN ('table', 'view') ORDER BY type, name"
    else:
        sql = (
            "SELECT table_name, CASE table_type WHEN 'VIEW' THEN 'view' ELSE 'table' END"
            " FROM information_schema.tables WHERE table_schema = current_schema() ORDER BY 2, 1"
        )
    result = run_query(database, sql)
    return [(name, kind) for name, kind in result.rows if not name.startswith("sqlite_")]


def summary(database: Database, run: str) -> QueryResult:
    """The iterations of a run (a slug) in a few columns, oldest first."""
    sql = f"""
        SELECT t, checkpoint, prompts, candidates, judgements, readable,
               round(CAST(mean_score AS NUMERIC), 2) AS mean_score, pairs,
               round(CAST(mean_margin AS NUMERIC), 2) AS mean_margin, steps, trained
        FROM iteration_summary WHERE run = '{run}' ORDER BY t
    """
    return run_query(database, sql)
