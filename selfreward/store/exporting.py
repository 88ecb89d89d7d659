"""Rows on their way out of the database: read by key, a page at a time, so that memory stays small.

Every page is a read transaction of its own: an export of hours holds up neither the daemon nor SQLite's log.
Texts come out as they are stored (see `selfreward.text`).
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import fields
from typing import Any, TypeVar

from sqlalchemy import Connection, func, select, table, tuple_
from sqlalchemy import column as sql_column
from sqlalchemy.orm import aliased

from selfreward.store.database import Database
from selfreward.store.export_queries import (
    EXAMPLES,
    PAIR_KEY,
    PAIRS,
    best_answers,
    candidates_of,
    judgements_of,
    scores_of,
)
from selfreward.store.exported import (
    ExportedCandidate,
    ExportedExample,
    ExportedJudgement,
    ExportedPair,
    IterationFacts,
    JudgeFacts,
    Source,
    assistant,
    user,
)
from selfreward.store.lineage import counted_iterations, lineage
from selfreward.store.rows import AnyRow, AnySelect
from selfreward.store.schema import (
    Candidate,
    Checkpoint,
    Iteration,
    Judge,
    PreferencePair,
    Prompt,
    Run,
    SftExample,
    Stage,
)
from selfreward.types import PromptStatus, StageName

Result = TypeVar("Result")

PAGE = 256
"""Rows a page: an answer can be long, and a pair holds three texts."""


class Exporting:
    """Queries for exports. What is exported of an iteration is always what its own judge and pairs made."""

    def __init__(self, database: Database, page: int = PAGE) -> None:
        self._database, self._page = database, page

    def sources(self, run_id: int) -> list[Source]:
        """The iterations of a run and of what it was forked from, by t."""
        data = aliased(Iteration)
        query = (
            select(
                Iteration.id.label("iteration_id"),
                data.id.label("data_iteration_id"),
                Iteration.run_id,
                Run.name.label("run"),
                Iteration.t,
                Iteration.setting_hash,
                Iteration.judge_id,
                Checkpoint.name.label("written_by"),
            )
            .join(Run, Run.id == Iteration.run_id)
            .join(data, data.id == func.coalesce(Iteration.data_iteration_id, Iteration.id))
            .join(Checkpoint, Checkpoint.id == data.checkpoint_id)
            .order_by(Iteration.t)
        )
        with self._database.read() as connection:
            mine = counted_iterations(lineage(connection, run_id))
            return [Source(**row._asdict()) for row in connection.execute(query.where(mine))]

    def judge(self, judge_id: int | None) -> JudgeFacts | None:
        """Who judged, and how; None where nobody did."""
        query = (
            select(
                Checkpoint.name.label("checkpoint"), Judge.template, Judge.template_digest, Judge.parameters
            )
            .outerjoin(Checkpoint, Checkpoint.id == Judge.checkpoint_id)
            .where(Judge.id == judge_id)
        )
        with self._database.read() as connection:
            row = connection.execute(query).one_or_none()
        return None if row is None else JudgeFacts(**row._asdict())

    def count(self, rows: type[Any], *where: Any) -> int:
        """How many rows of a table there are, for a progress bar."""
        with self._database.read() as connection:
            return connection.execute(select(func.count()).select_from(rows).where(*where)).scalar_one()

    def facts(self, source: Source) -> IterationFacts | None:
        """What an iteration made, in figures."""
        names = [field.name for field in fields(IterationFacts)]
        view = table("iteration_summary", *(sql_column(name) for name in ("run", *names)))
        query = select(*(view.c[name] for name in names)).where(
            view.c.run == source.run, view.c.t == source.t
        )
        with self._database.read() as connection:
            row = connection.execute(query).one_or_none()
        return None if row is None else IterationFacts(**row._asdict())

    def trained_with(self, source: Source) -> dict[str, str]:
        """Versions of the libraries with which an iteration was trained, by name; empty when unknown."""
        query = select(Stage.versions).where(
            Stage.iteration_id == source.iteration_id, Stage.name == StageName.TRAIN
        )
        with self._database.read() as connection:
            return dict(connection.execute(query).scalar_one_or_none() or {})

    def pairs(self, source: Source, with_excluded: bool = False) -> Iterator[ExportedPair]:
        """The preference pairs of an iteration in the order of their prompts' ids."""
        query = PAIRS.where(PreferencePair.iteration_id == source.iteration_id)
        if not with_excluded:
            query = query.where(PreferencePair.excluded.is_(None))
        return self._pages(query, PAIR_KEY, lambda _, rows: [_pair(source, row) for row in rows])

    def candidates(self, source: Source) -> Iterator[ExportedCandidate]:
        """All candidates of an iteration in the order of their ids, failed ones too."""
        judged_by = self._judged_by(source)

        def exported(connection: Connection, rows: list[AnyRow]) -> list[ExportedCandidate]:
            scores = scores_of(connection, source, rows)
            return [
                _candidate(source, judged_by, row, scores.get(row.candidate_id, (None, 0, 0))) for row in rows
            ]

        return self._pages(candidates_of(source), (Candidate.id,), exported)

    def judgements(self, source: Source) -> Iterator[ExportedJudgement]:
        """The judgements that count of an iteration's candidates, in the order of the candidates' ids."""
        judge = self.judge(source.judge_id)
        if judge is None:
            return iter(())

        def exported(connection: Connection, rows: list[AnyRow]) -> list[ExportedJudgement]:
            judged = {row.candidate_id: row for row in rows}
            found = connection.execute(judgements_of(source, rows)).all()
            return [
                _judgement(source, judge, row, judged[row.candidate_id])
                for row in found
                if row.candidate_id in judged
            ]

        return self._pages(candidates_of(source), (Candidate.id,), exported)

    def examples(self, source: Source) -> Iterator[ExportedExample]:
        """The examples that the bootstrap kept, in the order of their ids."""
        query = EXAMPLES.where(SftExample.iteration_id == source.iteration_id, SftExample.kept.is_(True))
        return self._pages(query, (SftExample.id,), lambda _, rows: [_example(source, row) for row in rows])

    def best(
        self, source: Source, least_score: float | None = None, min_scores: int = 1
    ) -> Iterator[ExportedExample]:
        """Of each prompt the answer with the highest mean of at least `min_scores`, the first of equals.

        Answers that were cut off are left out: they would teach to stop in the middle.
        """
        query = select(Prompt.id.label("key"), Prompt.text.label("prompt")).where(
            Prompt.iteration_id == source.data_iteration_id, Prompt.status == PromptStatus.ACCEPTED
        )

        def exported(connection: Connection, rows: list[AnyRow]) -> list[ExportedExample]:
            best = best_answers(connection, source, rows, min_scores)
            return [
                _best(source, row, best[row.key])
                for row in rows
                if row.key in best and (least_score is None or best[row.key].score >= least_score)
            ]

        return self._pages(query, (Prompt.id,), exported)

    def _judged_by(self, source: Source) -> str | None:
        judge = self.judge(source.judge_id)
        return None if judge is None else judge.checkpoint

    def _pages(
        self,
        query: AnySelect,
        key: tuple[Any, ...],
        exported: Callable[[Connection, list[AnyRow]], list[Result]],
    ) -> Iterator[Result]:
        """What `exported` makes of each page of a query, whose first columns are the `key` it is paged by."""
        after: tuple[Any, ...] = (0,) * len(key)
        while True:
            with self._database.read() as connection:
                page = query.where(tuple_(*key) > after).order_by(*key).limit(self._page)
                rows = list(connection.execute(page).all())
                made = exported(connection, rows) if rows else []
            yield from made
            if len(rows) < self._page:
                return
            after = tuple(rows[-1][: len(key)])


def _pair(source: Source, row: AnyRow) -> ExportedPair:
    values = row._asdict()
    turns = {
        "prompt": user(row.prompt),
        "chosen": assistant(row.chosen),
        "rejected": assistant(row.rejected),
    }
    writer = None if row.judge_id is None else source.written_by
    return ExportedPair(**values | turns, run=source.run, iteration=source.t, written_by=writer)


def _candidate(
    source: Source, judged_by: str | None, row: AnyRow, scores: tuple[float | None, int, int]
) -> ExportedCandidate:
    mean, asked, read = scores
    values = row._asdict()
    writer = values.pop("anchor_of") or source.written_by
    return ExportedCandidate(
        **values | {"mean_logprob": _finite(row.mean_logprob)},
        mean_score=mean,
        judgements=asked,
        readable=read,
        run=source.run,
        iteration=source.t,
        written_by=writer,
        judged_by=judged_by,
        judge_id=source.judge_id,
    )


def _judgement(source: Source, judge: JudgeFacts, row: AnyRow, judged: AnyRow) -> ExportedJudgement:
    assert source.judge_id is not None
    probabilities = None if row.probabilities is None else tuple(map(float, row.probabilities))
    return ExportedJudgement(
        **row._asdict() | {"probabilities": probabilities},
        prompt=judged.prompt,
        response=judged.text,
        prompt_id=judged.prompt_id,
        run=source.run,
        iteration=source.t,
        written_by=judged.anchor_of or source.written_by,
        judged_by=judge.checkpoint,
        judge_id=source.judge_id,
        template=judge.template,
        template_digest=judge.template_digest,
    )


def _example(source: Source, row: AnyRow) -> ExportedExample:
    return ExportedExample(
        prompt=user(row.input),
        completion=assistant(row.completion),
        source=row.kind,
        score=row.score,
        example_id=row.example_id,
        candidate_id=None,
        prompt_id=row.prompt_id,
        run=source.run,
        iteration=source.t,
        written_by=row.written_by,
    )


def _best(source: Source, prompt: AnyRow, answer: AnyRow) -> ExportedExample:
    return ExportedExample(
        prompt=user(prompt.prompt),
        completion=assistant(answer.text),
        source="best",
        score=answer.score,
        example_id=None,
        candidate_id=answer.id,
        prompt_id=prompt.key,
        run=source.run,
        iteration=source.t,
        written_by=source.written_by,
    )


def _finite(value: float | None) -> float | None:
    """JSON has no infinities."""
    return value if value is not None and math.isfinite(value) else None
