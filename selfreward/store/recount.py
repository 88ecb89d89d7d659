"""Tallies held against the rows that they count."""

from collections.abc import Iterator, Mapping
from math import isclose
from typing import Any

from sqlalchemy import Connection, Integer, case, cast, func, select

from selfreward.store.counting import LEAST, total
from selfreward.store.rows import AnySelect
from selfreward.store.schema import Candidate, CandidateTally, Judgement, JudgementTally

COUNTED = Candidate.iteration_id.is_not(None) & Candidate.checkpoint_id.is_(None)
"""What M_t wrote itself: not an imported answer, and not an earlier model's."""
Tallies = Mapping[tuple[Any, ...], tuple[float, ...]]
"""Key → figures, the count of rows first."""
NOTHING = (0.0, 0.0, 0.0, 0.0)
LIKENESS = 1e-9
"""Sums of floats depend a little on the order in which they were added."""


def wrong_tallies(connection: Connection) -> tuple[int, list[str]]:
    """How many tallies there are, and which differ from the rows."""
    problems, there = list[str](), 0
    for table, query in (
        (CandidateTally, recounted_candidates()),
        (JudgementTally, recounted_judgements(connection)),
    ):
        keys = [column.name for column in table.__table__.primary_key]
        kept = _by_key(connection, select(*table.__table__.columns), len(keys))
        there += len(kept)
        found = _by_key(connection, query, len(keys))
        problems += (f"{table.__tablename__} of {said}" for said in _differences(kept, found, keys))
    return there, problems


def recounted_candidates() -> AnySelect:
    """What the rows of candidate_tally should be."""
    key = (Candidate.iteration_id, Candidate.status)
    return select(*key, func.count(), total(Candidate.token_count)).where(COUNTED).group_by(*key)


def recounted_judgements(connection: Connection) -> AnySelect:
    """What the rows of judgement_tally should be."""
    exact = Judgement.score * 10 + 0.5  # a cast cuts off on SQLite, and rounds on PostgreSQL
    whole = cast(exact if connection.dialect.name == "sqlite" else func.floor(exact), Integer)
    score = case((Judgement.score >= LEAST, Judgement.score), else_=0.0)
    keys = (
        Candidate.iteration_id,
        Judgement.judge_id,
        Judgement.status,
        func.coalesce(whole, 0).label("tenth"),
    )
    figures = (func.count(), func.sum(score), func.sum(score * score), total(Judgement.token_count))
    joined = select(*keys, *figures).join(Candidate, Candidate.id == Judgement.candidate_id).where(COUNTED)
    return joined.group_by(Candidate.iteration_id, Judgement.judge_id, Judgement.status, "tenth")


def _by_key(connection: Connection, query: AnySelect, keys: int) -> Tallies:
    return {tuple(row[:keys]): tuple(map(float, row[keys:])) for row in connection.execute(query)}


def _differences(kept: Tallies, found: Tallies, keys: list[str]) -> Iterator[str]:
    for key in sorted(kept.keys() | found.keys()):
        have, real = kept.get(key, NOTHING), found.get(key, NOTHING)
        pairs = zip(have, real, strict=False)
        if all(isclose(one, other, rel_tol=LIKENESS, abs_tol=LIKENESS) for one, other in pairs):
            continue
        name = ", ".join(f"{column} {value}" for column, value in zip(keys, key, strict=True))
        if have[0] != real[0]:
            yield f"{name}: {have[0]:,.0f} are counted, and there are {real[0]:,.0f}"
        else:
            yield f"{name}: the sums are {have[1:]}, and should be {real[1:]}"
