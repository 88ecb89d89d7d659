"""The process that runs the loop: owns the run, hears signals and requests, restarts what fails."""

import asyncio
import os
import shutil
import signal
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from datetime import datetime, time, timedelta
from functools import partial
from pathlib import Path
from typing import Any

from apscheduler.schedulers.asyncio import AsyncIOScheduler
from apscheduler.triggers.interval import IntervalTrigger

from selfreward.config import Settings
from selfreward.errors import BadInput, EngineError, Halted, SelfRewardError, StoreError, TrainingError
from selfreward.loop import run_iteration
from selfreward.reporting import Reporter
from selfreward.seeds import read_seeds
from selfreward.stages import evaluate
from selfreward.stages.model import prepare_model, require_intact
from selfreward.stages.workplace import MODELS, Drained, Held, Workplace
from selfreward.store import Store
from selfreward.store.backup import rotate
from selfreward.types import CheckpointKind, CheckpointRow, ControlAction, RunRow, StageName, Status

POLL_S = 1.0
Step = Callable[[], Awaitable[None]]
CUT_SHORT = 130


class Daemon:
    """One run, until its iterations are done, a user stops it, or it cannot go on by itself."""

    def __init__(self, directory: Path, settings: Settings, store: Store, reporter: Reporter) -> None:
        self._directory, self._settings, self._store, self._reporter = directory, settings, store, reporter
        self._run: RunRow = store.runs.ensure(settings.name)
        self._stop = asyncio.Event()
        self._changed = asyncio.Event()
        self._reasons: set[str] = set()
        """Why the work should rest: stop, pause, window, gate. Empty: work."""
        self._only: Sequence[CheckpointRow] | None = None
        """Measure these and do nothing else."""
        self._signals = 0

    async def run(self, only: Sequence[CheckpointRow] | None = None) -> None:
        """Take the run and work, or `only` measure these. Raises SelfRewardError when it cannot go on.

        Raises CancelledError after a second signal; the first one only drains.
        """
        self._only = only
        self._fence = self._store.leases.take(self._run.id, self._settings.daemon.lease_timeout_s)
        self._store.journal.take_requests(self._run.id)  # what was asked of a daemon that is gone
        main = asyncio.create_task(self._work())
        self._listen_to_signals(main)
        scheduler = self._schedule()
        helpers = [asyncio.create_task(self._beat()), asyncio.create_task(self._poll())]
        self._event("started", f"daemon {os.getpid()} took the run", fence=self._fence)
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

    async def _work(self) -> None:
        """Step after step, resting while there is a reason to."""
        await asyncio.to_thread(self._store_seeds)
        for checkpoint in self._only or ():
            await asyncio.to_thread(self._look_again, checkpoint)
        failures, before = 0, -1
        while (step := self._next_step()) is not None:
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
                rows = self._rows()
                failures = 1 if rows != before else failures + 1
                before = rows
                self._event("engine_failed", str(error), failures=failures)
                if failures > self._settings.daemon.engine_restarts:
                    raise
                self._reporter.say("the engine failed and is started again", failures=failures)

    def _next_step(self) -> Step | None:
        """An iteration while there are any to do; then the last model is measured; then nothing."""
        if self._only is None and not self._all_done():
            return self._iterate
        missing = (checkpoint for checkpoint in self._to_measure() if not self._measured(checkpoint))
        checkpoint = next(missing, None)
        return None if checkpoint is None else partial(self._evaluate, checkpoint)

    def _to_measure(self) -> Sequence[CheckpointRow]:
        """What an iteration of its own does not measure."""
        if self._only is not None:
            return self._only
        last = self._store.runs.latest_iteration(self._run.id)
        assert last is not None
        return [self._trained_by(last.t)] if self._settings.evaluation.enabled else []

    async def _iterate(self) -> None:
        """The next iteration, from wherever it is, to its end."""
        place = await self._place()
        t = place.iteration.t
        begun = f"iteration {t} on {place.checkpoint.name}"
        self._event("iteration", begun, place, settings=place.iteration.setting_hash)
        self._reporter.say(f"iteration {t}: {place.checkpoint.name} → M_{t + 1}")
        try:
            trained = await run_iteration(place)
        except (Halted, TrainingError) as error:
            status = Status.HALTED if isinstance(error, Halted) else Status.FAILED
            self._store.runs.mark_iteration(place.iteration.id, status)
            raise
        self._event("iteration_done", f"{trained.name} is trained", place, digest=trained.digest)

    async def _evaluate(self, checkpoint: CheckpointRow) -> None:
        """Measure a checkpoint, in the iteration that is or will be its own."""
        require_intact(self._directory, checkpoint)
        self._reporter.say(f"measuring {checkpoint.name}")
        place = self._at(checkpoint.version, checkpoint, work=False)
        await evaluate.run(place)
        self._event("evaluated", f"{checkpoint.name} is measured", place)

    def _measured(self, checkpoint: CheckpointRow) -> bool:
        iteration = self._store.runs.iteration(self._run.id, checkpoint.version)
        stage = iteration and self._store.runs.stage(iteration.id, StageName.EVALUATE)
        return stage is not None and stage.status is Status.DONE

    def _look_again(self, checkpoint: CheckpointRow) -> None:
        """What was measured under other settings, or before more seeds came, may lack something now."""
        iteration = self._store.runs.iteration(self._run.id, checkpoint.version)
        if iteration is not None:
            for name in evaluate.ALL:
                self._store.runs.reopen_stage(iteration.id, name)

    async def _place(self) -> Workplace:
        """The iteration to work on: the last one if it is not done, else the one after it."""
        runs = self._store.runs
        first = runs.checkpoint(self._run.id, 0) or runs.checkpoint(self._run.id, 1)
        if first is None:
            first = await self._prepare_first()
        last = runs.latest_iteration(self._run.id)
        if last is None:
            t, checkpoint = first.version, first
        elif last.status is Status.DONE:
            t, checkpoint = last.t + 1, self._trained_by(last.t)
        else:
            t, checkpoint = last.t, runs.checkpoint_by_id(last.checkpoint_id)
        require_intact(self._directory, checkpoint)
        self._require_disk(self._directory / checkpoint.path)
        return self._at(t, checkpoint)

    async def _prepare_first(self) -> CheckpointRow:
        """M_0, or M_1 where nothing is to be bootstrapped, from the model that the settings name."""
        version = 0 if self._settings.bootstrap.mode == "sft" else 1
        path = f"{MODELS}/M_{version}"
        digest = await prepare_model(
            self._settings.model,
            self._directory / path,
            self._directory,
            fence=self._fence,
            reporter=self._reporter,
            stop=self._stop,
        )
        self._reporter.say(f"M_{version} is ready", digest=digest[:12])
        return self._store.runs.add_checkpoint(self._run.id, version, CheckpointKind.BASE, path, digest)

    def _at(self, t: int, checkpoint: CheckpointRow, work: bool = True) -> Workplace:
        iteration = self._store.runs.open_iteration(self._run.id, t, checkpoint.id, self._settings, work)
        return Workplace(
            directory=self._directory,
            store=self._store,
            settings=self._settings,
            run=self._run,
            iteration=iteration,
            checkpoint=checkpoint,
            fence=self._fence,
            reporter=self._reporter,
            stop=self._stop,
        )

    def _trained_by(self, t: int) -> CheckpointRow:
        checkpoint = self._store.runs.checkpoint(self._run.id, t + 1)
        assert checkpoint is not None, "an iteration is closed together with the checkpoint it trained"
        return checkpoint

    def _store_seeds(self) -> None:
        settings = self._settings.seeds
        reading = read_seeds(settings.files, self._directory, settings.held_out)
        if not reading.seeds:
            raise BadInput("there are no seeds", "Name a seed file in seeds.files, or use 'builtin'.")
        self._store.prompts.add_seeds(self._run.id, reading.seeds)
        if reading.skipped:
            self._reporter.say("seeds left out", **reading.skipped)

    def _require_disk(self, model: Path) -> None:
        """Room for the next checkpoint twice over: while it is committed, two copies can exist."""
        needed = 2 * sum(file.stat().st_size for file in model.glob("*.safetensors"))
        free = shutil.disk_usage(self._directory).free
        if free < needed:
            raise StoreError(
                f"{free / 2**30:.1f} GiB free at {self._directory}, {needed / 2**30:.1f} are needed",
                "A checkpoint takes twice its size while it is committed. Free some disk and start again.",
            )

    def _all_done(self) -> bool:
        wanted = self._settings.iterations
        last = self._store.runs.latest_iteration(self._run.id)
        return bool(wanted and last and last.status is Status.DONE and last.t >= wanted)

    def _rows(self) -> int:
        """Rows of the current iteration: equal before and after means that nothing got done."""
        last = self._store.runs.latest_iteration(self._run.id)
        return 0 if last is None else sum(self._store.journal.counts(last).values())

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
            rotate, self._store.database, self._directory / "backups", self._settings.daemon.backup_keep
        )
        self._event("backup", f"backed up into {target.name}")

    def _check_window(self) -> None:
        assert self._settings.daemon.run_window is not None
        self._rest("window", not in_window(self._settings.daemon.run_window, datetime.now().time()))

    def _event(self, kind: str, message: str, place: Workplace | None = None, **data: Any) -> None:
        iteration = None if place is None else place.iteration.id
        self._store.journal.event(self._run.id, kind, message, iteration, **data)


def in_window(window: str, moment: time) -> bool:
    """Whether a time of day lies in "HH:MM-HH:MM"; one that ends before it starts spans midnight."""
    opens, closes = (time.fromisoformat(part) for part in window.split("-"))
    return opens <= moment < closes if opens <= closes else moment >= opens or moment < closes
