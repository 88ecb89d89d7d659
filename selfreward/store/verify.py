"""Whether the database is whole: its pages, its references, and the rows that its stages say are there.

Every look is one statement over indexed columns, and all of them see one moment: what a daemon does
meanwhile changes nothing. A stage that is not done is held to its cursor, below which nothing may lack.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, select
from sqlalchemy.exc import DBAPIError

from selfreward.store.database import Database
from selfreward.store.lineage import lineage
from selfreward.store.migrate import current_revision, head_revision
from selfreward.store.recount import wrong_tallies
from selfreward.store.schema import Checkpoint, Event, Iteration, Run, Setting, Stage
from selfreward.store.tally import Facts, candidates, iteration_counts, pairs
from selfreward.text import restore_values
from selfreward.types import StageName, Status

Look = Callable[[Connection], "Check"]
MOST_TOLD = 10
"""Problems of one kind that are told."""
SNAPSHOT = "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"
UNCHECKED = """
    SELECT conrelid::regclass || ': ' || conname FROM pg_constraint
    WHERE NOT convalidated AND connamespace = current_schema()::regnamespace
"""


@dataclass(frozen=True, kw_only=True)
class Check:
    """One thing that was looked at."""

    name: str
    looked_at: str
    """How much of it there was, in words."""
    problems: tuple[str, ...] = ()
    """What is wrong; empty when nothing is."""
    notes: tuple[str, ...] = ()
    """What is not wrong, but good to know."""


def examine(database: Database) -> Iterator[Check]:
    """Look at everything in the database, a check at a time, as it was at the first one."""
    schema = _schema(database)
    yield schema
    with database.read() as connection:
        if not database.is_sqlite:
            connection.exec_driver_sql(SNAPSHOT)
        looks = (_pages, _references) if database.is_sqlite else (_constraints,)
        for look in looks if schema.problems else (*looks, *LOOKS):
            check = _looked(look, connection)
            yield check
            if check.problems and look is _pages:
                return  # what is in them says nothing


def told(name: str, looked_at: str, problems: Sequence[str]) -> Check:
    """A check with no more problems than one wants to read."""
    shown = tuple(problems[:MOST_TOLD])
    more = len(problems) - len(shown)
    rest = (f"and {more} more",) if more else ()
    return Check(name=name, looked_at=looked_at, problems=shown + rest)


def _looked(look: Look, connection: Connection) -> Check:
    """What came of it; a database that cannot even be read says so in its own words."""
    try:
        return look(connection)
    except DBAPIError as error:
        return told(look.__name__.strip("_"), "", [str(error.orig)])


def _schema(database: Database) -> Check:
    current, head = current_revision(database), head_revision()
    problem = f"at revision {current or 'none'}; this version needs {head}: selfreward db upgrade"
    return told("schema", f"revision {current or 'none'}", [] if current == head else [problem])


def _pages(connection: Connection) -> Check:
    """SQLite: every page, index entry, unique key and check constraint."""
    pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
    found = connection.exec_driver_sql(f"PRAGMA integrity_check({MOST_TOLD})").scalars().all()
    return told("integrity", f"{pages:,} pages", [] if found == ["ok"] else found)


def _constraints(connection: Connection) -> Check:
    """PostgreSQL holds rows to its constraints, unless somebody has added one that it never checked."""
    total = connection.exec_driver_sql("SELECT count(*) FROM pg_constraint WHERE conrelid <> 0").scalar_one()
    found = connection.exec_driver_sql(UNCHECKED).scalars().all()
    return told("constraints", f"{total:,} constraints", [f"{name} was never checked" for name in found])


def _references(connection: Connection) -> Check:
    found = connection.exec_driver_sql("PRAGMA foreign_key_check").all()
    problems = [f"row {row[1]} of {row[0]} refers to a row of {row[2]} that is not there" for row in found]
    return told("references", "all tables", problems)


def _settings(connection: Connection) -> Check:
    rows = connection.execute(select(Setting.hash, Setting.body)).all()
    wrong = [
        f"{row.hash[:12]} is not the hash of its settings" for row in rows if row.hash != _hash(row.body)
    ]
    return told("settings", f"{len(rows):,} settings", wrong)


def _hash(body: Any) -> str:
    """As `Settings.digest`, without reading them: they may be those of another version."""
    canonical = json.dumps(restore_values(body), sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(canonical.encode(errors="surrogatepass")).hexdigest()


def _iterations(connection: Connection) -> Check:
    """Each works on its M_t, has data of its own or of the run it was forked from, and left its M_{t+1}."""
    facts = _facts(connection)
    problems = [problem for each in facts for problem in _iteration(connection, each, facts)]
    return told("iterations", f"{len(facts):,} iterations", problems)


def _iteration(connection: Connection, facts: Facts, others: Sequence[Facts]) -> Iterator[str]:
    known = {each.id: each for each in others}
    if facts.version != facts.t:
        yield f"{facts.name} works on a checkpoint of version {facts.version}"
    data = known.get(facts.data_iteration_id or 0)
    history = {link.run_id for link in lineage(connection, facts.run_id)}
    if data is None or data.t != facts.t or data.run_id not in history:
        yield f"{facts.name} has no valid data_iteration_id"
    if facts.status == Status.DONE and not _has_successor(connection, facts):
        yield f"{facts.name} is done, and there is no M_{facts.t + 1}"
    for stage in (StageName.SELF_INSTRUCT, StageName.SAMPLE, StageName.JUDGE, StageName.PAIR):
        if facts.status == Status.DONE and facts.t and facts.stages.get(stage, (Status.DONE, 0))[0] != "done":
            yield f"{facts.name} is done, and its stage {stage} is not"


def _has_successor(connection: Connection, facts: Facts) -> bool:
    mine = (Checkpoint.run_id == facts.run_id) & (Checkpoint.name == f"M_{facts.t + 1}")
    return connection.execute(select(Checkpoint.id).where(mine)).first() is not None


def _counts(connection: Connection) -> Check:
    """What each stage of each iteration says is there, is there."""
    facts = [each for each in _facts(connection) if each.t and each.data_iteration_id]
    problems = [problem for each in facts for problem in iteration_counts(connection, each)]
    return told("counts", f"{sum(len(each.stages) for each in facts):,} stages", problems)


def _candidates(connection: Connection) -> Check:
    total, problems = candidates(connection)
    return told("candidates", f"{total:,} candidates", problems)


def _pairs(connection: Connection) -> Check:
    total, problems = pairs(connection)
    return told("pairs", f"{total:,} pairs", problems)


def _tallies(connection: Connection) -> Check:
    """What is counted as rows are stored is what there is."""
    total, problems = wrong_tallies(connection)
    return told("tallies", f"{total:,} tallies", problems)


LOOKS: tuple[Look, ...] = (_settings, _iterations, _counts, _candidates, _pairs, _tallies)


def _facts(connection: Connection) -> list[Facts]:
    """Every iteration with its stages and all the settings it was worked on with."""
    bodies = {row.hash: row.body for row in connection.execute(select(Setting.hash, Setting.body))}
    stages: dict[int, dict[str, tuple[str, int]]] = {}
    for row in connection.execute(select(Stage.iteration_id, Stage.name, Stage.status, Stage.cursor)):
        stages.setdefault(row.iteration_id, {})[row.name] = (row.status, row.cursor)
    hashes = _hashes(connection)
    query = (
        select(
            Iteration.id,
            Iteration.run_id,
            Iteration.t,
            Iteration.status,
            Iteration.data_iteration_id,
            Iteration.judge_id,
            Checkpoint.version,
            Run.name.label("run"),
            Run.parent_iteration.label("fork"),
        )
        .join(Checkpoint, Checkpoint.id == Iteration.checkpoint_id)
        .join(Run, Run.id == Iteration.run_id)
        .order_by(Iteration.id)
    )
    return [
        Facts(
            **row._asdict(),
            stages=stages.get(row.id, {}),
            settings=tuple(
                bodies[key]
                for key in sorted(hashes.get(row.id, set()) | hashes.get(row.data_iteration_id, set()))
                if key in bodies
            ),
        )
        for row in connection.execute(query)
    ]


def _hashes(connection: Connection) -> dict[int, set[str]]:
    """Hashes of the settings of each iteration: one may accept changed ones in its midst."""
    found: dict[int, set[str]] = {}
    for row in connection.execute(select(Iteration.id, Iteration.setting_hash)):
        found[row.id] = {row.setting_hash}
    begun = select(Event.iteration_id, Event.data).where(Event.kind == "iteration")
    for iteration_id, data in connection.execute(begun):
        if iteration_id in found and isinstance(data.get("settings"), str):
            found[iteration_id].add(data["settings"])
    return found
