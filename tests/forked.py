"""Commands in processes of their own, forked from one that has done the imports: a second less for each.

A forked process goes through the door of the console script, has its own session, environment, output
and exit status, and can be killed like any other. What it starts itself is started anew, as ever.
"""

import atexit
import contextlib
import gc
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
LARGEST_REQUEST = 2**20
NEEDED = (
    "alembic.command",
    "alembic.runtime.migration",
    "anyio._backends._asyncio",
    "apscheduler.triggers.interval",
    "httpcore",
    "psycopg",
    "sqlalchemy.dialects.postgresql.psycopg",
    "sqlalchemy.dialects.sqlite",
    "selfreward.background",
    "selfreward.engines.fake",
    "selfreward.engines.server",
    "selfreward.foreground",
    "selfreward.measuring",
    "selfreward.terminal.status",
)
"""What commands import, and then some that these import late."""


class Forked:
    """A command that runs, with the manners of subprocess.Popen. Its output goes to files."""

    def __init__(self, arguments: Sequence[str], environ: Mapping[str, str]) -> None:
        self.args = ["selfreward", *arguments]
        self.returncode: int | None = None
        self._output = [tempfile.TemporaryFile() for _ in ("out", "err")]  # noqa: SIM115
        self._forge = forge()
        self.pid = self._forge.fork(arguments, environ, [file.fileno() for file in self._output])

    def poll(self) -> int | None:
        """The exit status, negative for a signal; None while it runs."""
        self.returncode = self._forge.status(self.pid, 0)
        return self.returncode

    def wait(self, timeout: float = 60) -> int:
        """The exit status. Raises subprocess.TimeoutExpired."""
        self.returncode = self._forge.status(self.pid, timeout)
        if self.returncode is None:
            raise subprocess.TimeoutExpired(self.args, timeout, *self.said())
        return self.returncode

    def said(self) -> tuple[str, str]:
        """What it has written so far."""
        sizes = (os.fstat(file.fileno()).st_size for file in self._output)
        texts = (os.pread(file.fileno(), size, 0) for file, size in zip(self._output, sizes, strict=True))
        out, err = (text.decode(errors="replace") for text in texts)
        return out, err

    def communicate(self, timeout: float = 60) -> tuple[str, str]:
        """What it has written when it has ended."""
        self.wait(timeout)
        return self.said()

    def send_signal(self, number: int) -> None:
        """Send a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """SIGKILL, and wait for the end."""
        self.send_signal(signal.SIGKILL)
        self.wait()


@cache
def forge() -> "Forge":
    """The one of this test process."""
    return Forge()


class Forge:
    """The process that commands are forked from; it ends with this one."""

    def __init__(self) -> None:
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._ended: dict[int, int] = {}
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.forked", str(theirs.fileno())],
                cwd=ROOT,
                pass_fds=[theirs.fileno()],
                # Numerical libraries must not have threads here: a fork has none of them.
                env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
                start_new_session=True,
            )

    def fork(self, arguments: Sequence[str], environ: Mapping[str, str], output: list[int]) -> int:
        """Start a command; returns its process id."""
        request = {"arguments": list(arguments), "environ": dict(environ), "directory": os.getcwd()}
        socket.send_fds(self._socket, [json.dumps(request).encode()], output)
        while (reply := self._receive(60)) is not None:
            if "started" in reply:
                return int(reply["started"])
        raise AssertionError("no command can be started")

    def status(self, pid: int, timeout: float) -> int | None:
        """The exit status of a command, as soon as it has ended within `timeout` seconds."""
        deadline = time.monotonic() + timeout
        while pid not in self._ended and self._receive(max(0.0, deadline - time.monotonic())) is not None:
            pass
        return self._ended.get(pid)

    def _receive(self, timeout: float) -> dict[str, Any] | None:
        """The next message; None when there is none in time."""
        self._socket.settimeout(timeout)
        try:
            message = self._socket.recv(LARGEST_REQUEST)
        except (TimeoutError, BlockingIOError):
            return None
        assert message, f"the process that forks has ended: {self._process.poll()}"
        reply: dict[str, Any] = json.loads(message)
        if "ended" in reply:
            self._ended[reply["ended"]] = reply["status"]
        return reply


# ---- the other side


def serve(control: socket.socket) -> None:
    """Fork a command for each request, tell its process id, and its status when it has ended."""
    woken, wake = os.pipe()
    for end in (woken, wake):
        os.set_blocking(end, False)
    signal.set_wakeup_fd(wake)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    with selectors.DefaultSelector() as selector:
        selector.register(control, selectors.EVENT_READ)
        selector.register(woken, selectors.EVENT_READ)
        while True:
            ready = {key.fileobj for key, _ in selector.select()}
            if woken in ready:
                os.read(woken, 1024)
                _tell_of_the_dead(control)
            if control in ready:
                message, files, _, _ = socket.recv_fds(control, LARGEST_REQUEST, 2)
                if not message:
                    return
                if (pid := os.fork()) == 0:
                    break
                control.send(json.dumps({"started": pid}).encode())
                for file in files:
                    os.close(file)
    control.close()
    _become(json.loads(message), files)


def _tell_of_the_dead(control: socket.socket) -> None:
    with contextlib.suppress(ChildProcessError):
        while (found := os.waitpid(-1, os.WNOHANG))[0]:
            status = os.waitstatus_to_exitcode(found[1])
            control.send(json.dumps({"ended": found[0], "status": status}).encode())


def _become(request: dict[str, Any], output: list[int]) -> None:
    """Run the command and leave as it leaves."""
    from selfreward.cli import main

    os.setsid()
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for number, file in enumerate(output, start=1):
        os.dup2(file, number)
        os.close(file)
    os.environ.clear()
    os.environ.update(request["environ"])
    os.chdir(request["directory"])
    sys.argv = ["selfreward", *request["arguments"]]
    status = 1
    try:
        main(request["arguments"])
    except SystemExit as left:
        status = int(left.code or 0)
    except BaseException:
        traceback.print_exc()
    # Without taking all modules apart: that would copy every page shared with the process forked from.
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


if __name__ == "__main__":
    for module in NEEDED:
        import_module(module)
    assert threading.active_count() == 1, "a fork has only the thread that forks"
    gc.collect()
    gc.freeze()  # nor shall a fork's collector touch every page
    serve(socket.socket(fileno=int(sys.argv[1])))
