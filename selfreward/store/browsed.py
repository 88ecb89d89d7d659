"""What reading finds: the rows that the terminal and the pages show, each with what belongs to it."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, TypeVar

from selfreward.types import (
    CandidateStatus,
    CheckpointKind,
    EvaluationRow,
    GateResult,
    JudgementStatus,
    PairOutcome,
    PromptSource,
    PromptStatus,
    RejectReason,
    StageName,
    Status,
    Verdict,
)

Row = TypeVar("Row")


@dataclass(frozen=True, kw_only=True)
class Page(Generic[Row]):
    """Some rows of many, in the order of their ids."""

    rows: tuple[Row, ...]
    after: int | None
    """The id to give as `after` for the next page; None on the last one."""
    before: int | None
    """The id to give as `before` for the page before; None on the first one."""


@dataclass(frozen=True, kw_only=True)
class PromptFilter:
    """Which prompts of a run to list. What is None or empty does not matter."""

    t: int | None = None
    """Only those that iteration t uses."""
    source: PromptSource = PromptSource.SELF_INSTRUCT
    """Written ones, or the run's seeds: those belong to no iteration."""
    outcome: PairOutcome | RejectReason | PromptStatus | None = None
    """What became of them: of accepted ones when pairs were drawn, of rejected ones why."""
    least_score: float | None = None
    """Mean score of the prompt's best candidate, 0 to 5, both ends included."""
    most_score: float | None = None
    least_margin: float | None = None
    """Of one of the prompt's pairs, in points of the rubric, both ends included."""
    most_margin: float | None = None
    words: str = ""
    """Words of the text, all of them, in any order; the last may be the beginning of one."""


@dataclass(frozen=True, kw_only=True)
class PromptListRow:
    """A prompt in a list."""

    id: int
    t: int | None
    """The iteration of the run that uses it; None for a seed."""
    text: str
    source: PromptSource
    status: PromptStatus
    reject_reason: RejectReason | None
    outcome: PairOutcome | None
    """None while no pairs were drawn, and of what was rejected."""
    best_score: float | None
    worst_score: float | None
    margin: float | None
    """Of its pair, or the widest of several."""
    pair_id: int | None
    """That pair."""
    pairs: int
    candidates: int


@dataclass(frozen=True, kw_only=True)
class PromptRef:
    """Another prompt."""

    id: int
    text: str


@dataclass(frozen=True, kw_only=True)
class CheckpointRef:
    """A checkpoint and the run that made it."""

    id: int
    run: str
    name: str
    kind: CheckpointKind


@dataclass(frozen=True, kw_only=True)
class IterationRef:
    """Iteration t of a run."""

    run: str
    t: int


@dataclass(frozen=True, kw_only=True)
class JudgementDetail:
    """One judgement of a candidate."""

    id: int
    judge_id: int
    judged_by: str
    """Name of the checkpoint that judges; `independent` for a judge that is not of this database."""
    sample: int
    status: JudgementStatus
    score: float | None
    reward: float | None
    """Raw, of a reward model."""
    raw_text: str
    probabilities: tuple[float, ...] | None
    """P(0) to P(5), where the score is an expectation."""
    lost_mass: float | None
    token_count: int
    finish_reason: str


@dataclass(frozen=True, kw_only=True)
class PairRef:
    """A pair that a candidate is part of."""

    id: int
    run: str
    t: int
    role: str
    """chosen or rejected."""


@dataclass(frozen=True, kw_only=True)
class CandidateDetail:
    """An answer with everything that was said about it."""

    id: int
    prompt_id: int
    index: int
    run: str
    """That sampled it …"""
    t: int | None
    """… in this iteration; None for an imported one."""
    text: str
    status: CandidateStatus
    finish_reason: str
    token_count: int
    mean_logprob: float | None
    """Of its tokens, nats."""
    written_by: str | None
    """None for an imported one."""
    anchor: bool
    """Whether an earlier model wrote it, to be the rejected one of a pair."""
    judgements: tuple[JudgementDetail, ...]
    """By judge, then by sample."""
    judge_id: int | None
    """Whose scores the mean is of: the judge that counts where this is looked at."""
    mean_score: float | None
    pairs: tuple[PairRef, ...]
    """All that it is part of, forks' too."""

    @property
    def scores(self) -> tuple[float, ...]:
        """Readable ones by the judge that counts, in sample order."""
        mine = (row.score for row in self.judgements if row.judge_id == self.judge_id)
        return tuple(score for score in mine if score is not None)

    def role_in(self, *pair_ids: int | None) -> str:
        """chosen, rejected, both (in different ones of these pairs) or other."""
        roles = {pair.role for pair in self.pairs if pair.id in pair_ids}
        return "both" if len(roles) > 1 else next(iter(roles), "other")


@dataclass(frozen=True, kw_only=True)
class DecisionRow:
    """What became of a prompt when pairs were drawn."""

    run: str
    t: int
    outcome: PairOutcome
    best_score: float | None
    worst_score: float | None
    pair_id: int | None
    """Its pair, or of several the one with the widest margin."""
    pairs: int
    """How many there are."""


@dataclass(frozen=True, kw_only=True)
class PairRow:
    """Chosen over rejected, by id."""

    id: int
    run: str
    t: int
    prompt_id: int
    judge_id: int | None
    """None for an imported one; it may lack scores and margin too."""
    chosen_id: int
    rejected_id: int
    origin: str
    """`ai`, or the imported file that it came from."""
    chosen_score: float | None
    rejected_score: float | None
    margin: float | None
    soft_label: float | None
    excluded: str | None
    """Why it was left out of training."""
    judged_by: str | None
    """None for an imported one."""
    trained: str | None
    """The checkpoint that was trained on it; None while there is none, or when it was left out."""


@dataclass(frozen=True, kw_only=True)
class PromptDetail:
    """A prompt with its candidates, their judgements and what became of it."""

    id: int
    run: str
    """The run that is looked at."""
    t: int | None
    """Its iteration that uses the prompt; None for a seed, and for an imported one that none has taken."""
    text: str
    source: PromptSource
    origin: str | None
    """Seeds and imported ones: the file it came from."""
    reference: str | None
    """Seeds: a good answer."""
    status: PromptStatus
    reject_reason: RejectReason | None
    nearest: PromptRef | None
    """The most similar prompt when it was written."""
    nearest_rouge_l: float | None
    """ROUGE-L F with that one, 0 to 1."""
    created_at: datetime
    demonstrations: tuple[PromptRef, ...]
    """What the model was shown when it wrote this one."""
    written_by: str | None
    """The checkpoint that wrote it and its candidates; None for a seed."""
    judged_by: str | None
    trained: str | None
    """The checkpoint that this run's iteration made; None while there is none."""
    candidates: tuple[CandidateDetail, ...]
    decision: DecisionRow | None
    pair: PairRow | None
    """Of the run that is looked at, or of several the one with the widest margin."""
    pairs: tuple[PairRow, ...]
    """All of them, that one first."""
    used_by: tuple[DecisionRow, ...]
    """What every iteration that drew pairs from it made of it, forks' too."""


@dataclass(frozen=True, kw_only=True)
class PairDetail:
    """A pair with its prompt and both candidates."""

    pair: PairRow
    prompt: PromptRef
    chosen: CandidateDetail
    rejected: CandidateDetail
    others: tuple[CandidateDetail, ...]
    """The prompt's other candidates, by index."""


@dataclass(frozen=True, kw_only=True)
class StageDetail:
    """One step of an iteration."""

    name: StageName
    status: Status
    attempts: int
    detail: str
    error: str | None
    versions: Mapping[str, str]
    started_at: datetime | None
    finished_at: datetime | None

    @property
    def seconds(self) -> float | None:
        """From its first start to its end."""
        return _seconds(self.started_at, self.finished_at)


@dataclass(frozen=True, kw_only=True)
class SessionDetail:
    """One life of an inference server."""

    id: int
    checkpoint: str
    engine: str
    seed: int
    started_at: datetime
    ready_at: datetime | None
    finished_at: datetime | None
    prompt_tokens: int | None
    generated_tokens: int | None

    @property
    def seconds(self) -> float | None:
        """From the start of the server to its end."""
        return _seconds(self.started_at, self.finished_at)


@dataclass(frozen=True, kw_only=True)
class JudgeDetail:
    """Who judges, and how."""

    id: int
    judged_by: str
    type: str
    template: str
    parameters: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class SettingChange:
    """A setting that differs from the iteration before."""

    key: str
    """Dotted."""
    old: Any
    new: Any


@dataclass(frozen=True, kw_only=True)
class EventDetail:
    """What the daemon did."""

    id: int
    at: datetime
    t: int | None
    """The iteration it concerns."""
    kind: str
    message: str
    data: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class IterationDetail:
    """Everything about iteration t of a run but its rows."""

    id: int
    run: str
    t: int
    status: Status
    started_at: datetime
    finished_at: datetime | None
    checkpoint: CheckpointRef
    """M_t, which works in it."""
    trained: CheckpointRef | None
    """M_{t+1}."""
    reused: IterationRef | None
    """Whose prompts and candidates it uses, where they are not its own."""
    judge: JudgeDetail | None
    counts: Mapping[str, float | int | None]
    """prompts, rejected_prompts, candidates, judgements, readable, mean_score, pairs, mean_margin, steps.
    All None while the iteration is pending: then only its model is measured."""
    outcomes: Mapping[PairOutcome, int]
    """Prompts by what became of them."""
    rejected: Mapping[RejectReason, int]
    """Written prompts that were turned away."""
    scores: Mapping[float, int]
    """Judgements by score, rounded to tenths."""
    stages: tuple[StageDetail, ...]
    gates: tuple[GateResult, ...]
    sessions: tuple[SessionDetail, ...]
    changed: tuple[SettingChange, ...]
    """Against the iteration before it in the run's history."""
    settings: Mapping[str, Any]
    evaluations: tuple[EvaluationRow, ...]
    """Figures of M_t."""
    events: tuple[EventDetail, ...]
    """The last ones, oldest first."""


@dataclass(frozen=True, kw_only=True)
class CheckpointDetail:
    """A model: where it comes from, what it was trained on, how good it is."""

    id: int
    run: str
    version: int
    name: str
    kind: CheckpointKind
    path: str
    """Relative to the directory of the run from which all forks come."""
    digest: str
    pinned: bool
    removed_at: datetime | None
    created_at: datetime
    size_bytes: int | None
    """Of its files; None where they are not there."""
    ancestors: tuple[CheckpointRef, ...]
    """What it was trained from: its parent first, up to the first one."""
    children: tuple[CheckpointRef, ...]
    """What was trained from it, in forks too."""
    trained_in: IterationRef | None
    pairs: int
    """It was trained on."""
    examples: int
    """Of the bootstrap that it was trained on."""
    steps: int | None
    """Optimiser steps of that training."""
    works_in: tuple[IterationRef, ...]
    """Iterations in which it writes and judges, forks' too."""
    evaluations: tuple[EvaluationRow, ...]


@dataclass(frozen=True, kw_only=True)
class AnswerDetail:
    """A checkpoint's answer to a held-out prompt."""

    id: int
    text: str
    status: CandidateStatus
    token_count: int
    mean_logprob: float | None


@dataclass(frozen=True, kw_only=True)
class VerdictRow:
    """Which of two answers a judge prefers, in one order."""

    judged_by: str
    shown_first: Verdict
    """Whose answer it saw first: that of the first checkpoint, or of the second."""
    preferred: Verdict | None
    """Whose answer it prefers, in the same terms; None when that could not be read."""
    probability: float | None
    """Of what it saw first, where it was asked for that."""


@dataclass(frozen=True, kw_only=True)
class AnswersRow:
    """One held-out prompt, answered by both."""

    prompt_id: int
    prompt: str
    reference: str | None
    first: AnswerDetail
    second: AnswerDetail
    verdicts: tuple[VerdictRow, ...]
    """By judge, then by order."""


@dataclass(frozen=True, kw_only=True)
class JudgedAnswers:
    """What one judge made of all prompts that both answered. A prompt is won when both orders agree."""

    judged_by: str
    first: int
    second: int
    undecided: int
    """The orders disagree, or one of them is missing or could not be read."""


@dataclass(frozen=True, kw_only=True)
class AnswersSummary:
    """Two checkpoints on the held-out prompts."""

    prompts: int
    """That both answered."""
    same: int
    """Of which with the very same text."""
    first_tokens: float | None
    """Mean length of the first one's answers."""
    second_tokens: float | None
    judged: tuple[JudgedAnswers, ...]


def _seconds(start: datetime | None, end: datetime | None) -> float | None:
    return None if start is None or end is None else (end - start).total_seconds()
