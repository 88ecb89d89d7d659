"""Where a run stands, as frozen figures: what `status`, the pages and /metrics show."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from selfreward.store.progress import EngineSessionRow
from selfreward.types import (
    CheckpointRow,
    EvaluationRow,
    EventRow,
    GateResult,
    IterationRow,
    LeaseRow,
    PairOutcome,
    StageName,
    Status,
)

SCORES = 6
"""Bars of the histogram: scores from 0 to 5."""


class Mood(StrEnum):
    """What the run is doing, in one word."""

    NEW = "new"
    """No daemon has worked on it yet."""
    RUNNING = "running"
    PAUSING = "pausing"
    """Asked to pause or to stop; what is in flight is finished first."""
    PAUSED = "paused"
    """By a user."""
    RESTING = "resting"
    """For any other reason."""
    STOPPED = "stopped"
    DONE = "done"
    HALTED = "halted"
    FAILED = "failed"
    GONE = "gone"
    """Its daemon ended without a word."""


@dataclass(frozen=True, kw_only=True)
class Activity:
    """What the run is doing, why, and how it goes on."""

    mood: Mood
    reason: str = ""
    """Why it does not work, in words; may hold several lines of what others wrote."""
    remedy: str = ""
    """What a user can do about it, commands included."""
    since: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class StageProgress:
    """How far a stage is. Rates are items per second; None where there is nothing to tell them from."""

    name: StageName
    status: Status
    done: int
    total: int | None
    """Items in the end; None while it is not known."""
    unit: str = ""
    """What its items are: prompts, candidates, judgements, …; empty where it has none."""
    rate: float | None = None
    """Over the last minute."""
    stage_rate: float | None = None
    """Over all of the stage, but for the time in which no engine or trainer was at work."""
    seconds_left: float | None = None
    seconds: float | None = None
    """Since it began, to its end when it has one."""
    attempts: int = 0
    detail: str = ""
    """How it ended, in words."""
    error: str = ""
    """Why it failed last."""
    started_at: datetime | None = None
    finished_at: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class TokenRates:
    """Tokens per second; None where nothing is known."""

    generated: float | None = None
    """Over the last minute."""
    prompt: float | None = None
    """Over the last minute, or since the engine's session began where that is all that is known."""


@dataclass(frozen=True, kw_only=True)
class Histogram:
    """What the judge of an iteration has given so far."""

    scores: tuple[int, ...] = (0,) * SCORES
    """Judgements with a score that rounds to 0, 1, … 5."""
    unreadable: int = 0
    """Judgements without a score."""
    mean: float | None = None

    @property
    def judgements(self) -> int:
        """All of them."""
        return sum(self.scores) + self.unreadable


@dataclass(frozen=True, kw_only=True)
class TrainingProgress:
    """The curves of the newest training of the iteration: (step, value), thinned out where they are long."""

    stage: StageName
    steps: int
    loss: tuple[tuple[int, float], ...] = ()
    margin: tuple[tuple[int, float], ...] = ()
    """DPO: by how much the chosen reply is preferred, as reward."""
    accuracy: tuple[tuple[int, float], ...] = ()
    """DPO: share of pairs whose chosen reply is preferred; SFT: share of tokens that are predicted."""


@dataclass(frozen=True, kw_only=True)
class RunStatus:
    """Where a run stands at one moment."""

    run: str
    at: datetime
    forked_from: str | None
    """The run it goes on from, …"""
    from_iteration: int | None
    """… with iteration K, on M_K."""
    running: bool
    activity: Activity
    lease: LeaseRow | None
    started_at: datetime | None
    """When the daemon that runs it was started; None while none is."""
    uptime_s: float | None
    iteration: IterationRow | None
    stages: tuple[StageProgress, ...]
    """Those that have begun, in that order, and then those to come."""
    details: tuple[str, ...]
    """Of each stage that has begun, its name and how it ended."""
    engine: EngineSessionRow | None
    """The newest session of the iteration; at work while it has no end and the run is running."""
    engine_sessions: int
    """Sessions of the iteration: one more than the engine was started again."""
    tokens_per_second: TokenRates
    histogram: Histogram
    pairs: Mapping[PairOutcome, int] = field(default_factory=dict)
    """Prompts by what became of them."""
    training: TrainingProgress | None
    gates: tuple[GateResult, ...]
    evaluation: tuple[EvaluationRow, ...]
    """All figures of the checkpoint that was measured last."""
    checkpoints: tuple[CheckpointRow, ...]
    events: tuple[EventRow, ...]
    """The last ones, oldest first."""

    def stage(self, name: StageName) -> StageProgress | None:
        """One stage; None when the iteration has no such."""
        return next((stage for stage in self.stages if stage.name is name), None)
