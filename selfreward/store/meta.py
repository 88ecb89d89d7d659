"""Judgements compared with each other, and the pairs of judgements that come of it (Meta-Rewarding)."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, func, select, update

from selfreward.crash import crash_point
from selfreward.meta_judging import Battle, BestAndWorst, MetaTask, WrittenJudgement, orders, to_compare
from selfreward.store.candidates import move_cursor
from selfreward.store.database import Database
from selfreward.store.rows import AnySelect, insert_new, now
from selfreward.store.schema import (
    Candidate,
    Iteration,
    Judgement,
    JudgementComparison,
    JudgementPair,
    Prompt,
)
from selfreward.types import IterationRow, JudgementStatus

PAGE = 250
TOO_LONG = "too_long"


@dataclass(frozen=True, kw_only=True)
class NewJudgementComparison:
    """The outcome of comparing two judgements in one order, ready to be stored."""

    first_id: int
    second_id: int
    status: JudgementStatus
    probability_first: float | None
    """0 to 1; None unless the status is `read`."""
    raw_text: str
    token_count: int


@dataclass(frozen=True, kw_only=True)
class JudgementPairTexts:
    """A pair of judgements with all that a training row is made of."""

    id: int
    prompt: str
    response: str
    chosen: str
    rejected: str


class Meta:
    """Queries about comparisons of judgements."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def written_scores(self, data_iteration_id: int, judge_id: int) -> dict[int, list[float]]:
        """The readable scores of each of M_t's own candidates that this judge gave in writing."""
        query = (
            select(Judgement.candidate_id, Judgement.score)
            .join(Candidate, Candidate.id == Judgement.candidate_id)
            .where(
                Candidate.iteration_id == data_iteration_id,
                Candidate.checkpoint_id.is_(None),
                Judgement.judge_id == judge_id,
                Judgement.status == JudgementStatus.READ,
                Judgement.raw_text != "",
            )
        )
        found: dict[int, list[float]] = defaultdict(list)
        with self._database.read() as connection:
            for candidate_id, score in connection.execute(query):
                found[candidate_id].append(float(score or 0))
        return found

    def tasks(
        self, candidate_ids: Sequence[int], judge_id: int, meta_judge_id: int, most: int, limit: int
    ) -> list[MetaTask]:
        """Of these candidates, in this order, at most `limit` that lack comparisons by the meta judge.

        `judge_id`: whose judgements are compared, at most `most` of a candidate.
        """
        tasks: list[MetaTask] = []
        with self._database.read() as connection:
            for start in range(0, len(candidate_ids), PAGE):
                page = candidate_ids[start : start + PAGE]
                found = _tasks(connection, page, judge_id, meta_judge_id, most)
                tasks += [task for task in found if task.missing]
                if len(tasks) >= limit:
                    break
        return tasks[:limit]

    def add(
        self,
        iteration_id: int,
        judge_id: int,
        stage_id: int,
        session_id: int | None,
        comparisons: Sequence[NewJudgementComparison],
        cursor: int,
    ) -> None:
        """Store comparisons and move the stage's cursor, in one transaction. Repeats are ignored."""
        rows = [
            {
                "iteration_id": iteration_id,
                "judge_id": judge_id,
                "first_id": comparison.first_id,
                "second_id": comparison.second_id,
                "session_id": session_id,
                "status": comparison.status,
                "probability_first": comparison.probability_first,
                "raw_text": comparison.raw_text,
                "token_count": comparison.token_count,
                "created_at": now(),
            }
            for comparison in comparisons
        ]
        with self._database.write() as connection:
            insert_new(connection, JudgementComparison, rows)
            connection.execute(move_cursor(stage_id, cursor))
            crash_point("meta_judge:storing")

    def battles(self, candidate_ids: Sequence[int], meta_judge_id: int) -> dict[int, list[Battle]]:
        """The comparisons that the meta judge made of the judgements of each of these candidates."""
        row, found = JudgementComparison, defaultdict[int, list[Battle]](list)
        with self._database.read() as connection:
            for start in range(0, len(candidate_ids), PAGE):
                page = candidate_ids[start : start + PAGE]
                query = (
                    select(Judgement.candidate_id, row.first_id, row.second_id, row.probability_first)
                    .join(Judgement, Judgement.id == row.first_id)
                    .where(row.judge_id == meta_judge_id, Judgement.candidate_id.in_(page))
                    .order_by(row.first_id, row.second_id)
                )
                for candidate_id, first, second, probability in connection.execute(query):
                    battle = Battle(first_id=first, second_id=second, probability_first=probability)
                    found[candidate_id].append(battle)
        return found

    def add_pairs(self, iteration_id: int, pairs: Mapping[int, BestAndWorst]) -> None:
        """Store the pairs of an iteration by candidate. Repeats are ignored."""
        rows = [
            {
                "iteration_id": iteration_id,
                "candidate_id": candidate_id,
                "chosen_id": pair.chosen_id,
                "rejected_id": pair.rejected_id,
                "chosen_elo": pair.chosen_elo,
                "rejected_elo": pair.rejected_elo,
                "created_at": now(),
            }
            for candidate_id, pair in sorted(pairs.items())
        ]
        with self._database.write() as connection:
            insert_new(connection, JudgementPair, rows)

    def has_pairs(self, iteration_id: int) -> bool:
        """Whether the pairs of an iteration are drawn: all of them are stored together."""
        query = select(JudgementPair.id).where(JudgementPair.iteration_id == iteration_id).limit(1)
        with self._database.read() as connection:
            return connection.execute(query).first() is not None

    def pair_count(self, iteration_id: int) -> int:
        """Pairs of judgements that an iteration trains on."""
        mine = (JudgementPair.iteration_id == iteration_id) & JudgementPair.excluded.is_(None)
        with self._database.read() as connection:
            return connection.execute(select(func.count()).where(mine)).scalar_one()

    def training_pairs(self, iteration_id: int) -> Iterator[JudgementPairTexts]:
        """The pairs of judgements that an iteration trains on, with their texts, in the order of ids."""
        after = 0
        while rows := self._training_page(iteration_id, after):
            yield from rows
            after = rows[-1].id

    def exclude(self, iteration_id: int, pair_ids: Sequence[int]) -> None:
        """Mark pairs of judgements as too long for the trainer; their rows stay."""
        mine = (JudgementPair.iteration_id == iteration_id) & JudgementPair.id.in_(pair_ids)
        with self._database.write() as connection:
            connection.execute(update(JudgementPair).where(mine).values(excluded=TOO_LONG))

    def _training_page(self, iteration_id: int, after: int) -> list[JudgementPairTexts]:
        chosen, rejected = (Judgement.__table__.alias(name) for name in ("chosen", "rejected"))
        query = (
            select(
                JudgementPair.id,
                Prompt.text.label("prompt"),
                Candidate.text.label("response"),
                chosen.c.raw_text.label("chosen"),
                rejected.c.raw_text.label("rejected"),
            )
            .join(Candidate, Candidate.id == JudgementPair.candidate_id)
            .join(Prompt, Prompt.id == Candidate.prompt_id)
            .join(chosen, chosen.c.id == JudgementPair.chosen_id)
            .join(rejected, rejected.c.id == JudgementPair.rejected_id)
            .where(
                JudgementPair.iteration_id == iteration_id,
                JudgementPair.excluded.is_(None),
                JudgementPair.id > after,
            )
            .order_by(JudgementPair.id)
            .limit(PAGE)
        )
        with self._database.read() as connection:
            return [JudgementPairTexts(**row._asdict()) for row in connection.execute(query)]


def _tasks(
    connection: Connection, candidate_ids: Sequence[int], judge_id: int, meta_judge_id: int, most: int
) -> list[MetaTask]:
    """Every one of these candidates, whether something is missing or not."""
    texts = (
        select(Candidate.id, Prompt.text.label("prompt"), Candidate.text.label("response"))
        .join(Prompt, Prompt.id == Candidate.prompt_id)
        .where(Candidate.id.in_(candidate_ids))
    )
    written = select(Judgement.id, Judgement.candidate_id, Judgement.raw_text, Judgement.score).where(
        Judgement.candidate_id.in_(candidate_ids),
        Judgement.judge_id == judge_id,
        Judgement.status == JudgementStatus.READ,
        Judgement.raw_text != "",
    )
    judgements: dict[int, list[WrittenJudgement]] = defaultdict(list)
    for key, candidate_id, text, score in connection.execute(written):
        judgements[candidate_id].append(WrittenJudgement(id=key, text=text, score=float(score or 0)))
    chosen = {key: to_compare(each, most) for key, each in judgements.items()}
    done = _compared(connection, [each.id for some in chosen.values() for each in some], meta_judge_id)
    rows = {row.id: row for row in connection.execute(texts)}
    return [
        MetaTask(
            id=key,
            prompt=rows[key].prompt,
            response=rows[key].response,
            texts={each.id: each.text for each in chosen.get(key, [])},
            missing=tuple(two for two in orders([e.id for e in chosen.get(key, [])]) if two not in done),
        )
        for key in candidate_ids
    ]


def _compared(
    connection: Connection, judgement_ids: Sequence[int], meta_judge_id: int
) -> set[tuple[int, int]]:
    query = select(JudgementComparison.first_id, JudgementComparison.second_id).where(
        JudgementComparison.judge_id == meta_judge_id, JudgementComparison.first_id.in_(judgement_ids)
    )
    return {(first, second) for first, second in connection.execute(query)}


def comparisons_of(iteration: IterationRow) -> AnySelect:
    """(when, tokens) of the comparisons of judgements that count in an iteration.

    A fork has them from the iteration whose candidates it uses, where it uses the judgements too.
    """
    judge = select(Iteration.judge_id).where(Iteration.id == iteration.id).scalar_subquery()
    row = JudgementComparison
    return (
        select(row.created_at, row.token_count)
        .join(Judgement, Judgement.id == row.first_id)
        .where(row.iteration_id.in_({iteration.id, iteration.data_iteration_id}), Judgement.judge_id == judge)
    )


def comparison_count(iteration: IterationRow) -> AnySelect:
    """How many of those there are."""
    return select(func.count()).select_from(comparisons_of(iteration).subquery())
