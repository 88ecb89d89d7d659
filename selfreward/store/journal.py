"""What the daemon tells and is told: events, training metrics, control requests, progress."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from sqlalchemy import func, select, update

from selfreward.store.anchors import anchor_count, anchor_judgement_count
from selfreward.store.consistency import previous_judges
from selfreward.store.counting import candidate_count, judgement_figures, judgement_total
from selfreward.store.database import Database
from selfreward.store.meta import comparison_count
from selfreward.store.rows import AnySelect, insert_new, insert_one, now
from selfreward.store.schema import (
    Answer,
    AnswerComparison,
    Checkpoint,
    ControlRequest,
    Event,
    Iteration,
    Judge,
    PairDecision,
    Prompt,
    ReplyJudgement,
    SftExample,
    TrainingMetric,
)
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
                message=message,
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

    def count(self, iteration: IterationRow, stage: StageName) -> int:
        """Items that a stage of an iteration has done so far: an index gives each of these counts."""
        with self._database.read() as connection:
            return int(connection.execute(_COUNTS[stage](iteration)).scalar_one())

    def counts(self, iteration: IterationRow) -> Mapping[StageName, int]:
        """The same for every stage that has items."""
        with self._database.read() as connection:
            return {
                stage: connection.execute(query(iteration)).scalar_one() for stage, query in _COUNTS.items()
            }


def _accepted(iteration: IterationRow) -> AnySelect:
    mine = Prompt.iteration_id == iteration.data_iteration_id
    return select(func.count()).where(mine, Prompt.status == PromptStatus.ACCEPTED)


def _candidates(iteration: IterationRow) -> AnySelect:
    return candidate_count(iteration.data_iteration_id)


def _judgements(iteration: IterationRow) -> AnySelect:
    """Those by the judge whose judgements count."""
    judge = select(Iteration.judge_id).where(Iteration.id == iteration.id).scalar_subquery()
    return judgement_figures(iteration.data_iteration_id, judge)


def _judgements_before(iteration: IterationRow) -> AnySelect:
    """Those by the model before M_t, which judges in the same way."""
    return judgement_total(iteration.data_iteration_id, previous_judges(iteration))


def _anchors(iteration: IterationRow) -> AnySelect:
    return anchor_count(iteration.data_iteration_id)


def _decisions(iteration: IterationRow) -> AnySelect:
    return select(func.count()).where(PairDecision.iteration_id == iteration.id)


def _examples(iteration: IterationRow) -> AnySelect:
    return select(func.count()).where(SftExample.iteration_id == iteration.id)


def _answers(iteration: IterationRow) -> AnySelect:
    return select(func.count()).where(Answer.checkpoint_id == iteration.checkpoint_id)


def _steps(stage: StageName, iteration: IterationRow) -> AnySelect:
    mine = (TrainingMetric.iteration_id == iteration.id) & (TrainingMetric.stage == stage)
    return select(func.coalesce(func.max(TrainingMetric.step), 0)).where(mine)


def _judged_by(table: type[ReplyJudgement | AnswerComparison], iteration: IterationRow) -> AnySelect:
    """Rows judged by M_t, which a fork has from another run, and in the bootstrap by the SFT baseline."""
    beside = (Checkpoint.run_id == iteration.run_id) & (Checkpoint.version == iteration.t)
    judges = (
        select(Judge.id)
        .join(Checkpoint, Checkpoint.id == Judge.checkpoint_id)
        .where((Checkpoint.id == iteration.checkpoint_id) | beside)
    )
    return select(func.count()).select_from(table).where(table.judge_id.in_(judges))


_COUNTS: Mapping[StageName, Callable[[IterationRow], AnySelect]] = {
    StageName.SELF_INSTRUCT: _accepted,
    StageName.SAMPLE: _candidates,
    StageName.JUDGE: _judgements,
    StageName.META_JUDGE: comparison_count,
    StageName.JUDGE_PREVIOUS: _judgements_before,
    StageName.ANCHOR: _anchors,
    StageName.JUDGE_ANCHOR: anchor_judgement_count,
    StageName.PAIR: _decisions,
    StageName.TRAIN_REWARD: partial(_steps, StageName.TRAIN_REWARD),
    StageName.TRAIN: partial(_steps, StageName.TRAIN),
    StageName.BASELINE: partial(_steps, StageName.BASELINE),
    StageName.SELECT: _examples,
    StageName.ANSWER_HELD_OUT: _answers,
    StageName.JUDGE_HELD_OUT: partial(_judged_by, ReplyJudgement),
    StageName.COMPARE: partial(_judged_by, AnswerComparison),
}
