"""SIGTERM and SIGINT: the first asks to drain, the second to leave at once, the third is the end."""

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from types import FrameType

CUT_SHORT = 130
"""Exit status of a process that was made to leave at once."""


def leave_at_once() -> None:
    """Until `listen` is called there is nothing to finish: a signal ends the process, with status 0."""

    def leave(number: int, _frame: FrameType | None) -> None:
        print(f"{signal.Signals(number).name}: nothing had begun", file=sys.stderr)
        sys.exit(0)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, leave)


def listen(hurry: Callable[[int], None], heard: Callable[[int, str], None]) -> None:
    """From now on, until the running loop is closed, tell both of each signal which one it is, from 1.

    `hurry` is called first, in the main thread wherever that is, even while the loop is blocked by a call
    that waits; `heard` is called by the loop, with the signal's name.
    """
    count = 0

    def at_once(_number: int, _frame: FrameType | None) -> None:
        nonlocal count
        count += 1
        if count > 2:
            os._exit(CUT_SHORT)  # the guards see to the children
        hurry(count)

    def in_turn(name: str) -> None:
        heard(count, name)

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        # The loop is told by a pipe, for which it installs a handler that does nothing: ours takes its place.
        loop.add_signal_handler(number, in_turn, number.name)
        signal.signal(number, at_once)
