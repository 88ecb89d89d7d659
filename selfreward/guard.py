"""Runs one command and sees to it that nothing of it outlives the daemon.

    python -m selfreward.guard COMMAND [ARGUMENT …]

The daemon holds the write end of this process's standard input and never writes to it: end of file
means that the daemon is gone, kill -9 included, and then every descendant is killed. The guard
leads the process group of the command, adopts whatever detaches from it (PR_SET_CHILD_SUBREAPER),
and if the guard itself is killed the command gets SIGKILL from the kernel (PR_SET_PDEATHSIG).

Standard library only: it starts in milliseconds and stays small beside the server it watches.
"""

import ctypes
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
MARK = "_SELFREWARD_CHILD"
"""Environment variable by which a child's whole tree is known. No setting: those begin with SELFREWARD_."""
TRACKER_GRACE_S = 2.0
_libc = ctypes.CDLL(None, use_errno=True)


def main(argv: list[str]) -> int:
    """Run `argv`, return its exit status in the shell's manner (128 + signal)."""
    _libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    command = subprocess.Popen(
        argv, stdin=subprocess.DEVNULL, preexec_fn=_die_with_guard, restore_signals=True
    )
    daemon_died = _wait_for_either(command.pid)
    kill_descendants(os.getpid())
    code = command.wait()
    if daemon_died:
        return 128 + signal.SIGKILL
    return code if code >= 0 else 128 - code


def _die_with_guard() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def _wait_for_either(pid: int) -> bool:
    """Block until the command has exited (False) or standard input has ended (True)."""
    exited = os.pidfd_open(pid)
    with selectors.DefaultSelector() as selector:
        selector.register(exited, selectors.EVENT_READ)
        selector.register(sys.stdin.fileno(), selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                if key.fd == exited:
                    return False
                if not os.read(key.fd, 1024):
                    return True


def kill_descendants(root: int) -> None:
    """SIGKILL every process below `root`, again until a look finds none."""
    _kill_all(lambda: _descendants(root))


def kill_marked(mark: str) -> None:
    """SIGKILL every process that has `mark` in its environment: those that a killed guard lost sight of."""
    _kill_all(lambda: _marked(mark))


def _kill_all(find: Callable[[], list[int]]) -> None:
    """Python's resource trackers come last and in peace.

    Once everybody who used it is dead, a tracker removes the shared memory they left and ends by itself;
    a killed one leaves it, hundreds of megabytes for each server.
    """
    patience_ends, quiet_looks = None, 0
    while quiet_looks < 2:  # a process whose parent is collected during a look is missed by that look
        victims = find()
        quiet_looks = 0 if victims else quiet_looks + 1
        targets = [pid for pid in victims if not _is_tracker(pid)]
        if not targets:
            patience_ends = patience_ends or time.monotonic() + TRACKER_GRACE_S
            targets = victims if time.monotonic() > patience_ends else []
        for pid in targets:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        time.sleep(0.005)  # the kernel needs a moment to turn them into zombies, which do not count


def _is_tracker(pid: int) -> bool:
    return b"multiprocessing.resource_tracker" in _read(pid, "cmdline")


def _marked(mark: str) -> list[int]:
    """Living processes with `mark` in their environment (a zombie has none)."""
    entry = f"{MARK}={mark}".encode()
    return [pid for pid in _all_pids() if entry in _read(pid, "environ").split(b"\0")]


def _all_pids() -> list[int]:
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def _read(pid: int, name: str) -> bytes:
    """A file of /proc/<pid>, empty when the process is gone or not ours."""
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()
    except OSError:
        return b""


def _descendants(root: int) -> list[int]:
    """Processes below `root` that are not done dying, from /proc.

    The dead stay in the chain: their children are handed on only when their last thread is gone.
    """
    parents: dict[int, int] = {}
    gone: set[int] = set()
    for pid in _all_pids():
        fields = _read(pid, "stat").rpartition(b")")[2].split()
        if fields:
            parents[pid] = int(fields[1])
        if fields and fields[0] in (b"Z", b"X") and int(fields[17]) <= 1:
            gone.add(pid)
    found: list[int] = []
    frontier = {root}
    while frontier:
        frontier = {pid for pid, parent in parents.items() if parent in frontier}
        found += frontier - gone
    return found


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
