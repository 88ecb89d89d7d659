"""Jobs for the child process: fully resolved descriptions that travel as `job.json`."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from selfreward.config import JudgeSettings, RewardSettings, TrainerSettings, TrainSettings
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
    section: str
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
        return origin.digest(self.model_digest, data, self.settings, self.seed, *self.ingredients)

    @property
    def ingredients(self) -> tuple[str, ...]:
        """What else decides what comes out of it."""
        return ()

    @property
    @abstractmethod
    def data(self) -> Path:
        """The file with what is learnt from."""

    @property
    def needed(self) -> int:
        """With fewer rows than this nothing is trained."""
        return 1


class DpoJob(_TrainingJob):
    """Train M_t on preference pairs and write M_{t+1}: DPO, cDPO, CREAM with M_t as reference, or SLiC."""

    kind: Literal["dpo"] = "dpo"
    section: str = "train"
    pairs: Path
    """JSONL of {"pair_id", "prompt", "chosen", "rejected"} and, where there are any, "soft_label":
    P(chosen is better), and "reference": the prompt's own answer, for SLiC."""
    settings: TrainSettings
    """How to train; `objective` says which loss."""

    @property
    def data(self) -> Path:
        """The pairs."""
        return self.pairs

    @property
    def needed(self) -> int:
        """`train.min_pairs`."""
        return max(1, self.settings.min_pairs)


class RankJob(_TrainingJob):
    """Train M_t on all candidates of each prompt and their scores (RRHF), and write M_{t+1}."""

    kind: Literal["rank"] = "rank"
    section: str = "train"
    groups: Path
    """JSONL of {"prompt_id", "prompt", "candidates": [{"candidate_id", "text", "score"}, …]}."""
    settings: TrainSettings
    """How to train."""

    @property
    def data(self) -> Path:
        """The groups."""
        return self.groups

    @property
    def needed(self) -> int:
        """`train.min_pairs`, which counts groups here."""
        return max(1, self.settings.min_pairs)


class SftJob(_TrainingJob):
    """Train a model on examples, the loss on their completions only, and write the result."""

    kind: Literal["sft"] = "sft"
    section: str = "bootstrap.sft"
    examples: Path
    """JSONL of {"example_id", "input", "completion"}: a user turn and the assistant's reply."""
    settings: TrainerSettings
    """How to train: `plain` makes these of more special ones."""
    min_examples: int = 1
    """With fewer than this nothing is trained."""

    @property
    def data(self) -> Path:
        """The examples."""
        return self.examples

    @property
    def needed(self) -> int:
        """`min_examples`."""
        return max(1, self.min_examples)


class RewardJob(_TrainingJob):
    """Train a reward model on preference pairs: M_t's body with a score for a head, num_labels = 1."""

    kind: Literal["reward"] = "reward"
    section: str = "train.reward"
    pairs: Path
    """JSONL as DpoJob has it, without "reference"."""
    settings: RewardSettings
    """How to train: `reward_settings` of the run's."""
    min_pairs: int = 1
    """`train.min_pairs`."""

    @property
    def data(self) -> Path:
        """The pairs."""
        return self.pairs

    @property
    def needed(self) -> int:
        """`min_pairs`."""
        return max(1, self.min_pairs)


class RlJob(_TrainingJob):
    """Train M_t by reinforcement on what it answers to prompts, and write M_{t+1}.

    The reward is a reward model's, or that of a judge behind an OpenAI-compatible interface: exactly one of
    `reward_model` and `judge_url` is set.
    """

    kind: Literal["rl"] = "rl"
    section: str = "train"
    prompts: Path
    """JSONL of {"prompt_id", "prompt"}."""
    settings: TrainSettings
    """How to train; `settings.rl` is the part that is its own."""
    reward_model: Path | None = None
    """Directory of the reward model: a sequence classifier with one label."""
    reward_digest: str = ""
    """What stands for the reward model or the judge's weights in the training's origin."""
    judge_url: str = ""
    """Base URL of the judge, without /v1."""
    judge_model: str = ""
    """The judge's name there."""
    judge: JudgeSettings | None = None
    """How it judges."""
    template: str = ""
    """Text of the judge's template."""

    @property
    def data(self) -> Path:
        """The prompts."""
        return self.prompts

    @property
    def ingredients(self) -> tuple[str, ...]:
        """The reward: where the judge is served is no part of it."""
        judge = "" if self.judge is None else self.judge.model_dump_json()
        return (self.reward_digest, judge, self.template)


class ConvertJob(_Job):
    """Make the user's `model = "…"` into a checkpoint."""

    kind: Literal["convert"] = "convert"
    section: str = ""
    source: str
    """A source as `parse_model_source` accepts it."""
    run_dir: Path
    """What a relative source starts from."""


AnyTraining = DpoJob | RankJob | SftJob | RewardJob | RlJob
AnyJob = AnyTraining | ConvertJob
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


def plain(settings: TrainerSettings) -> TrainerSettings:
    """The part of more special settings that every training has."""
    return TrainerSettings.model_validate(settings.model_dump(include=set(TrainerSettings.model_fields)))


def reward_settings(settings: TrainSettings) -> RewardSettings:
    """How the run trains a reward model: a fake trainer is fake for all that is trained."""
    if settings.type != "fake":
        return settings.reward
    return settings.reward.model_copy(update={"type": "fake", "fake_args": settings.fake_args})
