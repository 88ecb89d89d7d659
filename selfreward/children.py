"""Child processes that cannot outlive this one: engines, trainers, converters."""

import asyncio
import os
import secrets
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from selfreward.guard import MARK, kill_descendants, kill_marked


class Child:
    """A command running under `selfreward.guard`, in a session and process group of its own."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path, mark: str) -> None:
        self._process = process
        self._mark = mark
        self.log = log
        self._exit = asyncio.ensure_future(asyncio.to_thread(self._wait_and_sweep))

    @property
    def pid(self) -> int:
        """The guard's process id, which is also the id of the whole group."""
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether the command has not exited yet."""
        return self._process.poll() is None

    async def wait(self) -> int:
        """Exit status of the command: 0, its code, or 128 + the signal that ended it."""
        return await asyncio.shield(self._exit)

    def kill(self) -> None:
        """SIGKILL to everything below the guard, then to the guard."""
        if self.running:
            kill_descendants(self._process.pid)
            self._process.kill()

    def log_tail(self, lines: int = 15) -> str:
        """The last lines the command wrote."""
        return tail(self.log, lines)

    def _wait_and_sweep(self) -> int:
        code = self._process.wait()
        if self._process.stdin is not None:
            self._process.stdin.close()
        if code >= 0:
            return code
        # The guard itself was killed. What had detached from its group is known by the mark alone.
        kill_marked(self._mark)
        return 128 - code


def spawn(argv: Sequence[str], log: Path, env: Mapping[str, str] | None = None) -> Child:
    """Start `argv` with its output appended to `log`. It dies when this process dies, however that happens.

    `env` is added to this process's environment. Must be called with a running event loop.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    mark = secrets.token_hex(16)
    # vLLM renames its processes, which would overwrite their environment where /proc shows it.
    marked = {MARK: mark, "SPT_NOENV": "1"}
    with log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "selfreward.guard", *argv],
            stdin=subprocess.PIPE,  # never written to; its end of file is the death notice
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(env or {}), **marked},
            start_new_session=True,
        )
    return Child(process, log, mark)


def tail(path: Path, lines: int) -> str:
    """The last `lines` lines of a text file, read from its end."""
    if not path.is_file():
        return ""
    with path.open("rb") as file:
        file.seek(0, os.SEEK_END)
        file.seek(max(0, file.tell() - 200 * lines - 4096))
        text = file.read().decode("utf-8", errors="replace")
    return "\n".join(text.splitlines()[-lines:])
