"""What tells how a run goes on: stages with their times, the newest rows, engine sessions, curves.

Each question is asked again and again by a screen that is open for days beside a daemon at work: each goes
through an index to a bounded number of rows, in a read transaction of its own.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, and_, func, select

from selfreward.store.database import Database
from selfreward.store.newest import NEWEST, judge_of, newest_of
from selfreward.store.schema import (
    Checkpoint,
    ControlRequest,
    EngineSession,
    Event,
    Iteration,
    Judge,
    JudgementTally,
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
    Split,
    StageName,
    Status,
)

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
        query = newest_of(stage, iteration, limit)
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
        tally = JudgementTally
        query = select(tally.status, tally.tenth, tally.judgements, tally.score_sum).where(
            tally.iteration_id == iteration.data_iteration_id, tally.judge_id == judge_of(iteration)
        )
        with self._database.read() as connection:
            rows = connection.execute(query).all()
        read = [row for row in rows if row.status == JudgementStatus.READ]
        return Scores(
            tenths={row.tenth: row.judgements for row in read},
            score_sum=sum(row.score_sum for row in read),
            unreadable=sum(row.judgements for row in rows) - sum(row.judgements for row in read),
        )

    def bootstrap_judgements(self, iteration: IterationRow) -> dict[tuple[bool, Split], int]:
        """Judgements of ranked replies in iteration 0: (by M_0 itself, split of the seeds) → how many."""
        beside = and_(Checkpoint.run_id == iteration.run_id, Checkpoint.version == iteration.t)
        query = (
            select(Checkpoint.id, Prompt.split, func.count())
            .select_from(ReplyJudgement)
            .join(Judge, Judge.id == ReplyJudgement.judge_id)
            .join(Checkpoint, Checkpoint.id == Judge.checkpoint_id)
            .join(RankedReply, RankedReply.id == ReplyJudgement.reply_id)
            .join(Prompt, Prompt.id == RankedReply.prompt_id)
            .where((Checkpoint.id == iteration.checkpoint_id) | beside, Prompt.split.is_not(None))
            .group_by(Checkpoint.id, Prompt.split)
        )
        with self._database.read() as connection:
            return {
                (checkpoint == iteration.checkpoint_id, Split(split or "")): count
                for checkpoint, split, count in connection.execute(query)
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
