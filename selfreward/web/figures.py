"""The views of the schema as the pages read them: a run's whole history, and what is done read only once.

An iteration that is done stays as it is, so its rows are kept for as long as its last event is the same.
What is still being worked on is read again, by plots every few seconds at most.
"""

import threading
import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import bindparam, func, select, text

from selfreward.store.database import Database
from selfreward.store.lineage import Link, lineage, nodes
from selfreward.store.schema import Event, Iteration
from selfreward.types import Status

MOST_KEPT = 4096
"""(view, iteration) pairs."""
KEEP_S = 20.0
"""How old a plot of what is being worked on may be."""
VIEWS = frozenset(
    {
        "iteration_summary",
        "score_histogram",
        "judge_health",
        "pair_outcomes",
        "length_by_iteration",
        "throughput",
        "training_curve",
    }
)
ViewRow = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Own:
    """An iteration of a run's history."""

    run: str
    """The run that made it: the run itself, or one that it was forked from."""
    t: int
    status: str
    mark: str
    """Changes whenever something has happened in it."""

    @property
    def settled(self) -> bool:
        """Whether its rows stay as they are."""
        return self.status == Status.DONE


class Figures:
    """Rows of views by run. Any thread may ask; two that ask for the same view wait for each other."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._kept: OrderedDict[tuple[str, str, int], tuple[str, tuple[ViewRow, ...]]] = OrderedDict()
        self._locks = {view: threading.Lock() for view in VIEWS}
        self._lock = threading.Lock()

    def history(self, run_id: int) -> list[Own]:
        """The iterations of a run and of what it was forked from, oldest first."""
        with self._database.read() as connection:
            names, links = nodes(connection), lineage(connection, run_id)
            last = select(func.max(Event.id)).where(
                Event.run_id == Iteration.run_id, Event.iteration_id == Iteration.id
            )
            columns = (Iteration.run_id, Iteration.t, Iteration.status, Iteration.finished_at)
            mine = Iteration.run_id.in_([link.run_id for link in links])
            query = select(*columns, last.scalar_subquery()).where(mine).order_by(Iteration.t)
            return [
                Own(run=names[key].name, t=t, status=status, mark=f"{status}:{finished}:{event}")
                for key, t, status, finished, event in connection.execute(query)
                if _counts(links, key, t)
            ]

    def rows(self, view: str, run_id: int, fresh: bool = False) -> tuple[ViewRow, ...]:
        """The view's rows of a run's history, by iteration.

        What is not done is read anew when `fresh`, else where what is known of it is older than KEEP_S.
        """
        known = self.history(run_id)
        with self._locks[view]:
            wanted = {(own.run, own.t): _mark(own, fresh) for own in known}
            lacking = [key for key, mark in wanted.items() if self._get(view, key)[0] != mark]
            for run in dict.fromkeys(run for run, _ in lacking):
                numbers = [t for other, t in lacking if other == run]
                for t, rows in self._read(view, run, numbers).items():
                    self._keep(view, (run, t), wanted[run, t], rows)
            return tuple(row for key in wanted for row in self._get(view, key)[1])

    def _get(self, view: str, key: tuple[str, int]) -> tuple[str, tuple[ViewRow, ...]]:
        with self._lock:
            return self._kept.get((view, *key), ("", ()))

    def _keep(self, view: str, key: tuple[str, int], mark: str, rows: tuple[ViewRow, ...]) -> None:
        with self._lock:
            self._kept[view, *key] = (mark, rows)
            self._kept.move_to_end((view, *key))
            while len(self._kept) > MOST_KEPT:
                self._kept.popitem(last=False)

    def _read(self, view: str, run: str, numbers: Sequence[int]) -> dict[int, tuple[ViewRow, ...]]:
        assert view in VIEWS
        query = text(f"SELECT * FROM {view} WHERE run = :run AND t IN :numbers ORDER BY t")
        bound = query.bindparams(bindparam("numbers", expanding=True))
        with self._database.read() as connection:
            found = connection.execute(bound, {"run": run, "numbers": list(numbers)}).mappings().all()
        rows = thinned(found) if view == "training_curve" else found
        return {t: tuple(dict(row) for row in rows if row["t"] == t) for t in numbers}


MOST_STEPS = 240
"""Steps of one training that are kept for its curve."""


def thinned(rows: Sequence[Any]) -> list[Any]:
    """Of each iteration's steps at most so many, evenly, its last among them."""
    by_iteration: dict[int, list[Any]] = {}
    for row in sorted(rows, key=lambda row: (row["t"], row["step"])):
        by_iteration.setdefault(row["t"], []).append(row)
    kept = []
    for steps in by_iteration.values():
        stride = -(-len(steps) // MOST_STEPS)
        kept += steps[:-1:stride] + steps[-1:]
    return kept


def _counts(links: Sequence[Link], run_id: int, t: int) -> bool:
    return any(link.run_id == run_id and link.holds_iteration(t) for link in links)


def _mark(own: Own, fresh: bool) -> str:
    if own.settled:
        return own.mark
    moment = time.monotonic() if fresh else time.monotonic() // KEEP_S
    return f"{own.mark}:{moment}"
