"""The process that runs the loop: owns the run, hears signals and requests, restarts what fails."""

import asyncio
import os
import signal
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime, time, timedelta
from pathlib import Path
from typing import Any

from apscheduler.schedulers.asyncio import AsyncIOScheduler
from apscheduler.triggers.interval import IntervalTrigger

from selfreward.agenda import Agenda
from selfreward.config import Settings
from selfreward.errors import EngineError, Halted, SelfRewardError
from selfreward.places import root_of
from selfreward.reporting import Reporter
from selfreward.stages.load import Load
from selfreward.stages.workplace import Drained, Held
from selfreward.store import Store
from selfreward.store.backup import rotate
from selfreward.types import CheckpointRow, ControlAction, RunRow

POLL_S = 1.0
CUT_SHORT = 130


class Daemon:
    """One run, until its iterations are done, a user stops it, or it cannot go on by itself."""

    def __init__(
        self,
        directory: Path,
        settings: Settings,
        store: Store,
        reporter: Reporter,
        accept_changes: bool = False,
    ) -> None:
        self._directory, self._settings, self._store, self._reporter = directory, settings, store, reporter
        self._accept_changes = accept_changes
        self._run: RunRow = store.runs.ensure(settings.name)
        self._stop = asyncio.Event()
        self._load = Load()
        self._changed = asyncio.Event()
        self._reasons: set[str] = set()
        """Why the work should rest: stop, pause, window, gate. Empty: work."""
        self._signals = 0

    async def run(self, only: Sequence[CheckpointRow] | None = None) -> None:
        """Take the run and work, or `only` measure these. Raises SelfRewardError when it cannot go on.

        Raises CancelledError after a second signal; the first one only drains.
        """
        fence = self._store.leases.take(self._run.id, self._settings.daemon.lease_timeout_s)
        self._store.journal.take_requests(self._run.id)  # what was asked of a daemon that is gone
        agenda = Agenda(
            self._directory,
            self._settings,
            self._store,
            self._reporter,
            run=self._run,
            fence=fence,
            stop=self._stop,
            load=self._load,
            only=only,
            accept_changes=self._accept_changes,
        )
        main = asyncio.create_task(self._work(agenda))
        self._listen_to_signals(main)
        scheduler = self._schedule()
        helpers = [asyncio.create_task(self._beat()), asyncio.create_task(self._poll())]
        self._event("started", f"daemon {os.getpid()} took the run", fence=fence)
        try:
            await asyncio.wait([main, *helpers], return_when=asyncio.FIRST_COMPLETED)
            for helper in helpers:
                if helper.done() and not main.done():
                    helper.result()
            await main
            self._event("stopped", "stopped" if "stop" in self._reasons else "all iterations are done")
        except (Exception, asyncio.CancelledError) as error:
            kind = "halted" if isinstance(error, Halted) else "failed"
            with suppress(SelfRewardError):
                self._event(kind, str(error) or "cut short by a second signal")
            raise
        finally:
            scheduler.shutdown(wait=False)
            for task in (main, *helpers):
                task.cancel()
            await asyncio.wait([main, *helpers])
            with suppress(SelfRewardError):
                self._store.leases.release()

    async def _work(self, agenda: Agenda) -> None:
        """Step after step, resting while there is a reason to."""
        await asyncio.to_thread(agenda.prepare)
        failures, before = 0, -1
        while (step := agenda.next_step()) is not None:
            if not await self._until_wanted():
                return
            try:
                await step()
                failures = 0
            except Drained:
                continue
            except Held as error:
                self._hold(error.message)
            except EngineError as error:
                rows = agenda.rows()
                failures = 1 if rows != before else failures + 1
                before = rows
                self._event("engine_failed", str(error), failures=failures)
                if failures > self._settings.daemon.engine_restarts:
                    raise
                self._reporter.say("the engine failed and is started again", failures=failures)

    async def _until_wanted(self) -> bool:
        """Rest while paused or outside the run window. False when asked to stop."""
        if self._reasons and "stop" not in self._reasons:
            self._event("paused", f"resting: {', '.join(sorted(self._reasons))}")
            self._reporter.say("resting", reasons=sorted(self._reasons))
        rested = bool(self._reasons)
        while self._reasons and "stop" not in self._reasons:
            self._changed.clear()
            await self._changed.wait()
        if rested and not self._reasons:
            self._event("resumed", "going on")
            self._reporter.say("going on")
        return not self._reasons

    def _hold(self, finding: str) -> None:
        """A health gate found something: rest until a user lets it go on."""
        self._event("gate", finding)
        self._reporter.say(
            f"held by a health gate\n{finding}\nLet it go on with: selfreward resume. Or stop, change the "
            "settings, and start again: it is checked once more."
        )
        self._rest("gate", True)

    def _let_go(self) -> None:
        """A user accepts what a gate has found."""
        last = self._store.runs.latest_iteration(self._run.id)
        if "gate" in self._reasons and last is not None:
            self._store.gates.accept(last.id)
        self._rest("gate", False)

    def _rest(self, reason: str, wanted: bool) -> None:
        """Add or take away a reason to rest; the stages see it through the stop event."""
        (self._reasons.add if wanted else self._reasons.discard)(reason)
        (self._stop.set if self._reasons else self._stop.clear)()
        self._changed.set()

    def _listen_to_signals(self, main: "asyncio.Task[None]") -> None:
        def heard(number: signal.Signals) -> None:
            self._signals += 1
            if self._signals == 1:
                self._reporter.say(f"{number.name}: finishing what is in flight; again to leave at once")
                self._rest("stop", True)
            elif self._signals == 2:
                main.cancel()
            else:
                os._exit(CUT_SHORT)  # the guards see to the children

        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, heard, number)

    async def _beat(self) -> None:
        """Signs of life. Raises LeaseLost, which ends the daemon, when the run has a new owner."""
        while True:
            await asyncio.to_thread(self._store.leases.heartbeat)
            await asyncio.sleep(self._settings.daemon.lease_timeout_s / 5)

    async def _poll(self) -> None:
        """Take up what users ask for."""
        while True:
            for request in await asyncio.to_thread(self._store.journal.take_requests, self._run.id):
                self._reporter.say(f"asked to {request.action}")
                if request.action is ControlAction.RESUME:
                    self._rest("pause", False)
                    await asyncio.to_thread(self._let_go)
                else:
                    self._rest(request.action, True)
            await asyncio.sleep(POLL_S)

    def _schedule(self) -> AsyncIOScheduler:
        """What is periodic. In memory: the scheduler never drives the stages or the lease."""
        scheduler = AsyncIOScheduler()
        settings = self._settings.daemon
        if settings.backup_every_minutes and self._store.database.is_sqlite:
            trigger = IntervalTrigger(minutes=settings.backup_every_minutes)
            scheduler.add_job(self._back_up, trigger, max_instances=1, coalesce=True)
        if settings.run_window:
            self._check_window()
            trigger = IntervalTrigger(
                minutes=1, start_date=datetime.now().replace(second=0) + timedelta(minutes=1)
            )
            scheduler.add_job(self._check_window, trigger, max_instances=1, coalesce=True)
        scheduler.start()
        return scheduler

    async def _back_up(self) -> None:
        target = await asyncio.to_thread(
            rotate,
            self._store.database,
            root_of(self._directory) / "backups",
            self._settings.daemon.backup_keep,
        )
        self._event("backup", f"backed up into {target.name}")

    def _check_window(self) -> None:
        assert self._settings.daemon.run_window is not None
        self._rest("window", not in_window(self._settings.daemon.run_window, datetime.now().time()))

    def _event(self, kind: str, message: str, **data: Any) -> None:
        self._store.journal.event(self._run.id, kind, message, **data)


def in_window(window: str, moment: time) -> bool:
    """Whether a time of day lies in "HH:MM-HH:MM"; one that ends before it starts spans midnight."""
    opens, closes = (time.fromisoformat(part) for part in window.split("-"))
    return opens <= moment < closes if opens <= closes else moment >= opens or moment < closes
