"""What tells how a run goes on: stages with their times, the newest rows, engine sessions, curves.

Each question is asked again and again by a screen that is open for days beside a daemon at work: each goes
through an index to a bounded number of rows, in a read transaction of its own.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, and_, func, literal, select

from selfreward.store.database import Database
from selfreward.store.rows import AnySelect
from selfreward.store.schema import (
    Answer,
    AnswerComparison,
    Candidate,
    Checkpoint,
    ControlRequest,
    EngineSession,
    Event,
    Iteration,
    Judge,
    Judgement,
    Prompt,
    RankedReply,
    ReplyJudgement,
    Stage,
    TrainingMetric,
)
from selfreward.types import (
    ControlAction,
    EventRow,
    IterationRow,
    JudgementStatus,
    PromptStatus,
    Split,
    StageName,
    Status,
)

NEWEST = 1000
"""Rows that are looked at to tell a rate from their times."""
LIFE = ("started", "paused", "resumed", "stopped", "halted", "failed")
"""Kinds of events that say whether a daemon works."""


@dataclass(frozen=True, kw_only=True)
class StageTimes:
    """A stage as it is stored, with its times."""

    name: StageName
    status: Status
    attempts: int
    detail: str
    error: str | None
    started_at: datetime | None
    finished_at: datetime | None


@dataclass(frozen=True, kw_only=True)
class Newest:
    """The newest rows of a stage, newest first."""

    made: tuple[tuple[datetime, int], ...]
    """(when it was written, its tokens)."""
    more: bool
    """Whether there are older ones that were not looked at."""


@dataclass(frozen=True, kw_only=True)
class EngineSessionRow:
    """One life of an inference server."""

    id: int
    engine: str
    """vllm or fake."""
    checkpoint: str
    seed: int
    started_at: datetime
    ready_at: datetime | None
    finished_at: datetime | None
    """None while it lives, and for good when it died with its daemon."""
    prompt_tokens: int | None
    """Read so far, as the daemon last wrote it down."""
    generated_tokens: int | None


@dataclass(frozen=True, kw_only=True)
class Request:
    """What a user asked of the daemon last."""

    action: ControlAction
    requested_at: datetime
    taken_up: bool


@dataclass(frozen=True, kw_only=True)
class Scores:
    """Judgements of an iteration's candidates by the judge that counts."""

    tenths: Mapping[int, int]
    """Score times ten, rounded → judgements."""
    score_sum: float
    unreadable: int


class Progress:
    """Queries about how a run goes on."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def stages(self, iteration_id: int) -> list[StageTimes]:
        """The stages of an iteration in the order in which they began."""
        query = select(
            Stage.name,
            Stage.status,
            Stage.attempts,
            Stage.detail,
            Stage.error,
            Stage.started_at,
            Stage.finished_at,
        )
        with self._database.read() as connection:
            rows = connection.execute(query.where(Stage.iteration_id == iteration_id).order_by(Stage.id))
            return [
                StageTimes(**{**row._asdict(), "name": StageName(row.name), "status": Status(row.status)})
                for row in rows
            ]

    def being_worked_on(self, run_id: int) -> int | None:
        """t of the newest iteration of a run that has a running stage: one of it may only be measured."""
        query = (
            select(Iteration.t)
            .join(Stage, Stage.iteration_id == Iteration.id)
            .where(Iteration.run_id == run_id, Stage.status == Status.RUNNING)
            .order_by(Iteration.t.desc())
            .limit(1)
        )
        with self._database.read() as connection:
            return connection.execute(query).scalar_one_or_none()

    def newest(self, stage: StageName, iteration: IterationRow, limit: int = NEWEST) -> Newest:
        """The newest rows that a stage of an iteration has made; none for one whose rows have no times."""
        query = _newest(stage, iteration, limit)
        if query is None:
            return Newest(made=(), more=False)
        with self._database.read() as connection:
            rows = connection.execute(query).all()
        return Newest(made=tuple((row[0], row[1]) for row in rows), more=len(rows) == limit)

    def sessions(self, iteration_id: int) -> list[EngineSessionRow]:
        """The engine sessions of an iteration, oldest first."""
        query = (
            select(
                EngineSession.id,
                EngineSession.engine,
                Checkpoint.name.label("checkpoint"),
                EngineSession.seed,
                EngineSession.started_at,
                EngineSession.ready_at,
                EngineSession.finished_at,
                EngineSession.prompt_tokens,
                EngineSession.generated_tokens,
            )
            .join(Checkpoint, Checkpoint.id == EngineSession.checkpoint_id)
            .where(EngineSession.iteration_id == iteration_id)
            .order_by(EngineSession.id)
        )
        with self._database.read() as connection:
            return [EngineSessionRow(**row._asdict()) for row in connection.execute(query)]

    def scores(self, iteration: IterationRow) -> Scores:
        """What the judge that counts gave an iteration's candidates."""
        query = (
            select(Judgement.status, Judgement.score, func.count())
            .select_from(Candidate)
            .join(Judgement, Judgement.candidate_id == Candidate.id)
            .where(
                Candidate.iteration_id == iteration.data_iteration_id,
                Judgement.judge_id == _judge_of(iteration),
            )
            .group_by(Judgement.status, Judgement.score)
        )
        tenths: dict[int, int] = {}
        score_sum, unreadable = 0.0, 0
        with self._database.read() as connection:
            for status, score, count in connection.execute(query):
                if status == JudgementStatus.READ:
                    tenth = int(float(score or 0) * 10 + 0.5)
                    tenths[tenth] = tenths.get(tenth, 0) + count
                    score_sum += float(score or 0) * count
                else:
                    unreadable += count
        return Scores(tenths=tenths, score_sum=score_sum, unreadable=unreadable)

    def bootstrap_judgements(self, iteration: IterationRow) -> dict[tuple[bool, Split], int]:
        """Judgements of ranked replies in iteration 0: (by M_0 itself, split of the seeds) → how many."""
        beside = and_(Checkpoint.run_id == iteration.run_id, Checkpoint.version == iteration.t)
        by_itself = Checkpoint.id == iteration.checkpoint_id
        query = (
            select(by_itself, Prompt.split, func.count())
            .select_from(ReplyJudgement)
            .join(Judge, Judge.id == ReplyJudgement.judge_id)
            .join(Checkpoint, Checkpoint.id == Judge.checkpoint_id)
            .join(RankedReply, RankedReply.id == ReplyJudgement.reply_id)
            .join(Prompt, Prompt.id == RankedReply.prompt_id)
            .where(by_itself | beside)
            .group_by(by_itself, Prompt.split)
        )
        with self._database.read() as connection:
            return {
                (bool(own), Split(split)): count
                for own, split, count in connection.execute(query)
                if split is not None
            }

    def curve(
        self, iteration_id: int, stage: StageName, names: Sequence[str]
    ) -> dict[str, list[tuple[int, float]]]:
        """Name → (step, value) of a training, of each step what its newest attempt told."""
        metric = TrainingMetric
        query = (
            select(metric.name, metric.step, metric.value)
            .where(metric.iteration_id == iteration_id, metric.stage == stage, metric.name.in_(names))
            .order_by(metric.attempt, metric.step)
        )
        found: dict[str, dict[int, float]] = {name: {} for name in names}
        with self._database.read() as connection:
            for name, step, value in connection.execute(query):
                found[name][step] = value
        return {name: sorted(values.items()) for name, values in found.items()}

    def last_life(self, run_id: int) -> EventRow | None:
        """The last event that says whether a daemon works."""
        with self._database.read() as connection:
            return _last_event(connection, run_id, LIFE)

    def last_start(self, run_id: int) -> EventRow | None:
        """The last start of a daemon."""
        with self._database.read() as connection:
            return _last_event(connection, run_id, LIFE[:1])

    def last_request(self, run_id: int) -> Request | None:
        """What a user asked of the run's daemon last."""
        query = (
            select(ControlRequest.action, ControlRequest.requested_at, ControlRequest.handled_at)
            .where(ControlRequest.run_id == run_id)
            .order_by(ControlRequest.id.desc())
            .limit(1)
        )
        with self._database.read() as connection:
            row = connection.execute(query).one_or_none()
        if row is None:
            return None
        return Request(
            action=ControlAction(row.action),
            requested_at=row.requested_at,
            taken_up=row.handled_at is not None,
        )


def _last_event(connection: Connection, run_id: int, kinds: Sequence[str]) -> EventRow | None:
    query = (
        select(Event.id, Event.at, Event.kind, Event.message, Event.data)
        .where(Event.run_id == run_id, Event.kind.in_(kinds))
        .order_by(Event.id.desc())
        .limit(1)
    )
    row = connection.execute(query).one_or_none()
    return None if row is None else EventRow(**row._asdict())


def _judge_of(iteration: IterationRow) -> AnySelect:
    return select(Iteration.judge_id).where(Iteration.id == iteration.id).scalar_subquery()  # type: ignore[return-value]


def _newest(stage: StageName, iteration: IterationRow, limit: int) -> AnySelect | None:
    """By key, from its end: with an index that begins with the iteration where there is one.

    Of judgements and of what is measured the newest of all runs are looked at: there is one daemon as a
    rule, and where there are two, each is shown a rate over less of the last minute.
    """
    if stage is StageName.SELF_INSTRUCT:
        mine = (Prompt.iteration_id == iteration.id) & (Prompt.status == PromptStatus.ACCEPTED)
        return select(Prompt.created_at, literal(0)).where(mine).order_by(Prompt.id.desc()).limit(limit)
    if stage is StageName.SAMPLE:
        of_it = select(Candidate.created_at, Candidate.token_count)
        of_it = of_it.where(Candidate.iteration_id == iteration.data_iteration_id)
        return of_it.order_by(Candidate.id.desc()).limit(limit)
    if stage is StageName.JUDGE and iteration.t:
        last = select(Judgement.id).order_by(Judgement.id.desc()).limit(limit).subquery()
        return (
            select(Judgement.created_at, Judgement.token_count)
            .join(last, last.c.id == Judgement.id)
            .join(Candidate, Candidate.id == Judgement.candidate_id)
            .where(
                Candidate.iteration_id == iteration.data_iteration_id,
                Judgement.judge_id == _judge_of(iteration),
            )
            .order_by(Judgement.id.desc())
        )
    return _newest_measured(stage, iteration, limit)


def _newest_measured(stage: StageName, iteration: IterationRow, limit: int) -> AnySelect | None:
    if stage is StageName.ANSWER_HELD_OUT:
        last = select(Answer).order_by(Answer.id.desc()).limit(limit).subquery()
        return select(last.c.created_at, last.c.token_count).where(
            last.c.checkpoint_id == iteration.checkpoint_id
        )
    if stage in (StageName.JUDGE_HELD_OUT, StageName.MEASURE_BASELINE, StageName.JUDGE):
        last = select(ReplyJudgement).order_by(ReplyJudgement.id.desc()).limit(limit).subquery()
        return select(last.c.created_at, last.c.token_count).where(last.c.judge_id.in_(_judges(iteration)))
    if stage is StageName.COMPARE:
        last = select(AnswerComparison).order_by(AnswerComparison.id.desc()).limit(limit).subquery()
        return select(last.c.created_at, literal(0)).where(last.c.judge_id.in_(_judges(iteration)))
    return None


def _judges(iteration: IterationRow) -> AnySelect:
    """Ways of judging of M_t, in the bootstrap also of the SFT baseline."""
    beside = (Checkpoint.run_id == iteration.run_id) & (Checkpoint.version == iteration.t)
    mine = (Checkpoint.id == iteration.checkpoint_id) | beside
    return select(Judge.id).join(Checkpoint, Checkpoint.id == Judge.checkpoint_id).where(mine)
