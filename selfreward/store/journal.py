"""What the daemon tells and is told: events, training metrics, control requests, progress."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import func, select, update

from selfreward.store.database import Database
from selfreward.store.rows import AnySelect, insert_new, insert_one, now
from selfreward.store.schema import (
    Answer,
    AnswerComparison,
    Candidate,
    Checkpoint,
    ControlRequest,
    Event,
    Judge,
    Judgement,
    PairDecision,
    Prompt,
    ReplyJudgement,
    SftExample,
    TrainingMetric,
)
from selfreward.text import clean
from selfreward.types import (
    ControlAction,
    ControlRow,
    EventRow,
    IterationRow,
    MetricPoint,
    PromptStatus,
    StageName,
)


class Journal:
    """Queries about events, metrics, requests and counts."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def event(
        self, run_id: int, kind: str, message: str, iteration_id: int | None = None, **data: Any
    ) -> None:
        """Write down what happened."""
        with self._database.write() as connection:
            insert_one(
                connection,
                Event,
                run_id=run_id,
                iteration_id=iteration_id,
                at=now(),
                kind=kind,
                message=clean(message),
                data=data,
            )

    def events(self, run_id: int, limit: int = 20) -> list[EventRow]:
        """The last events of a run, oldest first."""
        query = (
            select(Event.id, Event.at, Event.kind, Event.message, Event.data)
            .where(Event.run_id == run_id)
            .order_by(Event.id.desc())
            .limit(limit)
        )
        with self._database.read() as connection:
            return [EventRow(**row._asdict()) for row in connection.execute(query)][::-1]

    def add_metrics(
        self, iteration_id: int, stage: StageName, attempt: int, points: Sequence[MetricPoint]
    ) -> None:
        """Store numbers of training steps. Repeats are ignored."""
        rows = [
            {
                "iteration_id": iteration_id,
                "stage": stage,
                "attempt": attempt,
                "step": point.step,
                "name": point.name,
                "value": point.value,
            }
            for point in points
        ]
        with self._database.write() as connection:
            insert_new(connection, TrainingMetric, rows)

    def ask(self, run_id: int, action: ControlAction) -> int:
        """Leave a request for the daemon; returns its id."""
        with self._database.write() as connection:
            return insert_one(connection, ControlRequest, run_id=run_id, action=action, requested_at=now())

    def take_requests(self, run_id: int) -> list[ControlRow]:
        """The open requests of a run, oldest first, marked as handled."""
        mine = (ControlRequest.run_id == run_id) & ControlRequest.handled_at.is_(None)
        query = select(ControlRequest.id, ControlRequest.action, ControlRequest.requested_at)
        with self._database.read() as connection:
            rows = connection.execute(query.where(mine).order_by(ControlRequest.id)).all()
        if rows:
            ids = [row.id for row in rows]
            with self._database.write() as connection:
                taken = update(ControlRequest).where(ControlRequest.id.in_(ids))
                connection.execute(taken.values(handled_at=now()))
        return [
            ControlRow(id=row.id, action=ControlAction(row.action), requested_at=row.requested_at)
            for row in rows
        ]

    def handled(self, request_id: int) -> bool:
        """Whether the daemon has taken a request up."""
        query = select(ControlRequest.handled_at).where(ControlRequest.id == request_id)
        with self._database.read() as connection:
            return connection.execute(query).scalar_one() is not None

    def counts(self, iteration: IterationRow) -> Mapping[StageName, int]:
        """Items each stage of an iteration has done so far (its current judge's, for judgements)."""
        data = iteration.data_iteration_id
        judged = (
            select(func.count())
            .select_from(Judgement)
            .join(Candidate, Candidate.id == Judgement.candidate_id)
            .join(Judge, Judge.id == Judgement.judge_id)
            .where(Candidate.iteration_id == data, Judge.checkpoint_id == iteration.checkpoint_id)
        )
        queries = {
            StageName.SELF_INSTRUCT: select(func.count()).where(
                Prompt.iteration_id == data, Prompt.status == PromptStatus.ACCEPTED
            ),
            StageName.SAMPLE: select(func.count()).where(Candidate.iteration_id == data),
            StageName.JUDGE: judged,
            StageName.PAIR: select(func.count()).where(PairDecision.iteration_id == iteration.id),
            StageName.TRAIN: _steps(iteration.id, StageName.TRAIN),
            StageName.BASELINE: _steps(iteration.id, StageName.BASELINE),
            StageName.SELECT: select(func.count()).where(SftExample.iteration_id == iteration.id),
            StageName.ANSWER_HELD_OUT: select(func.count()).where(
                Answer.checkpoint_id == iteration.checkpoint_id
            ),
            StageName.JUDGE_HELD_OUT: _judged_by(iteration, ReplyJudgement),
            StageName.COMPARE: _judged_by(iteration, AnswerComparison),
        }
        with self._database.read() as connection:
            return {name: connection.execute(query).scalar_one() for name, query in queries.items()}


def _steps(iteration_id: int, stage: StageName) -> AnySelect:
    mine = (TrainingMetric.iteration_id == iteration_id) & (TrainingMetric.stage == stage)
    return select(func.coalesce(func.max(TrainingMetric.step), 0)).where(mine)


def _judged_by(iteration: IterationRow, table: type[ReplyJudgement | AnswerComparison]) -> AnySelect:
    """Rows judged by M_t, and in the bootstrap by the SFT baseline beside it."""
    judges = (
        select(Judge.id)
        .join(Checkpoint, Checkpoint.id == Judge.checkpoint_id)
        .where(Checkpoint.run_id == iteration.run_id, Checkpoint.version == iteration.t)
    )
    return select(func.count()).select_from(table).where(table.judge_id.in_(judges))
