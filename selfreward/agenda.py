"""What a run does next, read from its rows: an iteration, the measuring of its last model, or nothing."""

import asyncio
import shutil
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from selfreward import preflight
from selfreward.config import Settings
from selfreward.config.consistency import ignored
from selfreward.continuity import check_settings, warn_of_versions
from selfreward.errors import BadInput, DiskFull, Halted, TrainingError
from selfreward.loop import run_iteration
from selfreward.places import root_of
from selfreward.reporting import Reporter
from selfreward.seeds import read_seeds
from selfreward.stages import evaluate
from selfreward.stages.load import Load
from selfreward.stages.mixing import require_imported
from selfreward.stages.model import prepare_model
from selfreward.stages.restore import intact
from selfreward.stages.workplace import Workplace, checkpoint_path
from selfreward.store import Store
from selfreward.store.retention import retain
from selfreward.types import CheckpointKind, CheckpointRow, RunRow, StageName, Status
from selfreward.whereabouts import enter_iteration

Step = Callable[[], Awaitable[None]]
Tell = Callable[..., None]
"""(kind, message, **data): passes an event on to whoever wants to know."""


class Agenda:
    """The steps of one run, for the daemon that owns it. Steps raise as `run_iteration` does."""

    def __init__(
        self,
        directory: Path,
        settings: Settings,
        store: Store,
        reporter: Reporter,
        *,
        run: RunRow,
        fence: int,
        stop: asyncio.Event,
        load: Load,
        tell: Tell,
        only: Sequence[CheckpointRow] | None = None,
        accept_changes: bool = False,
    ) -> None:
        self._directory, self._settings, self._store, self._reporter = directory, settings, store, reporter
        self._run, self._fence, self._stop, self._load = run, fence, stop, load
        self._tell = tell
        self._only = only
        """Measure these and do nothing else."""
        self._accept_changes = accept_changes
        self._root = root_of(directory)
        self._sound: set[str] = set()
        """Checkpoints that were read in full and are what was written."""
        self.disk_needed = 0
        """Bytes that must be free before an iteration, as far as is known."""

    def prepare(self) -> None:
        """Store the seeds, and look once more at what is to be measured.

        Raises BadInput when the settings are not those that the run was made with so far.
        """
        if self._only is None:
            require_imported(self._store, self._run, self._settings)
            preflight.before_run(self._settings, self._directory)
            check_settings(self._store, self._run, self._settings, self._directory, self._accept_changes)
            warn_of_versions(self._store, self._run, self._reporter)
            for said in ignored(self._settings):
                self._reporter.say(said, level="warning")
        if self._store.runs.node(self._run.id).seeds_run_id is None:
            self._store_seeds()
        for checkpoint in self._only or ():
            self._look_again(checkpoint)
        if self._only is None:
            self._retain()  # what a crash has left of it: there may be no iteration to come

    def next_step(self) -> Step | None:
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
        made = await asyncio.to_thread(self._store.journal.counts, place.iteration)
        figures = {stage.value: count for stage, count in made.items() if count}
        self._event("iteration_done", f"{trained.name} is trained", place, digest=trained.digest, **figures)
        await asyncio.to_thread(self._retain, place.iteration.id)

    async def _evaluate(self, checkpoint: CheckpointRow) -> None:
        """Measure a checkpoint, in the iteration that is or will be its own."""
        place = await intact(self._at(checkpoint.version, checkpoint, work=False), self._sound)
        checkpoint = place.checkpoint
        self._reporter.say(f"measuring {checkpoint.name}")
        await evaluate.run(place)
        self._event("evaluated", f"{checkpoint.name} is measured", place)

    def _retain(self, iteration_id: int | None = None) -> None:
        """Remove the files of checkpoints that need not be kept."""
        done = retain(self._store.database, self._root, self._run.id, self._settings)
        if done:
            self._store.journal.event(self._run.id, "retention", done.describe(), iteration_id)

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
        last = runs.latest_iteration(self._run.id)
        if last is None:
            checkpoint = await self._first()
            t = checkpoint.version
        elif last.status is Status.DONE:
            t, checkpoint = last.t + 1, self._trained_by(last.t)
        else:
            t, checkpoint = last.t, runs.checkpoint_by_id(last.checkpoint_id)
        place = await intact(self._at(t, checkpoint), self._sound)
        await asyncio.to_thread(preflight.before_iteration, place)
        self._require_disk(place.model_path)
        return place

    async def _first(self) -> CheckpointRow:
        """Where the run begins: M_K of its parent for a fork, else M_0 or M_1."""
        runs, fork = self._store.runs, self._store.runs.node(self._run.id).parent_iteration
        if fork is not None:
            return self._trained_by(fork - 1)
        found = runs.checkpoint(self._run.id, 0) or runs.checkpoint(self._run.id, 1)
        return found or await self._prepare_first()

    async def _prepare_first(self) -> CheckpointRow:
        """M_0, or M_1 where nothing is to be bootstrapped, from the model that the settings name."""
        version = 0 if self._settings.bootstrap.mode == "sft" else 1
        path = checkpoint_path(self._directory, f"M_{version}")
        digest = await prepare_model(
            self._settings.model,
            self._root / path,
            self._directory,
            fence=self._fence,
            reporter=self._reporter,
            stop=self._stop,
        )
        self._reporter.say(f"M_{version} is ready", digest=digest[:12])
        return self._store.runs.add_checkpoint(self._run.id, version, CheckpointKind.BASE, path, digest)

    def _at(self, t: int, checkpoint: CheckpointRow, work: bool = True) -> Workplace:
        enter_iteration(t)
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
            load=self._load,
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
            skipped: dict[str, Any] = dict(reading.skipped)
            self._reporter.say("seeds left out", **skipped)

    def _require_disk(self, model: Path) -> None:
        """Room for the next checkpoint twice over: while it is committed, two copies can exist."""
        needed = self.disk_needed = 2 * sum(file.stat().st_size for file in model.glob("*.safetensors"))
        free = shutil.disk_usage(self._directory).free
        if free < needed:
            raise DiskFull(
                f"{free / 2**30:.1f} GiB free at {self._directory}, {needed / 2**30:.1f} are needed",
                "A checkpoint takes twice its size while it is committed. Free some disk and start again.",
            )

    def _all_done(self) -> bool:
        wanted = self._settings.iterations
        last = self._store.runs.latest_iteration(self._run.id)
        return bool(wanted and last and last.status is Status.DONE and last.t >= wanted)

    def rows(self) -> int:
        """Rows of the current iteration: equal before and after means that nothing got done."""
        last = self._store.runs.latest_iteration(self._run.id)
        return 0 if last is None else sum(self._store.journal.counts(last).values())

    def _event(self, kind: str, message: str, place: Workplace, **data: Any) -> None:
        self._tell(kind, message, **data)
        self._store.journal.event(self._run.id, kind, message, place.iteration.id, **data)
