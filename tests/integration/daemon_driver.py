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

DEADLINE_S = 240.0
POLL_S = 0.02

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
        self.processes: list[subprocess.Popen[str]] = []

    def command(self, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
        """Run one command to its end."""
        return subprocess.run(
            self._argv(*arguments),
            capture_output=True,
            text=True,
            timeout=DEADLINE_S,
            env={**os.environ, **environ},
            check=False,
        )

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start a daemon and return at once."""
        process = subprocess.Popen(
            self._argv("start", *arguments),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.processes.append(process)
        return process

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
        """Command lines of living processes that name this directory or were started for it."""
        found = []
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit() or int(entry.name) == os.getpid():
                continue
            try:
                line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                environ = (entry / "environ").read_bytes().decode(errors="replace")
            except OSError:
                continue
            if line and (str(self.directory) in line or f"SELFREWARD_TEST_RUN={self.directory}" in environ):
                found.append(line)
        return found

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
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()

    def _argv(self, command: str, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "selfreward", command, *arguments, "--dir", str(self.directory)]
