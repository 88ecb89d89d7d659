"""What was measured: figures with intervals, and the held-out scores behind them."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from sqlalchemy import delete, func, select

from selfreward.store.database import Database
from selfreward.store.lineage import counted_checkpoints, lineage
from selfreward.store.rows import insert_new, now
from selfreward.store.schema import Checkpoint, Evaluation, Judge, Prompt, RankedReply, ReplyJudgement, Run
from selfreward.types import EvaluationRow, Metric, Split, Suite


class Evaluations:
    """Queries about evaluations."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def put(self, run_id: int, rows: Sequence[EvaluationRow]) -> None:
        """Store figures in place of earlier ones of the same checkpoints and suites, in one transaction.

        `run_id` is the run whose checkpoints they are: for a fork's first one that is its parent.
        """
        with self._database.write() as connection:
            for checkpoint, suite in sorted({(row.checkpoint, row.suite) for row in rows}):
                connection.execute(
                    delete(Evaluation).where(
                        Evaluation.run_id == run_id,
                        Evaluation.checkpoint == checkpoint,
                        Evaluation.suite == suite,
                    )
                )
            insert_new(connection, Evaluation, [_row(run_id, row) for row in rows])

    def measured(self, run_id: int, checkpoint: str) -> bool:
        """Whether there are figures of a checkpoint that this very run made."""
        query = select(Evaluation.id).where(Evaluation.run_id == run_id, Evaluation.checkpoint == checkpoint)
        with self._database.read() as connection:
            return connection.execute(query.limit(1)).first() is not None

    def rows(self, run_id: int) -> list[EvaluationRow]:
        """Every figure of a run and of what it was forked from, in the order in which they were stored."""
        query = (
            select(
                Evaluation.checkpoint,
                Evaluation.suite,
                Evaluation.metric,
                Evaluation.value,
                Evaluation.low,
                Evaluation.high,
                Evaluation.n,
            )
            .join(
                Checkpoint,
                (Checkpoint.run_id == Evaluation.run_id) & (Checkpoint.name == Evaluation.checkpoint),
            )
            .order_by(Evaluation.id)
        )
        with self._database.read() as connection:
            mine = counted_checkpoints(lineage(connection, run_id))
            return [
                EvaluationRow(**{**row._asdict(), "suite": Suite(row.suite), "metric": Metric(row.metric)})
                for row in connection.execute(query.where(mine))
            ]

    def figure(self, run_id: int, checkpoint: str, suite: Suite, metric: Metric) -> EvaluationRow | None:
        """One figure of one checkpoint; None when it was not measured."""
        wanted = (checkpoint, suite, metric)
        return next(
            (row for row in self.rows(run_id) if (row.checkpoint, row.suite, row.metric) == wanted), None
        )

    def score_histogram(self, run_id: int) -> dict[str, dict[int, int]]:
        """Checkpoint → rounded score → judgements of held-out replies, canaries left out.

        Of the seeds of the run that made the checkpoint, on which its figures are: a fork may have others.
        """
        query = (
            select(Checkpoint.name, ReplyJudgement.score)
            .join(Judge, Judge.id == ReplyJudgement.judge_id)
            .join(Checkpoint, Checkpoint.id == Judge.checkpoint_id)
            .join(Run, Run.id == Checkpoint.run_id)
            .join(RankedReply, RankedReply.id == ReplyJudgement.reply_id)
            .join(Prompt, Prompt.id == RankedReply.prompt_id)
            .where(
                Prompt.run_id == func.coalesce(Run.seeds_run_id, Run.id),
                Prompt.split == Split.HELD_OUT,
                RankedReply.canary_of.is_(None),
                ReplyJudgement.score.is_not(None),
            )
            .order_by(Checkpoint.version, Checkpoint.id)
        )
        found: dict[str, dict[int, int]] = defaultdict(lambda: defaultdict(int))
        with self._database.read() as connection:
            mine = counted_checkpoints(lineage(connection, run_id))
            for name, score in connection.execute(query.where(mine)):
                found[name][int((score or 0) + 0.5)] += 1
        return {name: dict(sorted(counts.items())) for name, counts in found.items()}


def _row(run_id: int, row: EvaluationRow) -> dict[str, Any]:
    return {
        "run_id": run_id,
        "checkpoint": row.checkpoint,
        "suite": row.suite,
        "metric": row.metric,
        "value": row.value,
        "low": row.low,
        "high": row.high,
        "n": row.n,
        "created_at": now(),
    }
