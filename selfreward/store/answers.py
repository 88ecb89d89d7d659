"""Answers of the checkpoints to held-out prompts, and how judges compared them."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from sqlalchemy import func, select

from selfreward.crash import crash_point
from selfreward.store.candidates import move_cursor
from selfreward.store.database import Database
from selfreward.store.lineage import seeds_of
from selfreward.store.rows import insert_new, now
from selfreward.store.schema import Answer, AnswerComparison, Prompt
from selfreward.types import (
    AnswerRow,
    CandidateStatus,
    Comparison,
    ComparisonTask,
    NewCandidate,
    NewComparison,
    PromptRow,
    PromptSource,
    Split,
    Verdict,
)

COMPARABLE = (CandidateStatus.OK, CandidateStatus.TRUNCATED, CandidateStatus.EMPTY)


class Answers:
    """Queries about held-out answers and comparisons."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def prompts(self, run_id: int, most: int) -> list[int]:
        """Ids of at most `most` held-out seeds, in an order that does not depend on where they came from."""
        query = (
            select(Prompt.id)
            .where(
                seeds_of(Prompt.run_id, run_id),
                Prompt.source == PromptSource.SEED,
                Prompt.split == Split.HELD_OUT,
            )
            .order_by(Prompt.text_hash)
            .limit(most)
        )
        with self._database.read() as connection:
            return list(connection.scalars(query))

    def missing(
        self, checkpoint_id: int, prompt_ids: Sequence[int], after: int, limit: int
    ) -> list[PromptRow]:
        """Those of these prompts that a checkpoint has not answered yet."""
        answered = (
            select(Answer.id)
            .where(Answer.prompt_id == Prompt.id, Answer.checkpoint_id == checkpoint_id)
            .exists()
        )
        query = (
            select(Prompt.id, Prompt.text)
            .where(Prompt.id.in_(prompt_ids), Prompt.id > after, ~answered)
            .order_by(Prompt.id)
            .limit(limit)
        )
        with self._database.read() as connection:
            return [PromptRow(id=row.id, text=row.text, missing=(0,)) for row in connection.execute(query)]

    def add(
        self,
        checkpoint_id: int,
        stage_id: int,
        session_id: int | None,
        answers: Sequence[NewCandidate],
        cursor: int,
    ) -> None:
        """Store answers and move the stage's cursor, in one transaction. Repeats are ignored."""
        rows = [_answer_row(checkpoint_id, session_id, answer) for answer in answers]
        with self._database.write() as connection:
            insert_new(connection, Answer, rows)
            connection.execute(move_cursor(stage_id, cursor))
            crash_point("answer_held_out:storing")

    def of(self, checkpoint_id: int, prompt_ids: Sequence[int] | None = None) -> list[AnswerRow]:
        """A checkpoint's answers, to these prompts or to all, in the order of the prompts."""
        query = (
            select(Answer.prompt_id, Prompt.text.label("prompt"), Answer.text, Answer.status)
            .join(Prompt, Prompt.id == Answer.prompt_id)
            .where(Answer.checkpoint_id == checkpoint_id)
            .order_by(Answer.prompt_id)
        )
        if prompt_ids is not None:
            query = query.where(Answer.prompt_id.in_(prompt_ids))
        with self._database.read() as connection:
            return [
                AnswerRow(**{**row._asdict(), "status": CandidateStatus(row.status)})
                for row in connection.execute(query)
            ]

    def uncompared(
        self,
        judge_id: int,
        checkpoint_id: int,
        opponents: Sequence[int],
        prompt_ids: Sequence[int],
        after: int,
        limit: int,
    ) -> list[ComparisonTask]:
        """Answers of a checkpoint, with the orders in which a judge has not compared them with opponents'."""
        mine = (
            select(Answer.id, Answer.prompt_id, Answer.text, Prompt.text.label("prompt_text"))
            .join(Prompt, Prompt.id == Answer.prompt_id)
            .where(
                Answer.checkpoint_id == checkpoint_id,
                Answer.prompt_id.in_(prompt_ids),
                Answer.status.in_(COMPARABLE),
                Answer.id > after,
            )
            .order_by(Answer.id)
            .limit(limit)
        )
        with self._database.read() as connection:
            found = connection.execute(mine).all()
            others: dict[int, dict[int, str]] = defaultdict(dict)
            theirs = select(Answer.prompt_id, Answer.id, Answer.text).where(
                Answer.checkpoint_id.in_(opponents),
                Answer.prompt_id.in_([row.prompt_id for row in found]),
                Answer.status.in_(COMPARABLE),
            )
            for prompt_id, answer_id, text in connection.execute(theirs):
                others[prompt_id][answer_id] = text
            ids = [row.id for row in found]
            compared = select(AnswerComparison.first_id, AnswerComparison.second_id).where(
                AnswerComparison.judge_id == judge_id,
                AnswerComparison.first_id.in_(ids) | AnswerComparison.second_id.in_(ids),
            )
            done = {(first, second) for first, second in connection.execute(compared)}
        return [
            ComparisonTask(
                id=row.id,
                prompt_text=row.prompt_text,
                texts={row.id: row.text, **others[row.prompt_id]},
                missing=tuple(
                    order
                    for other in others[row.prompt_id]
                    for order in ((row.id, other), (other, row.id))
                    if order not in done
                ),
            )
            for row in found
        ]

    def add_comparisons(
        self,
        judge_id: int,
        stage_id: int,
        session_id: int | None,
        comparisons: Sequence[NewComparison],
        cursor: int,
    ) -> None:
        """Store comparisons and move the stage's cursor, in one transaction. Repeats are ignored."""
        rows = [
            {
                "judge_id": judge_id,
                "first_id": comparison.first_id,
                "second_id": comparison.second_id,
                "session_id": session_id,
                "verdict": comparison.verdict,
                "probability_first": comparison.probability_first,
                "raw_text": comparison.raw_text,
                "created_at": now(),
            }
            for comparison in comparisons
        ]
        with self._database.write() as connection:
            insert_new(connection, AnswerComparison, rows)
            connection.execute(move_cursor(stage_id, cursor))
            crash_point("compare:storing")

    def comparison_count(self, judge_id: int, checkpoint_id: int) -> int:
        """Comparisons of a checkpoint's answers that a judge has made, one for each order."""
        mine = select(Answer.id).where(Answer.checkpoint_id == checkpoint_id)
        query = select(func.count()).where(
            AnswerComparison.judge_id == judge_id,
            AnswerComparison.first_id.in_(mine) | AnswerComparison.second_id.in_(mine),
        )
        with self._database.read() as connection:
            return connection.execute(query).scalar_one()

    def comparisons(self, judge_id: int, checkpoint_id: int, opponent_id: int) -> list[Comparison]:
        """What a judge made of a checkpoint's answers against an opponent's, a row a prompt."""
        first, second = (Answer.__table__.alias(name) for name in ("first", "second"))
        query = (
            select(first.c.prompt_id, first.c.checkpoint_id, AnswerComparison.verdict)
            .join(first, first.c.id == AnswerComparison.first_id)
            .join(second, second.c.id == AnswerComparison.second_id)
            .where(
                AnswerComparison.judge_id == judge_id,
                first.c.checkpoint_id.in_((checkpoint_id, opponent_id)),
                second.c.checkpoint_id.in_((checkpoint_id, opponent_id)),
            )
            .order_by(first.c.prompt_id)
        )
        verdicts: dict[int, dict[int, Verdict | None]] = defaultdict(dict)
        with self._database.read() as connection:
            for prompt_id, shown_first, verdict in connection.execute(query):
                verdicts[prompt_id][shown_first] = Verdict(verdict) if verdict else None
        return [
            Comparison(
                prompt_id=prompt_id,
                shown_first=orders.get(checkpoint_id),
                shown_second=orders.get(opponent_id),
            )
            for prompt_id, orders in verdicts.items()
        ]


def _answer_row(checkpoint_id: int, session_id: int | None, answer: NewCandidate) -> dict[str, Any]:
    return {
        "checkpoint_id": checkpoint_id,
        "prompt_id": answer.prompt_id,
        "session_id": session_id,
        "text": answer.text,
        "status": answer.status,
        "finish_reason": answer.finish_reason,
        "token_count": answer.token_count,
        "mean_logprob": answer.mean_logprob,
        "created_at": now(),
    }
