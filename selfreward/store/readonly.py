"""The user's own SQL: read-only in truth, bounded in time, rows and memory, on both databases."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from selfreward.errors import BadInput, SelfRewardError, StoreError
from selfreward.store import sqlite_reader
from selfreward.store.asked import no_value, refuse_side_effects, with_values
from selfreward.store.database import Database

MAX_BYTES = 64 * 2**20
GRACE_S = 10.0
"""How much longer than its query SQLite's process may take: to start, and to hand over what it found."""
PLACE_ERRORS = ("SQLITE_CANTOPEN", "SQLITE_CORRUPT", "SQLITE_NOTADB", "SQLITE_BUSY", "SQLITE_IOERR")
TOO_LARGE = "selfreward: too large"
# Types of PostgreSQL that may lie compressed in a table: text, varchar, bytea.
_COMPRESSED = frozenset({25, 1043, 17})


@dataclass(frozen=True, kw_only=True)
class QueryResult:
    """What a query returned; `truncated` tells that there was more than was asked for, or than fits."""

    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]
    truncated: bool


@dataclass(frozen=True, kw_only=True)
class _Bounds:
    max_rows: int
    max_bytes: int
    timeout_s: float


def run_query(
    database: Database,
    sql: str,
    *,
    parameters: Mapping[str, int | float | str | None] | None = None,
    max_rows: int = 1000,
    timeout_s: float = 30,
    max_bytes: int = MAX_BYTES,
) -> QueryResult:
    """Run one SELECT and return at most `max_rows` rows of at most `max_bytes` together.

    `parameters` are the values of its `:name`s. Raises BadInput with the database's own words when it is
    not valid, does anything but read, takes longer than `timeout_s`, or has a value of `max_bytes`.
    """
    run = _sqlite if database.is_sqlite else _postgresql
    bounds = _Bounds(max_rows=max_rows, max_bytes=max_bytes, timeout_s=timeout_s)
    values = dict(parameters or {})
    _refuse_no_text([sql, *(value for value in values.values() if isinstance(value, str))])
    return run(database, sql.strip().rstrip("; \t\r\n"), values, bounds)


def _refuse_no_text(texts: Sequence[str]) -> None:
    """What no database takes: NUL, and lone surrogates, which a terminal makes of bytes that are no UTF-8."""
    for each in texts:
        if "\0" in each or any("\ud800" <= char <= "\udfff" for char in each):
            raise BadInput("the query holds bytes that are no text", "Type it as UTF-8.")


def _sqlite(database: Database, sql: str, values: dict[str, Any], bounds: _Bounds) -> QueryResult:
    path = str(database.url.database).replace("%", "%25").replace("?", "%3f").replace("#", "%23")
    job = vars(bounds) | {"uri": f"file:{path}?mode=ro", "sql": sql, "values": values}
    command = [sys.executable, "-I", "-S", sqlite_reader.__file__]
    try:
        done = subprocess.run(
            command, input=json.dumps(job).encode(), capture_output=True, timeout=bounds.timeout_s + GRACE_S
        )
    except subprocess.TimeoutExpired:
        raise _took_longer(bounds) from None
    if done.returncode == -signal.SIGALRM:
        raise _took_longer(bounds)
    if done.returncode:
        raise BadInput("SQLite could not run the query", done.stderr.decode(errors="replace")[-500:])
    return _read(done.stdout.splitlines(), Path(str(database.url.database)))


def _read(lines: Sequence[bytes], path: Path) -> QueryResult:
    """What SQLite's process has printed."""
    outcome = json.loads(lines[-1])
    if "error" in outcome:
        raise _sqlite_error(outcome["error"], outcome["name"], path)
    columns, *rows = (json.loads(line) for line in lines[:-1])
    return QueryResult(
        columns=tuple(columns),
        rows=tuple(tuple(map(_from_json, row)) for row in rows),
        truncated=outcome["truncated"],
    )


def _from_json(value: Any) -> Any:
    return bytes.fromhex(value["hex"]) if isinstance(value, dict) else value


def _sqlite_error(cause: str, name: str, path: Path) -> SelfRewardError:
    if name.startswith(("SQLITE_FULL", "SQLITE_IOERR_WRITE")):
        return BadInput(f"the query needs more disk to sort than there is for it: {cause}", NARROW)
    if name.startswith(PLACE_ERRORS):
        return StoreError(f"{path}: {cause}", "Is the run's directory right?")
    if name.startswith(("MEMORY", "SQLITE_NOMEM")):
        return BadInput("the query needs more memory than there is for it", NARROW)
    if name.startswith("SQLITE_TOOBIG"):
        return _too_large()
    if "one statement at a time" in cause:
        return BadInput("one statement at a time", "Give each SELECT to a command of its own.")
    if "supply a value for binding" in cause:
        return no_value(cause.rstrip(".").rpartition(":")[2].strip())
    return _explain(cause)


def _postgresql(database: Database, sql: str, values: dict[str, Any], bounds: _Bounds) -> QueryResult:
    with _postgresql_errors(bounds), closing(database.engine.raw_connection()) as connection:
        driver: Any = connection.driver_connection
        with driver.transaction(force_rollback=True):
            for statement in _settings(driver, bounds):
                driver.execute(statement)
            refuse_side_effects(driver, sql)
            return _fetch(driver, *with_values(sql, values), bounds)


def _settings(driver: Any, bounds: _Bounds) -> Iterator[str]:
    """What holds for this transaction. Only a superuser may limit the disk that sorting takes."""
    yield "SET TRANSACTION READ ONLY"
    yield f"SET LOCAL statement_timeout = {int(bounds.timeout_s * 1000)}"
    yield "SET LOCAL TIME ZONE 'UTC'"
    yield "SET LOCAL standard_conforming_strings = on"
    if driver.info.parameter_status("is_superuser") == "on":
        yield f"SET LOCAL temp_file_limit = '{sqlite_reader.TEMPORARY_BYTES >> 10}kB'"


def _fetch(driver: Any, sql: str, values: dict[str, Any], bounds: _Bounds) -> QueryResult:
    """A declared cursor takes one SELECT and nothing else; its rows come one by one, measured before."""
    with driver.cursor("selfreward_shape") as shape:
        shape.execute(sql, values)
        columns = [(column.name, column.type_code) for column in shape.description or ()]
    if not columns:
        raise _explain("the query returns nothing")
    rows: list[tuple[Any, ...]] = []
    with driver.cursor("selfreward_query") as cursor, driver.cursor() as reader:
        cursor.execute(_measured(sql, [kind for _, kind in columns], bounds.max_bytes), values)
        found = reader.stream(f"FETCH FORWARD {bounds.max_rows + 1} FROM selfreward_query")
        with closing(found):
            truncated = _take(found, rows, bounds)
    return QueryResult(columns=tuple(name for name, _ in columns), rows=tuple(rows), truncated=truncated)


def _take(found: Iterator[tuple[Any, ...]], rows: list[tuple[Any, ...]], bounds: _Bounds) -> bool:
    """Take what may be taken; whether there was more."""
    total = 0
    for *row, size in found:
        total += size
        if len(rows) == bounds.max_rows or total > bounds.max_bytes:
            return True
        rows.append(tuple(map(_number, row)))
    return False


def _measured(sql: str, kinds: Sequence[int], max_bytes: int) -> str:
    """The query with the size of each row in bytes behind it; an error where a row is too large to send.

    OFFSET 0 keeps PostgreSQL from computing anything twice: the query is planned as it stands.
    """
    names = [f"c{place}" for place in range(len(kinds))]
    sizes = (
        f"coalesce({'octet_length' if kind in _COMPRESSED else 'pg_column_size'}({name}), 0)::bigint"
        for name, kind in zip(names, kinds, strict=True)
    )
    size = " + ".join(sizes)
    return (
        f"SELECT measured.*, CAST(CASE WHEN {size} > {max_bytes} THEN '{TOO_LARGE}' ELSE ({size})::text END"
        f" AS bigint) FROM (SELECT * FROM (\n{sql}\n) AS asked OFFSET 0) AS measured({', '.join(names)})"
    )


def _number(value: Any) -> Any:
    """Decimals as the numbers that SQLite has, where nothing is lost."""
    if not isinstance(value, Decimal) or not value.is_finite():
        return value
    if value.as_tuple().exponent == 0:
        return int(value)
    near = float(value)
    return near if Decimal(repr(near)) == value else value


@contextmanager
def _postgresql_errors(bounds: _Bounds) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        cause = str(error)
        if type(error).__module__.split(".")[0] != "psycopg" and not isinstance(error, DBAPIError):
            raise
        if "statement timeout" in cause:
            raise _took_longer(bounds) from None
        raise (_too_large() if TOO_LARGE in cause else _explain(cause)) from None


NARROW = "Ask for less at once: fewer rows with WHERE, fewer columns, or one iteration."


def _took_longer(bounds: _Bounds) -> BadInput:
    return BadInput(f"the query took longer than {bounds.timeout_s:g} s", "Narrow it, or give it --timeout.")


def _too_large() -> BadInput:
    return BadInput("a value of the result is too large", "Ask for a part of it: substr(column, 1, 1000).")


def _explain(cause: str) -> BadInput:
    if cause == "the query returns nothing":
        return BadInput(cause, "Only SELECT (or WITH … SELECT) can be run here.")
    if "not authorized" in cause or "prohibited" in cause or "read-only" in cause:
        return BadInput(f"only reading is allowed here: {cause}", "Use SELECT; nothing was changed.")
    if "no such table" in cause or "does not exist" in cause:
        return BadInput(f"{cause.strip()}", "Tables and views: selfreward query --tables")
    return BadInput(cause.strip())


def relations(database: Database) -> list[tuple[str, str]]:
    """(name, kind) of every table and view a query can name, without what SQLite keeps for itself."""
    if database.is_sqlite:
        sql = (
            "SELECT name, type FROM sqlite_master WHERE type IN ('table', 'view')"
            r" AND name NOT LIKE 'sqlite\_%' ESCAPE '\' AND name NOT LIKE 'prompt\_search\_%' ESCAPE '\'"
            " ORDER BY type, name"
        )
    else:
        sql = (
            "SELECT table_name, CASE table_type WHEN 'VIEW' THEN 'view' ELSE 'table' END"
            " FROM information_schema.tables WHERE table_schema = current_schema() ORDER BY 2, 1"
        )
    with database.read() as connection:
        return [(row[0], row[1]) for row in connection.execute(text(sql))]


def summary(database: Database, run: str) -> QueryResult:
    """The iterations of a run (a slug) in a few columns, oldest first."""
    sql = """
        SELECT t, checkpoint, prompts, candidates, judgements, readable,
               round(CAST(mean_score AS NUMERIC), 2) AS mean_score, pairs,
               round(CAST(mean_margin AS NUMERIC), 2) AS mean_margin, steps, trained
        FROM iteration_summary WHERE run = :run ORDER BY t
    """
    return run_query(database, sql, parameters={"run": run})
