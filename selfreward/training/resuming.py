"""Goes on with a training that was stopped, and saves its state from time to time. Runs in the child only.

A trainer is built from the untouched M_t whatever follows, so that DPO's reference, which TRL computes
while it is built, is that of M_t; the state is loaded afterwards.
"""

import shutil
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from transformers import Trainer, TrainerCallback

from selfreward.crash import crash_point
from selfreward.training.events import EventWriter
from selfreward.training.failures import JobFailed, explain, require_space
from selfreward.training.jobs import AnyTraining
from selfreward.training.machine import versions
from selfreward.training.states import States, states_of

COPIES = 3
"""A state holds the weights that are trained and AdamW's two moments of each."""
PICKLED_ARGUMENTS = "training_args.bin"


class ResumableTrainer(Trainer):  # type: ignore[misc]  # transformers has no types for it
    """To be mixed in before a trainer of TRL: saves states as `states` has them, or goes on without."""

    saving: "Saving | None" = None

    def train_on(self, job: AnyTraining, origin: str, events: EventWriter) -> None:
        """Train from the newest intact state of a training with this origin, else from the start."""
        if job.states is None:
            self.train()
            return
        states = states_of(job.states, job.fence, origin, *versions())
        self.saving = Saving(self, job, states, events)
        self.add_callback(self.saving)
        newest = states.newest()
        self.train(resume_from_checkpoint=None if newest is None else str(newest))

    def _get_output_dir(self, trial: Any) -> str:
        return super()._get_output_dir(trial) if self.saving is None else str(self.saving.states.unfinished)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        assert self.saving is not None, "nobody else asks for it"
        self.saving.save(partial(Trainer._save_checkpoint, self, model, trial))  # TRL's adds a model card


class Saving(TrainerCallback):  # type: ignore[misc]
    """Asks for a state every `save_minutes` and keeps it; where there is no room the training goes on."""

    def __init__(
        self, trainer: ResumableTrainer, job: AnyTraining, states: States, events: EventWriter
    ) -> None:
        self._trainer, self._job, self._events = trainer, job, events
        self.states = states
        self._last = time.monotonic()
        self._full = False
        """Whether a lack of room was told."""

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._last = time.monotonic()
        if state.global_step:
            message = f"going on at step {state.global_step + 1} of {state.max_steps}"
            self._events.emit("note", message=message)
            self._count_on(state.log_history)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        minutes, waited = self._job.settings.save_minutes, time.monotonic() - self._last
        if minutes and waited >= 60 * minutes and state.global_step < state.max_steps:
            control.should_save = self._has_room()

    def save(self, write: Callable[[], None]) -> None:
        """Write a state and keep it. A disk that is full is told, and does not end the training."""
        try:
            write()
            for written in self.states.unfinished.iterdir():
                (written / PICKLED_ARGUMENTS).unlink(missing_ok=True)  # never read, so nobody shall
                self.states.keep(written)
            crash_point("train:saved")
        except Exception as error:
            failure = explain(error, self.states.directory, self._job.section)
            if failure.kind != "no_space":
                raise
            self._tell_full(failure)
        self._last = time.monotonic()

    def _has_room(self) -> bool:
        """Room for a state beside the one before, and for the checkpoint that comes out in the end."""
        trained = [each for each in self._trainer.model.parameters() if each.requires_grad]
        size = COPIES * sum(each.numel() * each.itemsize for each in trained)
        published = sum(path.stat().st_size for path in self._job.model.glob("*.safetensors"))
        try:
            require_space(self.states.directory, size + published)
        except JobFailed as failure:
            self._tell_full(failure)
            self._last = time.monotonic()
            return False
        return True

    def _tell_full(self, failure: JobFailed) -> None:
        if not self._full:
            message = f"the training goes on, and its state is not saved: {failure.message}"
            self._events.emit("note", message=message)
        self._full = True
        shutil.rmtree(self.states.unfinished, ignore_errors=True)

    def _count_on(self, history: list[dict[str, Any]]) -> None:
        """TRL counts tokens from 0 again."""
        counts = [entry["num_tokens"] for entry in history if "num_tokens" in entry]
        if counts:
            self._trainer._total_train_tokens = int(counts[-1])
