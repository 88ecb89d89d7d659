"""The vocabulary of the system: what a row, a reply and a decision are. Frozen, keyword-only."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any


class StageName(StrEnum):
    """The steps of one iteration, in the order in which they first run."""

    BOOTSTRAP = "bootstrap"
    SELF_INSTRUCT = "self_instruct"
    SAMPLE = "sample"
    JUDGE = "judge"
    EVALUATE = "evaluate"
    PAIR = "pair"
    TRAIN = "train"


class Status(StrEnum):
    """Where a stage or an iteration stands."""

    PENDING = "pending"
    RUNNING = "running"
    DONE = "done"
    HALTED = "halted"
    FAILED = "failed"


class PromptSource(StrEnum):
    """Where a prompt comes from."""

    SEED = "seed"
    SELF_INSTRUCT = "self_instruct"


class PromptStatus(StrEnum):
    """Whether a prompt takes part in the iteration."""

    ACCEPTED = "accepted"
    REJECTED = "rejected"


class RejectReason(StrEnum):
    """Why a written prompt was turned away (filters of Self-Instruct, arXiv 2212.10560)."""

    EMPTY = "empty"
    CUT_OFF = "cut_off"
    TOO_SHORT = "too_short"
    TOO_LONG = "too_long"
    KEYWORD = "keyword"
    BAD_START = "bad_start"
    SIMILAR = "similar"
    SURPLUS = "surplus"
    """Good, but the target number was already reached when it arrived."""


class CandidateStatus(StrEnum):
    """How an answer ended. Only `ok` and `truncated` carry text worth judging."""

    OK = "ok"
    TRUNCATED = "truncated"
    EMPTY = "empty"
    TOO_LONG = "too_long"
    """The prompt does not fit the model's context; no answer was asked for."""
    FAILED = "failed"


class JudgementStatus(StrEnum):
    """How a judgement was read. `score` is NULL unless the status is `read`."""

    READ = "read"
    UNREADABLE = "unreadable"
    OUT_OF_RANGE = "out_of_range"
    TOO_LONG = "too_long"
    """Rubric, prompt and response together do not fit the model's context."""
    FAILED = "failed"


class PairOutcome(StrEnum):
    """What became of a prompt when pairs were drawn."""

    PAIRED = "paired"
    UNSCORED = "unscored"
    """Fewer than two candidates have enough readable judgements."""
    TIE = "tie"
    TWINS = "twins"
    """Best and worst are the same text."""
    BELOW_MARGIN = "below_margin"
    PAIR_TOO_LONG = "pair_too_long"
    """Does not fit `train.max_length`; truncating would eat the response."""


class CheckpointKind(StrEnum):
    """What made a checkpoint."""

    BASE = "base"
    SFT = "sft"
    DPO = "dpo"


class ControlAction(StrEnum):
    """What a user can ask of a running daemon."""

    PAUSE = "pause"
    RESUME = "resume"
    STOP = "stop"


@dataclass(frozen=True, kw_only=True)
class Seed:
    """A human-written instruction with, where there is one, a good answer to it."""

    instruction: str
    answer: str | None = None
    origin: str = ""
    """The file it came from."""


@dataclass(frozen=True, kw_only=True)
class Completion:
    """One sampled continuation, as the engine returned it."""

    text: str
    finish_reason: str
    """`stop`, `length`, or whatever else the server says."""
    token_count: int
    mean_logprob: float | None
    """Mean log-probability of the generated tokens in nats; None when the server sent none."""


@dataclass(frozen=True, kw_only=True)
class RunRow:
    """A line of iterations."""

    id: int
    name: str
    created_at: datetime


@dataclass(frozen=True, kw_only=True)
class CheckpointRow:
    """A model on disk: M_version."""

    id: int
    run_id: int
    version: int
    name: str
    kind: CheckpointKind
    path: str
    """Relative to the run's directory."""
    digest: str
    parent_id: int | None


@dataclass(frozen=True, kw_only=True)
class IterationRow:
    """Iteration t of a run: what M_t wrote, answered and judged, and the training that follows."""

    id: int
    run_id: int
    t: int
    checkpoint_id: int
    setting_hash: str
    data_iteration_id: int
    """Whose prompts and candidates it uses: its own id unless it was forked with reuse."""
    status: Status


@dataclass(frozen=True, kw_only=True)
class StageRow:
    """One stage of one iteration. `cursor` is the greatest item id below which nothing is missing."""

    id: int
    iteration_id: int
    name: StageName
    status: Status
    attempts: int
    cursor: int
    detail: str
    error: str | None


@dataclass(frozen=True, kw_only=True)
class PromptRow:
    """An accepted prompt on its way to be answered. `missing` are the candidate indices it lacks."""

    id: int
    text: str
    missing: tuple[int, ...] = ()


@dataclass(frozen=True, kw_only=True)
class CandidateTask:
    """A candidate on its way to be judged. `missing` are the judgement samples it lacks."""

    id: int
    prompt_id: int
    prompt_text: str
    text: str
    missing: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class WrittenPrompt:
    """A prompt the model wrote, decided and ready to be stored."""

    draw: int
    """Which request of the iteration wrote it."""
    draw_index: int
    text: str
    status: PromptStatus
    reject_reason: RejectReason | None
    nearest_prompt_id: int | None
    nearest_rouge_l: float | None
    demonstration_ids: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class NewCandidate:
    """An answer ready to be stored."""

    prompt_id: int
    index: int
    text: str
    status: CandidateStatus
    finish_reason: str
    token_count: int
    mean_logprob: float | None


@dataclass(frozen=True, kw_only=True)
class NewJudgement:
    """A judgement ready to be stored."""

    candidate_id: int
    sample: int
    raw_text: str
    status: JudgementStatus
    score: float | None
    token_count: int
    finish_reason: str


@dataclass(frozen=True, kw_only=True)
class ScoredCandidate:
    """A candidate with the scores its readable judgements gave it (0–5 each, in sample order)."""

    id: int
    text: str
    scores: tuple[float, ...]
    status: CandidateStatus = CandidateStatus.OK


@dataclass(frozen=True, kw_only=True)
class ScoredPrompt:
    """A prompt with all its candidates: what a pair rule looks at."""

    id: int
    text: str
    candidates: tuple[ScoredCandidate, ...]


@dataclass(frozen=True, kw_only=True)
class PreferencePair:
    """Chosen over rejected, for one prompt."""

    prompt_id: int
    chosen_id: int
    rejected_id: int
    chosen_score: float
    rejected_score: float

    @property
    def margin(self) -> float:
        """How much better the chosen one was judged, in points of the rubric."""
        return self.chosen_score - self.rejected_score


@dataclass(frozen=True, kw_only=True)
class PairDecision:
    """Why a prompt gave a pair, or did not. `pair` is set exactly when the outcome is `paired`."""

    prompt_id: int
    outcome: PairOutcome
    pair: PreferencePair | None = None


@dataclass(frozen=True, kw_only=True)
class TrainingPair:
    """A preference pair with its texts, as the trainer needs it."""

    pair_id: int
    prompt: str
    chosen: str
    rejected: str


@dataclass(frozen=True, kw_only=True)
class MetricPoint:
    """One number of one training step."""

    step: int
    name: str
    value: float


@dataclass(frozen=True, kw_only=True)
class StageProgress:
    """How far a stage is: `done` of `total` items (`total` None while it is not known)."""

    name: StageName
    status: Status
    done: int
    total: int | None


@dataclass(frozen=True, kw_only=True)
class EventRow:
    """Something the daemon did, and why."""

    id: int
    at: datetime
    kind: str
    message: str
    data: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class LeaseRow:
    """Who runs the run."""

    run_id: int
    owner: str
    fence: int
    heartbeat_at: datetime
    released: bool


@dataclass(frozen=True, kw_only=True)
class ControlRow:
    """A request a user left for the daemon."""

    id: int
    action: ControlAction
    requested_at: datetime
