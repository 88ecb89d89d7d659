"""`selfreward start` in the foreground: opens what the daemon needs, shows its work, says what to do next."""

import asyncio
import sys
from contextlib import ExitStack
from pathlib import Path

from rich.console import Console

from selfreward.config import SETTINGS_FILE, Settings
from selfreward.continuity import require_made
from selfreward.daemon import Daemon
from selfreward.errors import BadInput
from selfreward.places import run_option
from selfreward.reporting import (
    USUAL,
    LogOptions,
    LogReporter,
    Reporter,
    TerminalReporter,
    configure_logging,
    log_everything,
)
from selfreward.signals import CUT_SHORT, leave_at_once
from selfreward.store import Store
from selfreward.store.readonly import summary
from selfreward.terminal.tabular import print_table
from selfreward.training import trackers
from selfreward.types import CheckpointRow
from selfreward.whereabouts import enter_run


def run(directory: Path, settings: Settings, accept_changes: bool = False, log: LogOptions = USUAL) -> None:
    """Run the daemon until it is done or stopped. Raises SelfRewardError when it cannot go on.

    Without `accept_changes` it goes on only under the settings that the run was made with so far.
    """
    if not settings.model:
        raise BadInput(f"{directory / SETTINGS_FILE}: no model is set", 'For example: model = "org/name"')
    trackers.require(settings)
    leave_at_once()
    store = Store.open_or_create(settings.database.url, directory)
    try:
        require_made(store, settings, directory)
        with ExitStack() as stack:
            reporter = _reporter(settings, stack, log)
            daemon = Daemon(directory.resolve(), settings, store, reporter, accept_changes)
            asyncio.run(daemon.run())
        _summarise(directory, settings, store)
    except asyncio.CancelledError:
        sys.exit(CUT_SHORT)
    finally:
        store.close()


def evaluate(directory: Path, settings: Settings, name: str | None, log: LogOptions = USUAL) -> None:
    """Measure a checkpoint, or all of a run that lack figures. Raises SelfRewardError when it cannot."""
    store = Store.open(settings.database.url, directory)
    try:
        with ExitStack() as stack:
            daemon = Daemon(directory.resolve(), settings, store, _reporter(settings, stack, log))
            asyncio.run(daemon.run(_to_measure(store, settings, name)))
    except asyncio.CancelledError:
        sys.exit(CUT_SHORT)
    finally:
        store.close()


def _to_measure(store: Store, settings: Settings, name: str | None) -> list[CheckpointRow]:
    """M_0, M_1, … that the run itself made; the SFT baseline is measured where it is made."""
    run = store.runs.find(settings.name)
    own = [
        checkpoint
        for checkpoint in (store.runs.checkpoints(run.id) if run else ())
        if checkpoint.name == f"M_{checkpoint.version}" and run and checkpoint.run_id == run.id
    ]
    found = [checkpoint for checkpoint in own if name in (None, checkpoint.name)]
    if not found:
        known = ", ".join(checkpoint.name for checkpoint in own) or "none yet: selfreward start makes them"
        raise BadInput(
            f"there is no checkpoint {name or ''} to measure".replace("  ", " "), f"There are: {known}."
        )
    return found


def _reporter(settings: Settings, stack: ExitStack, log: LogOptions) -> Reporter:
    console = Console(stderr=True)
    if console.is_terminal and not log.as_json:
        title = f"selfreward · {settings.name}"
        return stack.enter_context(TerminalReporter(console, title, log.level))
    configure_logging(log.level)
    log_everything()
    enter_run(settings.name)
    return LogReporter({})


def _summarise(directory: Path, settings: Settings, store: Store) -> None:
    where = run_option(directory)
    print()
    print_table(summary(store.database, settings.name))
    print(
        "\nnext:\n"
        f"  selfreward report{where}\n"
        f"  selfreward status{where}\n"
        f'  selfreward query{where} "select * from iteration_summary"\n'
        f'  selfreward query{where} "select step, loss, margin, accuracy from training_curve where t = 1'
        f" and run = '{settings.name}'\"\n"
        f"  selfreward start{where} --iterations {_next(store, settings)}   # one more iteration\n"
    )


def _next(store: Store, settings: Settings) -> int:
    run = store.runs.find(settings.name)
    last = None if run is None else store.runs.latest_iteration(run.id)
    return 1 if last is None else last.t + 1
