"""The process that runs a user's SQL on SQLite: a script of the standard library, started by `readonly`.

A process of its own because nothing less bounds SQLite: one call of instr() on two large values goes on for
hours and cannot be interrupted, and memory and temporary files belong to the process. It takes a job as JSON
on its standard input and prints lines of JSON: the columns, then a row each, at last what came of it.
"""

import contextlib
import json
import resource
import signal
import sqlite3
import sys
from typing import Any

MEMORY_BYTES = 768 * 2**20
"""Of address space, all of this process."""
TEMPORARY_BYTES = 2**30
"""Of each temporary file: SQLite sorts what does not fit into memory on disk."""

VIRTUAL = ("prompt_search", "json_each", "json_tree")
"""Virtual tables that may be read. SQLite sets each up at first sight by what looks like a write."""
# `mode=ro` and PRAGMA query_only still let ATTACH, VACUUM INTO and PRAGMA through: allow only reading.
ALLOWED = frozenset({sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_RECURSIVE})
FORBIDDEN_FUNCTIONS = frozenset({"load_extension", "writefile", "readfile", "edit", "fts3_tokenizer"})


def main() -> None:
    """Run the job and print what came of it; a job that takes too long ends by SIGALRM."""
    job = json.load(sys.stdin)
    bound(job["timeout_s"])
    try:
        outcome = run(job)
    except MemoryError:
        outcome = {"error": "out of memory", "name": "MEMORY"}
    except (sqlite3.Error, sqlite3.Warning, ValueError, OverflowError) as error:
        outcome = {"error": str(error), "name": getattr(error, "sqlite_errorname", type(error).__name__)}
    print(json.dumps(outcome))


def bound(timeout_s: float) -> None:
    """No more time, memory and disk than this. The kernel sees to it, whatever SQLite is at."""
    limits = ((resource.RLIMIT_AS, MEMORY_BYTES), (resource.RLIMIT_FSIZE, TEMPORARY_BYTES))
    for kind, most in (*limits, (resource.RLIMIT_CORE, 0)):
        _, hard = resource.getrlimit(kind)
        least = most if hard == resource.RLIM_INFINITY else min(most, hard)
        with contextlib.suppress(ValueError, OSError):  # a system that does not know this limit
            resource.setrlimit(kind, (least, least))
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGALRM})
    signal.setitimer(signal.ITIMER_REAL, timeout_s)


def run(job: dict[str, Any]) -> dict[str, Any]:
    """Print columns and rows; whether there were more rows than asked for, or than fit."""
    connection = connect(job["uri"], job["timeout_s"])
    connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, job["max_bytes"])
    cursor = connection.execute(job["sql"], job["values"])
    if cursor.description is None:
        return {"error": "the query returns nothing", "name": "NOTHING"}
    print(json.dumps([column[0] for column in cursor.description]))
    printed = 0
    for number, row in enumerate(cursor):
        line = json.dumps(row, default=as_hex)
        printed += len(line)
        if number >= job["max_rows"] or printed > job["max_bytes"]:
            return {"truncated": True, "bytes": printed > job["max_bytes"]}
        print(line)
    return {"truncated": False}


def connect(uri: str, timeout_s: float) -> sqlite3.Connection:
    """A connection that reads and does nothing else."""
    connection = sqlite3.connect(uri, uri=True, timeout=timeout_s)
    for table in VIRTUAL:
        with contextlib.suppress(sqlite3.OperationalError):  # an older schema, or an SQLite without it
            connection.execute(f"SELECT 1 FROM {table} LIMIT 0")
    connection.setlimit(sqlite3.SQLITE_LIMIT_ATTACHED, 0)
    connection.set_authorizer(authorise)
    return connection


def as_hex(value: bytes) -> dict[str, str]:
    """A BLOB, the only value of SQLite that JSON has not."""
    return {"hex": value.hex()}


def authorise(action: int, first: str | None, second: str | None, *_: str | None) -> int:
    """Reading is allowed, and what the full-text index asks when it is read."""
    if action in ALLOWED or (action == sqlite3.SQLITE_PRAGMA and (first, second) == ("data_version", None)):
        return sqlite3.SQLITE_OK
    if action == sqlite3.SQLITE_FUNCTION and str(second).lower() not in FORBIDDEN_FUNCTIONS:
        return sqlite3.SQLITE_OK
    return sqlite3.SQLITE_DENY


if __name__ == "__main__":
    main()
