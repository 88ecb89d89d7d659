"""Where the newest runs stand, at one moment: iterations, stages, daemons, and their last words."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, and_, func, select

from selfreward.store.rows import AnySelect, now
from selfreward.store.schema import ControlRequest, Event, Iteration, Lease, Run, Setting, Stage
from selfreward.types import Status

PAUSED = "paused"
TURNS = (PAUSED, "resumed", "started", "stopped", "halted", "failed")
"""Events after which a daemon rests, works or is gone."""
MOST_RUNS = 50
"""Of more runs, only those are told of whose daemons were seen last."""

Row = tuple[Any, ...]
Rows = Iterator[Row]
"""Values of labels, with a number at their end."""


@dataclass(frozen=True, kw_only=True)
class Now:
    """Where a run stands."""

    run: str
    iteration_id: int
    t: int
    status: Status


class Standing:
    """The figures, within one read transaction: the part of `Snapshot` that counts nothing."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.runs = _newest_runs(connection)
        """Name by id."""
        self.now = _latest_iterations(connection, self.runs)
        """By the run's id; a run that has not begun is not in it."""

    def runs_by_parent(self) -> Rows:
        """(run, parent's name or empty, iteration it was forked from or empty, 1)."""
        parent = Run.__table__.alias("parent")
        query = (
            select(Run.name, func.coalesce(parent.c.name, ""), Run.parent_iteration)
            .outerjoin(parent, parent.c.id == Run.parent_run_id)
            .where(Run.id.in_(self.runs))
            .order_by(Run.id)
        )
        for name, above, t in self._rows(query):
            yield name, above, "" if t is None else str(t), 1

    def iterations(self) -> Rows:
        """(run, t) of the iteration that was last worked on."""
        yield from ((here.run, here.t) for here in self.now.values())

    def iteration_statuses(self) -> Rows:
        """(run, status, whether it is this one)."""
        for here in self.now.values():
            yield from ((here.run, status, int(here.status == status)) for status in Status)

    def iterations_done(self) -> Rows:
        """(run, iterations of its own that are done)."""
        done = func.count().filter(Iteration.status == Status.DONE)
        yield from self._by_run(select(Iteration.run_id, done).group_by(Iteration.run_id), Iteration.run_id)

    def stage_statuses(self) -> Rows:
        """(run, stage, status, whether it is this one) of the stages that the current iteration has begun."""
        for run, name, status in self._stages(Stage.status):
            yield from ((run, name, each, int(status == each)) for each in Status)

    def stage_attempts(self) -> Rows:
        """(run, stage, starts) in the current iteration."""
        yield from self._stages(Stage.attempts)

    def settings_of(self, run: str) -> Mapping[str, Any]:
        """The settings that a run's current iteration is worked on with; empty before there is one."""
        keys = [place.iteration_id for place in self.now.values() if place.run == run]
        query = select(Setting.body).join(Iteration, Iteration.setting_hash == Setting.hash)
        return self._connection.execute(query.where(Iteration.id.in_(keys))).scalar() or {}

    def events(self, *kinds: str) -> Rows:
        """(run, kind, events) of all kinds, or (run, events) of these."""
        query = select(Event.run_id, Event.kind, func.count()).group_by(Event.run_id, Event.kind)
        if not kinds:
            yield from self._by_run(query, Event.run_id)
            return
        found = dict.fromkeys(self.runs.values(), 0)
        for run, _, count in self._by_run(query.where(Event.kind.in_(kinds)), Event.run_id):
            found[run] += count
        yield from found.items()

    def resting(self) -> Rows:
        """(run, reasons for which its daemon rests): none while it works, and none when it is gone."""
        for key, run in self.runs.items():
            mine = (Event.run_id == key) & Event.kind.in_(TURNS)
            query = select(Event.kind, Event.data).where(mine).order_by(Event.id.desc()).limit(1)
            row = self._connection.execute(query).first()
            paused = row is not None and row.kind == PAUSED
            yield run, tuple(row.data.get("reasons", ())) if row is not None and paused else ()

    def leases(self) -> Rows:
        """(run, fence, seconds since the last sign of life, whether it was given back)."""
        query = select(Lease.run_id, Lease.fence, Lease.heartbeat_at, Lease.released_at)
        moment = now()
        for run, fence, beat, released in self._by_run(query, Lease.run_id):
            yield run, fence, max(0.0, (moment - beat).total_seconds()), int(released is not None)

    def open_requests(self) -> Rows:
        """(run, requests that no daemon has taken up)."""
        query = select(ControlRequest.run_id, func.count()).where(ControlRequest.handled_at.is_(None))
        found = dict.fromkeys(self.runs.values(), 0)
        found |= dict(self._by_run(query.group_by(ControlRequest.run_id), ControlRequest.run_id))
        yield from found.items()

    def _rows(self, query: AnySelect) -> Sequence[Row]:
        return [tuple(row) for row in self._connection.execute(query)]

    def _by_run(self, query: AnySelect, key: Any) -> Rows:
        """Rows with the run's name in place of its id, which they begin with."""
        for run_id, *rest in self._rows(query.where(key.in_(self.runs))):
            yield self.runs[run_id], *rest

    def _stages(self, column: Any) -> Rows:
        mine = {here.iteration_id: here.run for here in self.now.values()}
        query = select(Stage.iteration_id, Stage.name, column).where(Stage.iteration_id.in_(mine))
        for key, *rest in self._rows(query.order_by(Stage.id)):
            yield mine[key], *rest


def _newest_runs(connection: Connection) -> Mapping[int, str]:
    seen = func.coalesce(Lease.heartbeat_at, Run.created_at)
    query = select(Run.id, Run.name).outerjoin(Lease, Lease.run_id == Run.id)
    rows = connection.execute(query.order_by(seen.desc(), Run.id.desc()).limit(MOST_RUNS)).all()
    return dict(sorted((key, name) for key, name in rows))


def _latest_iterations(connection: Connection, runs: Mapping[int, str]) -> Mapping[int, Now]:
    newest = (
        select(Iteration.run_id, func.max(Iteration.t).label("t"))
        .where(Iteration.status != Status.PENDING, Iteration.run_id.in_(runs))
        .group_by(Iteration.run_id)
        .subquery()
    )
    query = (
        select(Iteration.run_id, Iteration.id, Iteration.t, Iteration.status)
        .join(newest, and_(newest.c.run_id == Iteration.run_id, newest.c.t == Iteration.t))
        .order_by(Iteration.run_id)
    )
    return {
        run: Now(run=runs[run], iteration_id=key, t=t, status=Status(status))
        for run, key, t, status in connection.execute(query)
    }
