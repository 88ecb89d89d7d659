"""Jobs for the child process: fully resolved descriptions that travel as `job.json`."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from selfreward.config import SftSettings, TrainerSettings, TrainSettings
from selfreward.training import origin
from selfreward.training.manifest import write_durably

JOB_FILE = "job.json"
SCRATCH = "scratch"
"""Beside job.json: where the child's libraries put temporary files. Gone when the job has ended."""


class _Job(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    output: Path
    """The final directory of the checkpoint that the job makes."""
    fence: int
    """The lease's fencing number: names the temporary directory."""


class _TrainingJob(_Job, ABC):
    section: ClassVar[str]
    """The settings that hints name."""

    model: Path
    """The checkpoint directory to start from: M_t, or M_0 in the bootstrap."""
    model_digest: str = ""
    """Digest of that checkpoint."""
    settings: TrainerSettings
    """How to train."""
    seed: int = 0
    """Seed of the order of the pairs or examples and of dropout."""
    work: Path
    """Directory for the trainer's own files: scratch and tracker logs."""
    states: Path | None = None
    """Directory that outlives an attempt, for the training's state to go on from. Unset: none is kept."""

    def origin(self, rows: Iterable[Mapping[str, Any]] | None = None) -> str:
        """What the training is made from, as one digest: with all its data, or with these rows of it."""
        data = origin.read_rows(self.data) if rows is None else rows
        return origin.digest(self.model_digest, data, self.settings, self.seed)

    @property
    @abstractmethod
    def data(self) -> Path:
        """The file with what is learnt from."""


class DpoJob(_TrainingJob):
    """Train M_t on preference pairs, with M_t itself as the reference, and write M_{t+1}."""

    section = "train"

    kind: Literal["dpo"] = "dpo"
    pairs: Path
    """JSONL of {"pair_id", "prompt", "chosen", "rejected"}."""
    settings: TrainSettings
    """How to train."""

    @property
    def data(self) -> Path:
        """The pairs."""
        return self.pairs


class SftJob(_TrainingJob):
    """Train a model on examples, the loss on their completions only, and write the result."""

    section = "bootstrap.sft"

    kind: Literal["sft"] = "sft"
    examples: Path
    """JSONL of {"example_id", "input", "completion"}: a user turn and the assistant's reply."""
    settings: SftSettings
    """How to train."""

    @property
    def data(self) -> Path:
        """The examples."""
        return self.examples


class ConvertJob(_Job):
    """Make the user's `model = "…"` into a checkpoint."""

    section: ClassVar[str] = ""

    kind: Literal["convert"] = "convert"
    source: str
    """A source as `parse_model_source` accepts it."""
    run_dir: Path
    """What a relative source starts from."""


AnyJob = DpoJob | SftJob | ConvertJob
Job = Annotated[AnyJob, Field(discriminator="kind")]
_adapter: TypeAdapter[AnyJob] = TypeAdapter(Job)


def write_job(job: AnyJob, directory: Path) -> Path:
    """Write `job` durably as job.json in `directory`, which is made when missing."""
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / JOB_FILE
    write_durably(path, job.model_dump_json(indent=1))
    return path


def read_job(path: Path) -> AnyJob:
    """The job in `path`. Raises pydantic.ValidationError when it is not one."""
    return _adapter.validate_json(path.read_bytes())
