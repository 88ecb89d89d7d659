"""Drives the real command line on a run's directory, as a user and an unkind machine would."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from tests.forked import Forked

DEADLINE_S = 240.0
POLL_S = 0.02
MARK = "_SELFREWARD_TEST_RUN"
"""Environment variable by which what a run has started is known. No setting: those begin with SELFREWARD_."""

SETTINGS = """
name = "main"
model = "{model}"
iterations = 1
[engine]
type = "fake"
concurrency = 8
[engine.extra_args]
latency = {latency}
[self_instruct]
target = 6
max_attempts = 200
[evaluation]
enabled = false
[train]
type = "fake"
batch_size = 2
micro_batch_size = 2
learning_rate = 1e-3
[daemon]
commit_rows = 4
commit_seconds = 0.2
grace_s = 10
"""


class Run:
    """A run's directory with the daemon processes that were started on it."""

    def __init__(self, directory: Path, model: Path, latency: float = 0.0) -> None:
        self.directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        self.settings = directory / "selfreward.toml"
        self.settings.write_text(SETTINGS.format(model=model, latency=latency))
        self.processes: list[Forked] = []

    def command(self, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
        """Run one command to its end."""
        process = self._begin(arguments, environ)
        try:
            out, err = process.communicate(timeout=DEADLINE_S)
        finally:
            process.kill()
        return subprocess.CompletedProcess(process.args, process.wait(), out, err)

    def in_new_python(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run one command to its end as a user does, the imports included."""
        argv = [sys.executable, "-m", "selfreward", *arguments, "--dir", str(self.directory)]
        environ = {**os.environ, MARK: str(self.directory)}
        return subprocess.run(
            argv, capture_output=True, text=True, timeout=DEADLINE_S, env=environ, check=False
        )

    def start(self, *arguments: str, **environ: str) -> Forked:
        """Start a daemon and return at once."""
        self.processes.append(self._begin(("start", *arguments), environ))
        return self.processes[-1]

    def _begin(self, arguments: tuple[str, ...], environ: dict[str, str]) -> Forked:
        mine = {MARK: str(self.directory), **environ}
        return Forked([*arguments, "--dir", str(self.directory)], {**os.environ, **mine})

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        """What a query finds; nothing while there is no schema yet."""
        try:
            with closing(sqlite3.connect(self.directory / "selfreward.db", timeout=10)) as connection:
                return connection.execute(sql).fetchall()
        except sqlite3.OperationalError:
            return []

    def number(self, sql: str) -> int:
        """The one number a query finds; 0 while there is no schema yet."""
        rows = self.rows(sql)
        return int(rows[0][0] or 0) if rows else 0

    def count(self, table: str) -> int:
        """Rows of a table."""
        return self.number(f"SELECT count(*) FROM {table}")

    def wait_for(self, condition: Callable[[], bool], what: str) -> None:
        """Until `condition` holds: the database of another process has no event to wait on."""
        deadline = time.monotonic() + DEADLINE_S
        while not condition():
            for process in self.processes:
                if process.poll() not in (None, -signal.SIGKILL) and not condition():
                    raise AssertionError(f"ended while waiting for {what}: {process.communicate()}")
            assert time.monotonic() < deadline, f"waited in vain for {what}"
            time.sleep(POLL_S)

    def descendants(self) -> list[str]:
        """Command lines of living processes that were started for this directory or name it."""
        entries = [entry for entry in Path("/proc").iterdir() if entry.name.isdigit()]
        found = [_described(entry, self.directory) for entry in entries if int(entry.name) != os.getpid()]
        own = [f"daemon {process.pid}" for process in self.processes if process.poll() is None]
        return [line for line in found if line] + own

    def wait_until_nobody_is_left(self) -> None:
        """Until no process of this run is alive."""
        deadline = time.monotonic() + 20
        while left := self.descendants():
            assert time.monotonic() < deadline, left
            time.sleep(POLL_S)

    def json(self, sql: str) -> list[dict[str, Any]]:
        """What `selfreward query --json` prints."""
        done = self.command("query", "--json", sql)
        assert done.returncode == 0, done.stderr
        found: list[dict[str, Any]] = json.loads(done.stdout)
        return found

    def close(self) -> None:
        """End what is still running."""
        for process in self.processes:
            process.kill()


def _described(entry: Path, directory: Path) -> str:
    """The command line of a process of /proc if it belongs to a run's directory, else nothing."""
    try:
        line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        environ = (entry / "environ").read_bytes().decode(errors="replace")
    except OSError:
        return ""
    return line if f"{directory}/" in line or f"{MARK}={directory}\0" in environ else ""
