"""What cards say of a run, from the database: lineage, settings, figures, gates, versions."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

import tomlkit

from selfreward.store import Store
from selfreward.store.exporting import Exporting
from selfreward.types import CheckpointRow, EvaluationRow, GateState, Suite

RAISED = (GateState.WARN, GateState.PAUSE, GateState.ACCEPTED)


@dataclass(frozen=True, kw_only=True)
class Ancestor:
    """A checkpoint in the lineage of another."""

    name: str
    kind: str
    parent: str | None
    digest: str
    run: str


@dataclass(frozen=True, kw_only=True)
class RaisedGate:
    """A health gate that did not pass before a training."""

    t: int
    gate: str
    state: str
    message: str


def lineage(store: Store, run_id: int, names: Collection[str]) -> list[Ancestor]:
    """The checkpoints of these names and all that they come from, the first one first."""
    rows = {row.id: row for row in store.runs.checkpoints(run_id)}
    runs = {node.id: node.name for node in store.runs.tree().values()}
    wanted: set[int] = set()
    for row in rows.values():
        if row.name in names:
            wanted |= _with_parents(row, rows)
    return [
        Ancestor(
            name=row.name,
            kind=row.kind,
            parent=rows[row.parent_id].name if row.parent_id in rows else None,
            digest=row.digest,
            run=runs[row.run_id],
        )
        for row in rows.values()
        if row.id in wanted
    ]


def _with_parents(row: CheckpointRow, rows: Mapping[int, CheckpointRow]) -> set[int]:
    found = {row.id}
    while row.parent_id is not None and row.parent_id in rows and row.parent_id not in found:
        row = rows[row.parent_id]
        found.add(row.id)
    return found


def figures(
    store: Store, run_id: int, names: Collection[str], suites: Collection[Suite] = tuple(Suite)
) -> list[EvaluationRow]:
    """What was measured of these checkpoints, by checkpoint, suite and metric."""
    order = {row.name: place for place, row in enumerate(store.runs.checkpoints(run_id))}
    rows = [row for row in store.evaluations.rows(run_id) if row.checkpoint in names and row.suite in suites]
    return sorted(rows, key=lambda row: order[row.checkpoint])


def raised_gates(store: Store, run_id: int, iterations: Collection[int]) -> list[RaisedGate]:
    """The gates that did not pass in these iterations."""
    return [
        RaisedGate(t=t, gate=found.gate, state=found.state, message=found.message)
        for t, found in store.gates.rows(run_id)
        if t in iterations and found.state in RAISED
    ]


def settings_text(store: Store, run_id: int, t: int, sections: Sequence[str]) -> str:
    """These sections of the settings of iteration t as TOML, without the places of files on this machine."""
    row = store.runs.iteration_in_history(run_id, t)
    body: Mapping[str, Any] = {} if row is None else store.runs.settings_of(row)
    return tomlkit.dumps({name: _public(body[name]) for name in sections if name in body}).strip()


def base_model(store: Store, run_id: int) -> str:
    """What `model` was set to when the run's first iteration ran; of a path only its last part."""
    for source in Exporting(store.database).sources(run_id):
        row = store.runs.iteration_in_history(run_id, source.t)
        if row is not None:
            return str(_public(store.runs.settings_of(row).get("model", "")))
    return ""


def _public(value: Any) -> Any:
    """A setting without what is not set, and without absolute paths."""
    if isinstance(value, Mapping):
        return {key: _public(inner) for key, inner in value.items() if inner is not None}
    if isinstance(value, list | tuple):
        return [_public(inner) for inner in value]
    if isinstance(value, str) and PurePath(value).is_absolute():
        return PurePath(value).name
    return value


def counted(counts: Mapping[Any, int] | Iterable[tuple[Any, int]]) -> str:
    """Counts in words, the largest first: `10 paired, 2 tie`."""
    pairs = counts.items() if isinstance(counts, Mapping) else counts
    return ", ".join(f"{n} {name}" for name, n in sorted(pairs, key=lambda pair: (-pair[1], str(pair[0]))))
