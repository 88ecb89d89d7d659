"""`selfreward status`: where a run stands, once or again and again, for people or as JSON."""

import json
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

from selfreward.config import Settings
from selfreward.errors import SelfRewardError
from selfreward.progress import RunStatus, as_json, gather
from selfreward.store import Store
from selfreward.terminal.displays import Display, JsonLines, Plain, live_screen
from selfreward.terminal.screen import Screen
from selfreward.terminal.watched import Watched

LIVE_S, PLAIN_S = 1.0, 10.0
"""Between two looks where nothing else is said: on a terminal, and elsewhere."""
PIPED_WIDTH = 120
Look = Callable[[], RunStatus]
Wait = Callable[[float], object]


def show(store: Store, settings: Settings, where: str = "") -> None:
    """Print it once."""
    console = _console()
    console.print(Screen(status=gather(store, settings, where=where)))


def show_json(store: Store, settings: Settings, where: str = "") -> None:
    """Print it once, for programs."""
    print(json.dumps(as_json(gather(store, settings, where=where)), indent=2))


def watch(
    directory: Path, settings: Settings, interval_s: float | None, in_json: bool, where: str = ""
) -> None:
    """Look again and again until Ctrl-C, whatever becomes of the database meanwhile.

    A live screen on a terminal, elsewhere a line for each look that finds something new; `interval_s`
    seconds lie between two looks.
    """
    console = _console()
    live = console.is_terminal and not console.is_dumb_terminal and not in_json
    seconds = interval_s or (LIVE_S if live else PLAIN_S)
    with Watched(directory, settings, where) as run, _wakeful() as wait:
        if live:
            with live_screen(console, seconds) as screen:
                keep_looking(run.look, screen, seconds, wait)
            screen.leave()
        else:
            keep_looking(run.look, JsonLines() if in_json else Plain(), seconds, wait)


def keep_looking(look: Look, display: Display, interval_s: float, wait: Wait) -> None:
    """Look, show, wait, until Ctrl-C. What keeps it from looking is shown too, and is no reason to end."""
    try:
        while True:
            try:
                display.show(look())
            except SelfRewardError as error:
                display.trouble(error)
            wait(interval_s)
    except KeyboardInterrupt:
        return


@contextmanager
def _wakeful() -> Iterator[Wait]:
    """A wait that ends early when the terminal is resized. SIGTERM and SIGHUP leave as Ctrl-C does."""
    resized = threading.Event()

    def wait(seconds: float) -> None:
        resized.wait(seconds)
        resized.clear()

    wanted = {
        signal.SIGWINCH: lambda *_: resized.set(),
        signal.SIGTERM: signal.default_int_handler,
        signal.SIGHUP: signal.default_int_handler,
    }
    if threading.current_thread() is not threading.main_thread():
        yield wait
        return
    before = {number: signal.signal(number, handler) for number, handler in wanted.items()}
    try:
        yield wait
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _console() -> Console:
    """Standard output. What lacks a character shows another instead of ending the program."""
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="replace")
    console = Console(highlight=False)
    if console.is_terminal or "COLUMNS" in os.environ:
        return console
    return Console(highlight=False, width=PIPED_WIDTH)
