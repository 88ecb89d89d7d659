"""Candidates and their judgements, and which candidates still lack judgements."""

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, select, update

from selfreward.crash import crash_point
from selfreward.store.counting import (
    COUNTED,
    COUNTED_JUDGEMENT,
    count_candidates,
    count_judgements,
    judgement_figures,
)
from selfreward.store.database import Database
from selfreward.store.rows import AnySelect, insert_new, insert_one, insert_returning, now
from selfreward.store.schema import Candidate, CandidateTally, ItemFailure, Judge, Judgement, Prompt, Stage
from selfreward.text import digest
from selfreward.types import CandidateStatus, CandidateTask, NewCandidate, NewJudgement

JUDGEABLE = (CandidateStatus.OK, CandidateStatus.TRUNCATED)


class Candidates:
    """Queries about candidates and judgements."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(
        self,
        iteration_id: int,
        stage_id: int,
        session_id: int | None,
        candidates: Sequence[NewCandidate],
        cursor: int,
    ) -> None:
        """Store and tally answers and move the stage's cursor, in one transaction. Repeats are ignored."""
        rows = [candidate_row(iteration_id, session_id, candidate) for candidate in candidates]
        with self._database.write() as connection:
            new = insert_returning(connection, Candidate, rows, *COUNTED)
            count_candidates(connection, iteration_id, new)
            connection.execute(move_cursor(stage_id, cursor))
            crash_point("sample:storing")

    def add_judgements(
        self,
        judge_id: int,
        stage_id: int,
        session_id: int | None,
        judgements: Sequence[NewJudgement],
        cursor: int,
    ) -> None:
        """Store and tally judgements and move the stage's cursor, in one transaction. Repeats are ignored."""
        with self._database.write() as connection:
            add_judgements(connection, judge_id, session_id, judgements)
            connection.execute(move_cursor(stage_id, cursor))
            crash_point("judge:storing")

    def judge(
        self,
        checkpoint_id: int | None,
        type: str,
        template: str,
        template_digest: str,
        parameters: Mapping[str, Any],
    ) -> int:
        """The id of this way of judging, made if it is not there."""
        identity = json.dumps([type, template_digest, parameters], sort_keys=True)
        new = {
            "type": type,
            "checkpoint_id": checkpoint_id,
            "template": template,
            "template_digest": template_digest,
            "parameters": dict(parameters),
            "digest": digest(identity),
            "created_at": now(),
        }
        mine = Judge.checkpoint_id.is_not_distinct_from(checkpoint_id) & (Judge.digest == new["digest"])
        with self._database.write() as connection:
            # Looked for first: no unique key holds two judges without a checkpoint apart.
            known = connection.execute(select(Judge.id).where(mine)).scalar_one_or_none()
            return known if known is not None else insert_one(connection, Judge, **new)

    def short_of_judgements(
        self, iteration_id: int, judge_id: int, wanted: int, after: int, limit: int, anchors: bool = False
    ) -> list[CandidateTask]:
        """Candidates with an id above `after` that lack some of their `wanted` judgements by this judge.

        Those that M_t wrote, or with `anchors` those that earlier models did.
        """
        with self._database.read() as connection:
            query = short_of_judgements(iteration_id, judge_id, wanted, after, limit, anchors)
            found = connection.execute(query).all()
            have: dict[int, set[int]] = defaultdict(set)
            samples = select(Judgement.candidate_id, Judgement.sample).where(
                Judgement.judge_id == judge_id, Judgement.candidate_id.in_([row.id for row in found])
            )
            for candidate_id, sample in connection.execute(samples):
                have[candidate_id].add(sample)
        return [
            CandidateTask(
                id=row.id,
                prompt_id=row.prompt_id,
                prompt_text=row.prompt_text,
                text=row.text,
                missing=tuple(sample for sample in range(wanted) if sample not in have[row.id]),
            )
            for row in found
        ]

    def statuses(self, iteration_id: int) -> dict[str, int]:
        """How many candidates of an iteration ended in which way."""
        query = select(CandidateTally.status, CandidateTally.candidates)
        with self._database.read() as connection:
            found = connection.execute(query.where(CandidateTally.iteration_id == iteration_id))
            return {status: count for status, count in found}

    def judgement_count(self, iteration_id: int, judge_id: int) -> int:
        """Judgements of an iteration's candidates that a judge has given, readable or not."""
        return self.judged(iteration_id, judge_id)[0]

    def judged(self, iteration_id: int, judge_id: int) -> tuple[int, int, float | None]:
        """(judgements, readable ones, their mean score) of an iteration's candidates by a judge.

        Of this iteration's: a fork's judge can be its parent's.
        """
        with self._database.read() as connection:
            total, read, score = connection.execute(judgement_figures(iteration_id, judge_id)).one()
        return total, read, score / read if read else None

    def record_failure(self, stage_id: int, item_id: int, error: str) -> int:
        """Count one more failed try of an item; returns how many it has had."""
        mine = (ItemFailure.stage_id == stage_id) & (ItemFailure.item_id == item_id)
        new = {"stage_id": stage_id, "item_id": item_id, "attempts": 0, "last_error": ""}
        with self._database.write() as connection:
            insert_new(connection, ItemFailure, [new])
            connection.execute(
                update(ItemFailure).where(mine).values(attempts=ItemFailure.attempts + 1, last_error=error)
            )
            return connection.execute(select(ItemFailure.attempts).where(mine)).scalar_one()


def add_judgements(
    connection: Connection, judge_id: int, session_id: int | None, judgements: Sequence[NewJudgement]
) -> None:
    """Store and tally judgements. Repeats are ignored."""
    rows = [_judgement_row(judge_id, session_id, judgement) for judgement in judgements]
    new = insert_returning(connection, Judgement, rows, *COUNTED_JUDGEMENT)
    count_judgements(connection, judge_id, new)


def move_cursor(stage_id: int, cursor: int) -> Any:
    """The cursor only moves on: it is a promise that nothing below it is missing."""
    return update(Stage).where(Stage.id == stage_id, Stage.cursor < cursor).values(cursor=cursor)


def short_of_judgements(
    iteration_id: int, judge_id: int, wanted: int, after: int, limit: int, anchors: bool = False
) -> AnySelect:
    """The work query of the judge stage: pages by key over ix_candidate_work or ix_candidate_anchor.

    A resume passes over what was judged after the cursor: looking for the last of the judgements takes
    PostgreSQL little more than half the time of counting them.
    """
    last_wanted = (
        select(Judgement.sample)
        .where(Judgement.candidate_id == Candidate.id, Judgement.judge_id == judge_id)
        .limit(1)
        .offset(wanted - 1)
    )
    return (
        select(Candidate.id, Candidate.prompt_id, Candidate.text, Prompt.text.label("prompt_text"))
        .join(Prompt, Prompt.id == Candidate.prompt_id)
        .where(
            Candidate.iteration_id == iteration_id,
            Candidate.id > after,
            Candidate.checkpoint_id.is_not(None) if anchors else Candidate.checkpoint_id.is_(None),
            Candidate.status.in_(JUDGEABLE),
            ~last_wanted.exists(),
        )
        .order_by(Candidate.id)
        .limit(limit)
    )


def expectation(probabilities: Sequence[float] | None) -> dict[str, Any]:
    """The columns of a score that is an expectation; empty ones for a score that was sampled."""
    if probabilities is None:
        return {"probabilities": None, "lost_mass": None}
    return {"probabilities": list(probabilities), "lost_mass": max(0.0, 1.0 - sum(probabilities))}


def candidate_row(iteration_id: int, session_id: int | None, candidate: NewCandidate) -> dict[str, Any]:
    """The columns of an answer."""
    return {
        "iteration_id": iteration_id,
        "prompt_id": candidate.prompt_id,
        "candidate_index": candidate.index,
        "session_id": session_id,
        "text": candidate.text,
        "status": candidate.status,
        "finish_reason": candidate.finish_reason,
        "token_count": candidate.token_count,
        "mean_logprob": candidate.mean_logprob,
        "created_at": now(),
    }


def _judgement_row(judge_id: int, session_id: int | None, judgement: NewJudgement) -> dict[str, Any]:
    return {
        "candidate_id": judgement.candidate_id,
        "judge_id": judge_id,
        "sample": judgement.sample,
        "session_id": session_id,
        "raw_text": judgement.raw_text,
        "status": judgement.status,
        "score": judgement.score,
        **expectation(judgement.probabilities),
        "reward": judgement.reward,
        "token_count": judgement.token_count,
        "finish_reason": judgement.finish_reason,
        "created_at": now(),
    }
