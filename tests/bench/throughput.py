"""Rows per second through the store's own methods, in the daemon's batches, beside the bare driver's.

Both write the same rows in transactions of the same size to the same tables. The store looks at its fence,
ignores repeats, cleans texts and moves the stage's cursor besides. Rounds alternate: store, driver, store, …
"""

import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import psycopg
from sqlalchemy import select

from selfreward.store import Store
from selfreward.store.schema import Candidate, Prompt
from selfreward.types import (
    CandidateStatus,
    JudgementStatus,
    NewCandidate,
    NewJudgement,
    PromptStatus,
    StageName,
)
from tests.bench.bulk import InProgress
from tests.bench.figures import Figure

BATCH, BATCHES, ROUNDS = 64, 60, 3
FREE = 100
"""Places of candidates and judgements from which on the generated run has none."""
CANDIDATE = (
    "iteration_id", "prompt_id", "candidate_index", "session_id", "text", "status", "finish_reason",
    "token_count", "mean_logprob", "created_at",
)  # fmt: skip
JUDGEMENT = (
    "candidate_id", "judge_id", "sample", "session_id", "raw_text", "status", "score", "token_count",
    "finish_reason", "created_at",
)  # fmt: skip
ANSWER = (
    "An answer of some length, as a model of any size would give one: plain words, a reason, an end. " * 3
)
REASON = "It answers the question, gives a reason and stays short. Nothing in it is wrong.\nScore: 3"
AT = "2025-03-04 05:06:07.000000+00:00"
Rows = Sequence[tuple[Any, ...]]
Write = Callable[[Rows], None]


@dataclass(frozen=True, kw_only=True)
class Side:
    """A way to write a batch."""

    name: str
    write: Write


def figures(store: Store, run: InProgress, database: str) -> Iterator[Figure]:
    """Candidates, then judgements, written to the iteration in progress."""
    place = run.place
    store.leases.take(place.run.id, 60)
    with _driver(store) as insert:
        prompts = _ids(store, Prompt, run, Prompt.status == PromptStatus.ACCEPTED)
        sides = (_store_candidates(store, run), _driver_candidates(insert, run))
        yield _figure(f"candidates a second, {database}", sides, prompts)
        candidates = _ids(store, Candidate, run, Candidate.status == CandidateStatus.OK)
        sides = (_store_judgements(store, run), _driver_judgements(insert, run))
        yield _figure(f"judgements a second, {database}", sides, candidates)
    store.leases.release()


def _ids(store: Store, table: Any, run: InProgress, condition: Any) -> list[int]:
    query = select(table.id).where(table.iteration_id == run.place.iteration.id, condition)
    with store.database.read() as connection:
        return list(connection.scalars(query.order_by(table.id).limit(BATCH * BATCHES)))


def _figure(name: str, sides: tuple[Side, Side], parents: Sequence[int]) -> Figure:
    """Each side writes a row a parent in every round, at places of its own."""
    seconds: dict[str, list[float]] = {side.name: [] for side in sides}
    for turn in range(ROUNDS * len(sides)):
        side = sides[turn % len(sides)]
        rows = [(parent, FREE + turn) for parent in parents]
        batches = [rows[start : start + BATCH] for start in range(0, len(rows), BATCH)]
        began = time.perf_counter()
        for batch in batches:
            side.write(batch)
        seconds[side.name].append(time.perf_counter() - began)
    ours, bare = (ROUNDS * len(parents) / sum(seconds[side.name]) for side in sides)
    return Figure(
        name=name,
        reached=f"{ours:,.0f}",
        note=f"in transactions of {BATCH} rows; the driver's executemany in the same ones: {bare:,.0f} "
        f"({ours / bare:.0%} of it)",
        data={"rows_a_second": ours, "driver_rows_a_second": bare, "seconds": seconds, "batch": BATCH},
    )


def _store_candidates(store: Store, run: InProgress) -> Side:
    stage = store.runs.begin_stage(run.place.iteration.id, StageName.SAMPLE).id

    def write(rows: Rows) -> None:
        new = [
            NewCandidate(
                prompt_id=prompt,
                index=index,
                text=ANSWER,
                status=CandidateStatus.OK,
                finish_reason="stop",
                token_count=60,
                mean_logprob=-0.7,
            )
            for prompt, index in rows
        ]
        store.candidates.add(run.place.iteration.id, stage, None, new, rows[-1][0])

    return Side(name="store", write=write)


def _driver_candidates(insert: Callable[[str, Sequence[str], Rows], None], run: InProgress) -> Side:
    iteration = run.place.iteration.id

    def write(rows: Rows) -> None:
        fixed = (None, ANSWER, "ok", "stop", 60, -0.7, AT)
        insert("candidate", CANDIDATE, [(iteration, prompt, index, *fixed) for prompt, index in rows])

    return Side(name="driver", write=write)


def _store_judgements(store: Store, run: InProgress) -> Side:
    stage = store.runs.begin_stage(run.place.iteration.id, StageName.JUDGE).id

    def write(rows: Rows) -> None:
        new = [
            NewJudgement(
                candidate_id=candidate,
                sample=sample,
                raw_text=REASON,
                status=JudgementStatus.READ,
                score=3.0,
                token_count=30,
                finish_reason="stop",
            )
            for candidate, sample in rows
        ]
        store.candidates.add_judgements(run.judge, stage, None, new, rows[-1][0])

    return Side(name="store", write=write)


def _driver_judgements(insert: Callable[[str, Sequence[str], Rows], None], run: InProgress) -> Side:
    def write(rows: Rows) -> None:
        fixed = (None, REASON, "read", 3.0, 30, "stop", AT)
        insert("judgement", JUDGEMENT, [(candidate, run.judge, sample, *fixed) for candidate, sample in rows])

    return Side(name="driver", write=write)


def _driver(store: Store) -> "closing[Any]":
    return closing(_Sqlite(store) if store.database.is_sqlite else _Postgresql(store))


class _Sqlite:
    """`sqlite3` with the store's own pragmas."""

    def __init__(self, store: Store) -> None:
        self._connection = sqlite3.connect(str(store.database.url.database), isolation_level=None)
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
            self._connection.execute(f"PRAGMA {pragma}")

    def __call__(self, table: str, columns: Sequence[str], rows: Rows) -> None:
        marks = ", ".join("?" * len(columns))
        self._connection.execute("BEGIN IMMEDIATE")
        self._connection.executemany(f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({marks})", rows)
        self._connection.execute("COMMIT")

    def close(self) -> None:
        self._connection.close()


class _Postgresql:
    """`psycopg` as it is."""

    def __init__(self, store: Store) -> None:
        url = store.database.url.set(drivername="postgresql")
        self._connection = psycopg.connect(url.render_as_string(hide_password=False))

    def __call__(self, table: str, columns: Sequence[str], rows: Rows) -> None:
        marks = ", ".join(["%s"] * len(columns))
        statement = f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({marks})"
        with self._connection.transaction(), self._connection.cursor() as cursor:
            cursor.executemany(statement, rows)

    def close(self) -> None:
        self._connection.close()
