"""How long after a start on a long run the engine has work again: the real command, the fake engine.

The engine's own counters are asked every few milliseconds: the first moment at which they show a request
is later than the request itself, never sooner.
"""

import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from http.client import HTTPConnection, HTTPException
from pathlib import Path

from tests.bench.figures import Figure

WANTED_S = 2.0
LOOK_EVERY_S = 0.005
LONGEST_S = 120
# Without its rejected prompts an iteration has attempts left, and wants more prompts than it has.
REOPENED = (
    "CREATE TEMP TABLE latest AS SELECT max(iteration_id) AS id FROM stage",
    """DELETE FROM prompt_demonstration WHERE prompt_id IN (
        SELECT prompt.id FROM prompt JOIN latest ON latest.id = prompt.iteration_id
        WHERE prompt.status = 'rejected')""",
    "DELETE FROM prompt WHERE iteration_id = (SELECT id FROM latest) AND status = 'rejected'",
    """UPDATE stage SET status = CASE name WHEN 'self_instruct' THEN 'running' ELSE 'done' END
        WHERE iteration_id = (SELECT id FROM latest) AND name IN ('self_instruct', 'sample', 'judge')""",
)


@dataclass(frozen=True, kw_only=True)
class Moments:
    """Seconds since 1970 at which things happened."""

    started: float
    """The command."""
    engine_asked: float
    """The daemon asked for an engine."""
    engine_ready: float
    first_request: float
    first_row: float
    """Of what is waited for in the database."""


def figures(directory: Path) -> Iterator[Figure]:
    """The run in `directory` in the middle of judging, and then once more in the middle of writing."""
    judging = _start(directory, "SELECT max(id) FROM judgement")
    yield _figure("start in the middle of judging: engine ready to first request", judging)
    with closing(sqlite3.connect(directory / "selfreward.db", timeout=30)) as connection, connection:
        for statement in REOPENED:
            connection.execute(statement)
    writing = _start(directory, "SELECT max(id) FROM prompt")
    yield _figure("start in the middle of writing: engine ready to first request", writing)
    decided = writing.first_row - writing.first_request
    yield Figure(
        name="start in the middle of writing: first request to first decision",
        reached=f"{decided:.1f} s",
        note="everything that was ever accepted is read and put into the pool; the engine works meanwhile",
        data={"seconds": decided},
    )


def _figure(name: str, at: Moments) -> Figure:
    seconds = at.first_request - at.engine_ready
    return Figure(
        name=name,
        reached=f"{seconds:.2f} s",
        wanted=f"< {WANTED_S:g} s",
        reached_it=seconds < WANTED_S,
        note=f"{at.first_request - at.started:.2f} s from the command: {at.engine_asked - at.started:.2f} s "
        f"to ask for an engine, {at.engine_ready - at.engine_asked:.2f} s for its start",
        data={"seconds": seconds, "total_s": at.first_request - at.started},
    )


def _start(directory: Path, newest: str) -> Moments:
    """Start the daemon, watch until a row is there that was not, and have it drain."""
    sessions, rows = (_number(directory, sql) for sql in ("SELECT max(id) FROM engine_session", newest))
    logs = directory / "logs"
    log = logs / "engine-latest.log"
    log.unlink(missing_ok=True)
    started = time.time()
    with _daemon(directory) as alive:
        _until(alive, lambda: "serving on port" in (log.read_text() if log.is_file() else ""))
        with _metrics(log) as asked:
            _until(alive, asked)
        first_request = time.time()
        _until(alive, lambda: _number(directory, newest) > rows)
        first_row = time.time()
    asked_for, ready = _session(directory, sessions)
    return Moments(
        started=started,
        engine_asked=asked_for,
        engine_ready=ready,
        first_request=first_request,
        first_row=first_row,
    )


@contextmanager
def _daemon(directory: Path) -> Iterator[Callable[[], bool]]:
    """`selfreward start`, then drained. Yields whether it is alive. Raises RuntimeError when it failed."""
    output = directory / "start.log"
    with output.open("w") as file:
        command = [sys.executable, "-m", "selfreward", "start", "--dir", str(directory)]
        process = subprocess.Popen(command, stdout=file, stderr=file, start_new_session=True)
    try:
        yield lambda: process.poll() is None
        process.send_signal(signal.SIGTERM)
        status = process.wait(LONGEST_S)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    if status:
        raise RuntimeError(f"the daemon left with status {status}:\n{output.read_text()[-2000:]}")


def _until(alive: Callable[[], bool], condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + LONGEST_S
    while not condition():
        if not alive() or time.monotonic() > deadline:
            raise RuntimeError("the daemon did not get to work")
        time.sleep(LOOK_EVERY_S)


@contextmanager
def _metrics(log: Path) -> Iterator[Callable[[], bool]]:
    """Whether the fake engine has been asked for anything."""
    port = re.findall(r"serving on port (\d+)", log.read_text())[-1]
    with closing(HTTPConnection("127.0.0.1", int(port), timeout=10)) as connection:

        def asked() -> bool:
            try:
                connection.request("GET", "/metrics")
                told = connection.getresponse().read().decode()
            except (OSError, HTTPException):
                return False
            numbers = re.findall(r"(?:prompt_tokens_total|num_requests_running)\{[^}]*\} (\S+)", told)
            return any(float(number) for number in numbers)

        yield asked


def _session(directory: Path, after: int) -> tuple[float, float]:
    """When the engine session after this one was asked for, and when it answered."""
    sql = "SELECT started_at, ready_at FROM engine_session WHERE id > ? ORDER BY id LIMIT 1"
    with closing(sqlite3.connect(directory / "selfreward.db")) as connection:
        times = connection.execute(sql, (after,)).fetchone()
    asked_for, ready = (datetime.fromisoformat(at).replace(tzinfo=UTC).timestamp() for at in times)
    return asked_for, ready


def _number(directory: Path, sql: str) -> int:
    with closing(sqlite3.connect(directory / "selfreward.db", timeout=30)) as connection:
        return int(connection.execute(sql).fetchone()[0] or 0)
