"""One iteration with all that belongs to it, and what the daemon did."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, func, select, text

from selfreward.store.browsed import (
    EventDetail,
    IterationDetail,
    JudgeDetail,
    Page,
    SessionDetail,
    SettingChange,
    StageDetail,
)
from selfreward.store.database import Database
from selfreward.store.references import checkpoint_refs, evaluations_of, iteration_refs
from selfreward.store.rows import AnyRow
from selfreward.store.schema import (
    Checkpoint,
    EngineSession,
    Event,
    GateCheck,
    Iteration,
    Judge,
    PairDecision,
    Prompt,
    Run,
    Setting,
    Stage,
)
from selfreward.store.scope import history, no_iteration
from selfreward.store.search import paged
from selfreward.types import (
    Gate,
    GateResult,
    GateState,
    PairOutcome,
    PromptStatus,
    RejectReason,
    StageName,
    Status,
)

COUNTS = (
    "prompts",
    "rejected_prompts",
    "candidates",
    "judgements",
    "readable",
    "mean_score",
    "pairs",
    "mean_margin",
    "steps",
)
EVENTS_SHOWN = 20
UP = "../../"
"""From a fork's directory to that of the run from which all forks come."""


class BrowseRuns:
    """Queries about iterations and events: a part of `Browse`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def iteration(self, run_id: int, t: int) -> IterationDetail:
        """Iteration t of a run's history. Raises BadInput with those that are there."""
        with self._database.read() as connection:
            used = history(connection, run_id)
            mine = next((row.id for row in used if row.t == t), None)
            if mine is None:
                raise no_iteration(used, t)
            return _iteration(connection, mine)

    def events(
        self,
        run_id: int,
        *,
        after: int | None = None,
        before: int | None = None,
        limit: int = 50,
        kinds: Sequence[str] = (),
    ) -> Page[EventDetail]:
        """Events of a run, oldest first: the first above `after`, or the last ones (below `before`)."""
        forward = after is not None
        wanted = Event.run_id == run_id
        if kinds:
            wanted &= Event.kind.in_(kinds)
        if after is not None:
            wanted &= Event.id > after
        elif before is not None:
            wanted &= Event.id < before
        with self._database.read() as connection:
            found = _events(connection, wanted, limit + 1, forward)
        more = len(found) > limit
        rows = found[:limit] if forward else found[-limit:]
        page = paged(rows, more, after, before)
        if forward or before is not None:
            return page
        return Page(rows=page.rows, after=None, before=rows[0].id if rows and more else None)

    def event_kinds(self, run_id: int) -> list[str]:
        """Kinds of events that a run has."""
        query = select(Event.kind).where(Event.run_id == run_id).distinct().order_by(Event.kind)
        with self._database.read() as connection:
            return list(connection.scalars(query))


def _iteration(connection: Connection, iteration_id: int) -> IterationDetail:
    row = connection.execute(
        select(Iteration, Iteration.t.label("number"), Run.name.label("run"), Setting.body)
        .join(Run, Run.id == Iteration.run_id)
        .join(Setting, Setting.hash == Iteration.setting_hash)
        .where(Iteration.id == iteration_id)
    ).one()
    refs = checkpoint_refs(connection)
    data_id = row.data_iteration_id or row.id
    trained = (
        ref for ref, of in refs.values() if of.run_id == row.run_id and of.name == f"M_{row.number + 1}"
    )
    return IterationDetail(
        id=row.id,
        run=row.run,
        t=row.number,
        status=Status(row.status),
        started_at=row.started_at,
        finished_at=row.finished_at,
        checkpoint=refs[row.checkpoint_id][0],
        trained=next(trained, None),
        reused=None if data_id == row.id else iteration_refs(connection, Iteration.id == data_id)[0],
        judge=_judge(connection, row.judge_id),
        counts=_counts(connection, row.run, row.number),
        outcomes=_outcomes(connection, row.id),
        rejected=_rejected(connection, data_id),
        scores=_scores(connection, row.run, row.number),
        stages=_stages(connection, row.id),
        gates=_gates(connection, row.id),
        sessions=_sessions(connection, row.id),
        changed=_changed(connection, row),
        settings=row.body,
        evaluations=evaluations_of(connection, refs[row.checkpoint_id][1]),
        events=tuple(_events(connection, _of_iteration(row), EVENTS_SHOWN, forward=False)),
    )


def _of_iteration(row: AnyRow) -> ColumnElement[bool]:
    return and_(Event.run_id == row.run_id, Event.iteration_id == row.id)


def _judge(connection: Connection, judge_id: int | None) -> JudgeDetail | None:
    query = (
        select(
            Judge.id,
            func.coalesce(Checkpoint.name, "independent").label("judged_by"),
            Judge.type,
            Judge.template,
            Judge.parameters,
        )
        .outerjoin(Checkpoint, Checkpoint.id == Judge.checkpoint_id)
        .where(Judge.id == judge_id)
    )
    row = connection.execute(query).one_or_none()
    return None if row is None else JudgeDetail(**row._asdict())


def _counts(connection: Connection, run: str, t: int) -> Mapping[str, float | int | None]:
    """As the view has them; all None for an iteration that was only measured."""
    query = text(f"SELECT {', '.join(COUNTS)} FROM iteration_summary WHERE run = :run AND t = :t")
    row = connection.execute(query, {"run": run, "t": t}).one_or_none()
    found = dict.fromkeys(COUNTS) if row is None else row._asdict()
    means = {name: found[name] for name in ("mean_score", "mean_margin")}
    return found | {name: None if mean is None else float(mean) for name, mean in means.items()}


def _scores(connection: Connection, run: str, t: int) -> Mapping[float, int]:
    query = text(
        "SELECT score, judgements FROM score_histogram"
        " WHERE run = :run AND t = :t AND score IS NOT NULL ORDER BY score"
    )
    found = connection.execute(query, {"run": run, "t": t})
    return {float(score): int(judgements) for score, judgements in found}


def _outcomes(connection: Connection, iteration_id: int) -> Mapping[PairOutcome, int]:
    query = select(PairDecision.outcome, func.count()).where(PairDecision.iteration_id == iteration_id)
    found = {key: count for key, count in connection.execute(query.group_by(PairDecision.outcome))}
    return {outcome: found[outcome] for outcome in PairOutcome if outcome in found}


def _rejected(connection: Connection, data_id: int) -> Mapping[RejectReason, int]:
    mine = (Prompt.iteration_id == data_id) & (Prompt.status == PromptStatus.REJECTED)
    query = select(Prompt.reject_reason, func.count()).where(mine).group_by(Prompt.reject_reason)
    found = {key: count for key, count in connection.execute(query)}
    return {reason: found[reason] for reason in RejectReason if reason in found}


def _stages(connection: Connection, iteration_id: int) -> tuple[StageDetail, ...]:
    columns = (
        Stage.name,
        Stage.status,
        Stage.attempts,
        Stage.detail,
        Stage.error,
        Stage.versions,
        Stage.started_at,
        Stage.finished_at,
    )
    query = select(*columns).where(Stage.iteration_id == iteration_id).order_by(Stage.id)
    return tuple(
        StageDetail(
            **row._asdict()
            | {
                "name": StageName(row.name),
                "status": Status(row.status),
                "versions": row.versions or {},
            }
        )
        for row in connection.execute(query)
    )


def _gates(connection: Connection, iteration_id: int) -> tuple[GateResult, ...]:
    query = select(GateCheck).where(GateCheck.iteration_id == iteration_id)
    found = {
        row.gate: GateResult(
            gate=Gate(row.gate),
            state=GateState(row.state),
            value=row.value,
            limit=row.limit_value,
            message=row.message,
        )
        for row in connection.execute(query)
    }
    return tuple(found[gate] for gate in Gate if gate in found)


def _sessions(connection: Connection, iteration_id: int) -> tuple[SessionDetail, ...]:
    query = (
        select(
            EngineSession.id,
            Checkpoint.name.label("checkpoint"),
            EngineSession.engine,
            EngineSession.seed,
            EngineSession.started_at,
            EngineSession.ready_at,
            EngineSession.finished_at,
            EngineSession.prompt_tokens,
            EngineSession.generated_tokens,
        )
        .join(Checkpoint, Checkpoint.id == EngineSession.checkpoint_id)
        .where(EngineSession.iteration_id == iteration_id)
        .order_by(EngineSession.id)
    )
    return tuple(SessionDetail(**row._asdict()) for row in connection.execute(query))


def _changed(connection: Connection, row: AnyRow) -> tuple[SettingChange, ...]:
    """Against the iteration before; of a fork's first one against that which it replaces."""
    origin = connection.execute(select(Run).where(Run.id == row.run_id)).one()
    first_of_fork = origin.parent_run_id is not None and origin.parent_iteration == row.number
    before = {used.t: used.id for used in history(connection, row.run_id)}.get(row.number - 1)
    if first_of_fork:
        theirs = {used.t: used.id for used in history(connection, origin.parent_run_id)}
        before = theirs.get(row.number, before)
    body = (
        select(Setting.body)
        .join(Iteration, Iteration.setting_hash == Setting.hash)
        .where(Iteration.id == before)
    )
    old = connection.execute(body).scalar_one_or_none()
    if old is None:
        return ()
    was, now = _flat(old), _flat(row.body)
    return tuple(
        SettingChange(key=key, old=was.get(key), new=value)
        for key, value in now.items()
        if key != "name" and _from_root(was.get(key)) != _from_root(value)
    )


def _from_root(value: Any) -> Any:
    """A setting as it would be without the way from a fork's directory up to that of the root run."""
    if isinstance(value, list):
        return [_from_root(part) for part in value]
    return value.replace(UP, "") if isinstance(value, str) else value


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Dotted key → value."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        found |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return found


def _events(
    connection: Connection, wanted: ColumnElement[bool], limit: int, forward: bool
) -> list[EventDetail]:
    """The first ones that are wanted, or the last ones; oldest first either way."""
    query = (
        select(Event.id, Event.at, Iteration.t, Event.kind, Event.message, Event.data)
        .outerjoin(Iteration, Iteration.id == Event.iteration_id)
        .where(wanted)
        .order_by(Event.id if forward else Event.id.desc())
        .limit(limit)
    )
    found = [EventDetail(**row._asdict()) for row in connection.execute(query)]
    return found if forward else found[::-1]
