"""Tallies: candidates and judgements counted as they are stored, in the same transaction."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, case, cast, func, select

from selfreward.store.rows import AnyRow, AnySelect, add_up
from selfreward.store.schema import Candidate, CandidateTally, Judgement, JudgementTally
from selfreward.store.schema.base import Id
from selfreward.types import JudgementStatus

COUNTED = (Candidate.status, Candidate.token_count)
"""What of a new candidate is counted …"""
COUNTED_JUDGEMENT = (Judgement.candidate_id, Judgement.status, Judgement.score, Judgement.token_count)
"""… and what of a new judgement."""
LEAST = 1e-9


def tenth(score: float | None) -> int:
    """The score times ten, rounded half up; 0 for none."""
    return 0 if score is None else int(score * 10 + 0.5)


def counted_score(score: float | None) -> float:
    """What a score adds to the sum; next to nothing is nothing, which PostgreSQL would refuse to square."""
    return 0.0 if score is None or score < LEAST else score


def count_candidates(connection: Connection, iteration_id: int, new: Iterable[AnyRow]) -> None:
    """Add candidates that were just stored to the tally; `new` are their COUNTED columns."""
    sums: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for status, tokens in new:
        sums[status][0] += 1
        sums[status][1] += tokens
    rows = [
        {"iteration_id": iteration_id, "status": status, "candidates": count, "tokens": tokens}
        for status, (count, tokens) in sums.items()
    ]
    add_up(connection, CandidateTally, rows)


def count_judgements(connection: Connection, judge_id: int, new: Sequence[AnyRow]) -> None:
    """Add judgements that were just stored to the tally; `new` are their COUNTED_JUDGEMENT columns.

    Those of anchors are not counted: figures of an iteration are about what M_t wrote.
    """
    of = _iterations(connection, {row.candidate_id for row in new})
    sums: dict[tuple[int, str, int], dict[str, Any]] = {}
    for row in (each for each in new if each.candidate_id in of):
        key = (of[row.candidate_id], row.status, tenth(row.score))
        mine = sums.setdefault(key, {"judgements": 0, "score_sum": 0.0, "score_squares": 0.0, "tokens": 0})
        mine["judgements"] += 1
        score = counted_score(row.score)
        mine["score_sum"] += score
        mine["score_squares"] += score * score
        mine["tokens"] += row.token_count
    rows = [
        {"iteration_id": iteration_id, "judge_id": judge_id, "status": status, "tenth": score, **figures}
        for (iteration_id, status, score), figures in sums.items()
    ]
    add_up(connection, JudgementTally, rows)


def candidate_count(iteration_id: int) -> AnySelect:
    """How many candidates an iteration has."""
    mine = CandidateTally.iteration_id == iteration_id
    return select(total(CandidateTally.candidates)).where(mine)


def judgement_figures(iteration_id: int, judge_id: Any) -> AnySelect:
    """(judgements, readable ones, sum of their scores) of an iteration's candidates by a judge."""
    read = case((JudgementTally.status == JudgementStatus.READ, JudgementTally.judgements), else_=0)
    scores = func.coalesce(func.sum(JudgementTally.score_sum), 0.0)
    return select(total(JudgementTally.judgements), total(read), scores).where(
        JudgementTally.iteration_id == iteration_id, JudgementTally.judge_id == judge_id
    )


def judgement_total(iteration_id: int, judges: AnySelect) -> AnySelect:
    """How many judgements of an iteration's candidates these judges have given."""
    mine = (JudgementTally.iteration_id == iteration_id) & JudgementTally.judge_id.in_(judges)
    return select(total(JudgementTally.judgements)).where(mine)


def _iterations(connection: Connection, candidates: Iterable[int]) -> dict[int, int]:
    """The iteration of each of these candidates that M_t wrote."""
    mine = Candidate.id.in_(sorted(candidates)) & Candidate.checkpoint_id.is_(None)
    query = select(Candidate.id, Candidate.iteration_id).where(mine)
    found = connection.execute(query)
    return {key: iteration_id for key, iteration_id in found if iteration_id is not None}


def total(column: Any) -> ColumnElement[int]:
    """Its sum, 0 of nothing: PostgreSQL would make a decimal of it."""
    return cast(func.coalesce(func.sum(column), 0), Id)
