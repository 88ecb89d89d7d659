"""The process that runs the loop: owns the run, hears signals and requests, waits for what fails."""

import asyncio
import os
import sqlite3
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

from selfreward import rest, schedule, signals
from selfreward.agenda import Agenda
from selfreward.config import Settings
from selfreward.errors import DiskFull, EngineError, Halted, SelfRewardError, StoreUnavailable
from selfreward.notify import Notifier
from selfreward.places import root_of
from selfreward.reporting import Reporter
from selfreward.rest import Notes, Rest
from selfreward.stages.load import Load
from selfreward.stages.workplace import Drained, Held
from selfreward.store import Store
from selfreward.store.backup import rotate
from selfreward.systemd import Announcing, Service
from selfreward.types import CheckpointRow, ControlAction, RunRow
from selfreward.whereabouts import enter_run

POLL_S = 1.0
LAST_MESSAGES_S = 15.0
"""How long a daemon that leaves waits for the messages that are on their way."""
THREADS = 32
"""Threads that wait for the database must not keep others from ending a child."""


class Daemon:
    """One run, until its iterations are done, a user stops it, or it cannot go on by itself.

    What can be waited for is waited for: it rests, says why, and goes on when that is over.
    """

    def __init__(
        self,
        directory: Path,
        settings: Settings,
        store: Store,
        reporter: Reporter,
        accept_changes: bool = False,
    ) -> None:
        self._directory, self._settings, self._store = directory, settings, store
        self._service = Service()
        self._reporter = Announcing(reporter, self._service)
        self._accept_changes = accept_changes
        self._run: RunRow
        self._rest = Rest()
        self._load = Load()
        self._notes = Notes(lambda *event, **data: store.journal.event(self._run.id, *event, **data))
        self._notifier = Notifier(settings.notify, self._notes.add)
        self._main: asyncio.Task[None] | None = None
        self._engine_failures = self._disk_rests = 0
        self._last_messages_s = LAST_MESSAGES_S
        store.database.be_patient(settings.daemon.database_patience_s, self._tell_of_waiting)

    async def run(self, only: Sequence[CheckpointRow] | None = None) -> None:
        """Take the run and work, or `only` measure these. Raises SelfRewardError when it cannot go on.

        Raises CancelledError after a second signal; the first one only drains.
        """
        enter_run(self._settings.name)
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(THREADS))
        signals.listen(self._hurry, self._hear)
        try:
            fence = await asyncio.to_thread(self._take)
        except StoreUnavailable:
            if self._rest.asked_to_stop:
                return
            raise
        agenda = Agenda(
            self._directory,
            self._settings,
            self._store,
            self._reporter,
            run=self._run,
            fence=fence,
            stop=self._rest.stop,
            load=self._load,
            tell=self._notifier.tell,
            only=only,
            accept_changes=self._accept_changes,
        )
        main = self._main = asyncio.create_task(self._work(agenda, only is not None))
        back_up = self._back_up if self._store.database.is_sqlite else None
        scheduler = schedule.start(self._settings, back_up, self._set_open)
        signs = (self._beat(), self._poll(), self._service.keep_alive())
        helpers = [asyncio.create_task(sign) for sign in signs]
        self._service.ready()
        try:
            await self._note("started", f"daemon {os.getpid()} took the run", fence=fence)
            await asyncio.wait([main, *helpers], return_when=asyncio.FIRST_COMPLETED)
            for helper in helpers:
                if helper.done() and not main.done():
                    helper.result()
            await main
            await self._note("stopped", "stopped" if self._rest.asked_to_stop else "all iterations are done")
        except (Exception, asyncio.CancelledError) as error:
            kind = "halted" if isinstance(error, Halted) else "failed"
            with suppress(SelfRewardError):
                await self._note(kind, str(error) or "cut short by a second signal")
            raise
        finally:
            self._service.stopping()
            scheduler.shutdown(wait=False)
            for task in (main, *helpers):
                task.cancel()
            await asyncio.gather(main, *helpers, return_exceptions=True)
            await asyncio.to_thread(self._notifier.close, self._last_messages_s)
            with suppress(SelfRewardError):
                await asyncio.to_thread(self._store.leases.release)
            self._store.database.patience.end_by(time.monotonic())  # a thread may wait still

    def _take(self) -> int:
        """Own the run; returns the fence."""
        self._run = self._store.runs.ensure(self._settings.name)
        fence = self._store.leases.take(self._run.id, self._settings.daemon.lease_timeout_s)
        self._store.journal.take_requests(self._run.id)  # what was asked of a daemon that is gone
        return fence

    async def _work(self, agenda: Agenda, only_once: bool) -> None:
        """Step after step, resting while there is a reason to. `only_once`: not for an engine that fails."""
        prepared = False
        while True:
            rows = self._load.rows
            try:
                if not prepared:
                    await asyncio.to_thread(agenda.prepare)
                    prepared = True
                step = await asyncio.to_thread(agenda.next_step)
                if step is None or not await self._until_wanted(agenda):
                    return
                await step()
                self._engine_failures = self._disk_rests = 0
                self._load.restore()
            except Drained:
                continue
            except Held as error:
                await self._hold(error.message)
            except (SelfRewardError, OSError) as error:
                if isinstance(error, EngineError) and rest.has_room(0, self._directory):
                    await self._engine_failed(error, self._load.rows > rows, only_once)
                elif not await self._wait_out(error, agenda):
                    return

    async def _engine_failed(self, error: EngineError, progressed: bool, only_once: bool) -> None:
        """Start it again, with half the batch if it got nothing done; after some times, rest."""
        self._engine_failures = failures = 0 if progressed else self._engine_failures + 1
        await self._note("engine_failed", str(error), failures=failures)
        if failures > self._settings.daemon.engine_restarts:
            if only_once:
                raise error
            self._engine_failures = 0
            self._rest.because(rest.ENGINE, str(error))
            self._reporter.say(
                f"the engine failed {failures} times and got nothing done\n{error}\n"
                "When that is mended, let it try again: selfreward resume",
                level="error",
            )
            return
        self._reporter.say("the engine failed and is started again", level="warning", failures=failures)
        if not progressed:
            await self._back_off()

    async def _back_off(self) -> None:
        """Ask less of the engine at once, until a whole iteration has gone well."""
        before = self._load.lighten(self._settings.engine)
        self._load.halve()
        now = self._load.lighten(self._settings.engine)
        if now == before:
            return
        figures = {"max_num_seqs": now.max_num_seqs, "concurrency": now.concurrency}
        message = "the engine is started again with half as much at once"
        await self._note("engine_backed_off", message, halvings=self._load.halvings, **figures)
        self._reporter.say(message, level="warning", **figures)

    async def _wait_out(self, error: Exception, agenda: Agenda) -> bool:
        """Rest because of an error that can pass. False when asked to stop; raises any other error."""
        reason = rest.reason_to_rest(error)
        if reason is None and isinstance(error, EngineError):
            reason = rest.DISK  # there is no room for what a server writes
        if reason is None:
            raise error
        if reason == rest.DISK:
            self._disk_rests += 1
        if not self._rest.asked_to_stop:
            self._rest.because(reason, str(error))
            self._reporter.say(f"resting: {error}", level="warning")
            await self._note(reason, str(error))
        return await self._until_wanted(agenda)

    async def _until_wanted(self, agenda: Agenda) -> bool:
        """Rest while there is a reason to. False when asked to stop."""
        if not self._rest.reasons:
            return True
        if not self._rest.asked_to_stop:
            reasons = sorted(self._rest.reasons)
            await self._note("paused", f"resting: {self._rest}", reasons=reasons)
            self._reporter.say("resting", reasons=reasons)
            self._service.status(f"resting: {self._rest}")
        while self._rest.reasons and not self._rest.asked_to_stop:
            await self._rest.change(rest.next_look(self._rest.reasons, self._disk_rests))
            await self._look_again(agenda)
        if self._rest.asked_to_stop:
            return False
        await self._note("resumed", "going on")
        self._service.status("going on")
        self._reporter.say("going on")
        return True

    async def _look_again(self, agenda: Agenda) -> None:
        """Go on when there is room, or the database answers. Raises LeaseLost when it has a new owner."""
        if not rest.PASSING & self._rest.reasons.keys() or not await self._can_write():
            return
        self._rest.no_longer(rest.DATABASE)
        if rest.has_room(agenda.disk_needed, self._directory, *self._store.database.directories):
            self._rest.no_longer(rest.DISK)

    async def _can_write(self) -> bool:
        try:
            await asyncio.to_thread(self._store.leases.heartbeat)
        except (StoreUnavailable, DiskFull):
            return False
        return True

    async def _hold(self, finding: str) -> None:
        """A health gate found something: rest until a user lets it go on."""
        await self._note("gate", finding)
        self._reporter.say(
            f"held by a health gate\n{finding}\nLet it go on with: selfreward resume. Or stop, change the "
            "settings, and start again: it is checked once more.",
            level="warning",
        )
        self._rest.because(rest.GATE, finding)

    def _hurry(self, signals: int) -> None:
        """Nobody waits for the database beyond the grace; not at all after a second signal or before work."""
        at_work = signals == 1 and self._main is not None
        self._store.database.patience.end_by(time.monotonic() + (self._settings.daemon.grace_s * at_work))

    def _hear(self, signals: int, name: str) -> None:
        if signals > 1 and self._main is not None:
            self._last_messages_s = 0
            self._main.cancel()
        elif not self._rest.asked_to_stop:
            self._service.stopping()
            self._reporter.say(f"{name}: finishing what is in flight; again to leave at once")
            self._rest.because(rest.STOP)

    async def _beat(self) -> None:
        """Signs of life. Raises LeaseLost, which ends the daemon, when the run has a new owner."""
        while True:
            await self._can_write()
            await asyncio.sleep(self._settings.daemon.lease_timeout_s / 5)

    async def _poll(self) -> None:
        """Take up what users ask for."""
        while True:
            with suppress(StoreUnavailable, DiskFull):
                for request in await asyncio.to_thread(self._store.journal.take_requests, self._run.id):
                    self._reporter.say(f"asked to {request.action}")
                    await self._obey(request.action)
            await asyncio.sleep(POLL_S)

    async def _obey(self, action: ControlAction) -> None:
        if action is ControlAction.STOP:
            self._store.database.patience.end_by(time.monotonic() + self._settings.daemon.grace_s)
        if action is not ControlAction.RESUME:
            return self._rest.because(action)
        if rest.GATE in self._rest.reasons:
            await asyncio.to_thread(self._accept_gates)
        self._disk_rests = 0
        self._rest.no_longer(*rest.ACCEPTED)

    def _accept_gates(self) -> None:
        """A user accepts what the gates have found."""
        last = self._store.runs.latest_iteration(self._run.id)
        if last is not None:
            self._store.gates.accept(last.id)

    def _set_open(self, is_open: bool) -> None:
        """Work, or rest, by the time of day."""
        if is_open:
            self._rest.no_longer(rest.WINDOW)
        else:
            self._rest.because(rest.WINDOW)

    async def _back_up(self) -> None:
        keep, directory = self._settings.daemon.backup_keep, root_of(self._directory) / "backups"
        try:
            target = await asyncio.to_thread(rotate, self._store.database, directory, keep)
        except (SelfRewardError, sqlite3.Error, OSError) as error:
            await self._note("backup_failed", f"not backed up: {error}")
            self._reporter.say(f"not backed up: {error}", level="warning")
        else:
            await self._note("backup", f"backed up into {target.name}")

    def _tell_of_waiting(self, cause: StoreUnavailable) -> None:
        self._reporter.say(f"waiting for the database: {cause.message}", level="warning")

    async def _note(self, kind: str, message: str, **data: Any) -> None:
        """Write down what happened, as soon as that is possible, and tell those who want to know."""
        self._notifier.tell(kind, message, **data)
        await asyncio.to_thread(self._notes.add, kind, message, **data)
