"""Answers of earlier models to an iteration's prompts: candidates that no tally counts."""

from collections import defaultdict
from collections.abc import Sequence

from sqlalchemy import ColumnElement, func, select

from selfreward.crash import crash_point
from selfreward.store.candidates import candidate_row, move_cursor
from selfreward.store.database import Database
from selfreward.store.rows import AnySelect, insert_new
from selfreward.store.schema import Candidate, Iteration, Judgement, Prompt
from selfreward.types import IterationRow, NewCandidate, PromptRow, PromptStatus

FIRST_INDEX = 1000
"""An anchor's candidate_index is this times its model's id and up: no other model's, none of M_t's own."""


class Anchors:
    """Queries about anchors."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def short(
        self, iteration_id: int, checkpoint_id: int, wanted: int, after: int, limit: int
    ) -> list[PromptRow]:
        """Accepted prompts with an id above `after` that lack some of `wanted` anchors by this model."""
        first = FIRST_INDEX * checkpoint_id
        with self._database.read() as connection:
            query = short_of_anchors(iteration_id, checkpoint_id, wanted, after, limit)
            found = connection.execute(query).all()
            have: dict[int, set[int]] = defaultdict(set)
            there = select(Candidate.prompt_id, Candidate.candidate_index).where(
                Candidate.prompt_id.in_([row.id for row in found]), Candidate.checkpoint_id == checkpoint_id
            )
            for prompt_id, index in connection.execute(there):
                have[prompt_id].add(index)
        return [
            PromptRow(
                id=row.id,
                text=row.text,
                missing=tuple(index for index in range(first, first + wanted) if index not in have[row.id]),
            )
            for row in found
        ]

    def add(
        self,
        iteration_id: int,
        checkpoint_id: int,
        stage_id: int,
        session_id: int | None,
        candidates: Sequence[NewCandidate],
        cursor: int,
    ) -> None:
        """Store anchors and move the stage's cursor, in one transaction. Repeats are ignored."""
        rows = [
            {**candidate_row(iteration_id, session_id, candidate), "checkpoint_id": checkpoint_id}
            for candidate in candidates
        ]
        with self._database.write() as connection:
            insert_new(connection, Candidate, rows)
            connection.execute(move_cursor(stage_id, cursor))
            crash_point("anchor:storing")

    def count(self, iteration_id: int, checkpoint_id: int | None = None) -> int:
        """Anchors of an iteration, by one model or by any."""
        query = anchor_count(iteration_id)
        if checkpoint_id is not None:
            query = query.where(Candidate.checkpoint_id == checkpoint_id)
        with self._database.read() as connection:
            return int(connection.execute(query).scalar_one())

    def judged(self, iteration_id: int, judge_id: int) -> tuple[int, float | None]:
        """(judgements, mean readable score) of an iteration's anchors by a judge."""
        query = (
            select(func.count(), func.avg(Judgement.score))
            .join(Candidate, Candidate.id == Judgement.candidate_id)
            .where(anchors_of(iteration_id), Judgement.judge_id == judge_id)
        )
        with self._database.read() as connection:
            count, mean = connection.execute(query).one()
        return int(count), None if mean is None else float(mean)


def anchors_of(iteration_id: int) -> ColumnElement[bool]:
    """The condition for a candidate."""
    return (Candidate.iteration_id == iteration_id) & Candidate.checkpoint_id.is_not(None)


def anchor_count(iteration_id: int) -> AnySelect:
    """How many anchors an iteration has."""
    return select(func.count()).select_from(Candidate).where(anchors_of(iteration_id))


def anchor_judgements(iteration: IterationRow) -> AnySelect:
    """(when, tokens) of the judgements of an iteration's anchors by the judge that counts."""
    judge = select(Iteration.judge_id).where(Iteration.id == iteration.id).scalar_subquery()
    query = select(Judgement.created_at, Judgement.token_count)
    return query.join(Candidate, Candidate.id == Judgement.candidate_id).where(
        anchors_of(iteration.data_iteration_id), Judgement.judge_id == judge
    )


def anchor_judgement_count(iteration: IterationRow) -> AnySelect:
    """How many of those there are."""
    return select(func.count()).select_from(anchor_judgements(iteration).subquery())


def short_of_anchors(iteration_id: int, checkpoint_id: int, wanted: int, after: int, limit: int) -> AnySelect:
    """The work query of the anchor stage: pages by key over ix_prompt_work."""
    have = (
        select(func.count())
        .select_from(Candidate)
        .where(Candidate.prompt_id == Prompt.id, Candidate.checkpoint_id == checkpoint_id)
        .scalar_subquery()
    )
    return (
        select(Prompt.id, Prompt.text)
        .where(
            Prompt.iteration_id == iteration_id,
            Prompt.status == PromptStatus.ACCEPTED,
            Prompt.id > after,
            have < wanted,
        )
        .order_by(Prompt.id)
        .limit(limit)
    )
