"""Pages of prompts by what became of them, their scores and their words: by key, over indexes.

Everything is in the order of the prompts' ids, and the iterations that are asked for bound those ids: a
page is a walk along one index from where the last one ended. Which index depends on the filter: a rare
word, outcome or margin must not be looked for prompt by prompt.
"""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    bindparam,
    column,
    false,
    func,
    literal_column,
    select,
    table,
)
from sqlalchemy.sql.selectable import FromClause

from selfreward.store.browsed import Page, PromptFilter, PromptListRow
from selfreward.store.database import Database
from selfreward.store.lineage import seeds_of
from selfreward.store.rows import AnySelect
from selfreward.store.schema import Candidate, Iteration, PairDecision, PreferencePair, Prompt
from selfreward.store.scope import Used, history, only
from selfreward.text import clean
from selfreward.types import PairOutcome, PromptSource, PromptStatus, RejectReason

PAGE = 50
FOUND = table("prompt_search", column("rowid"))
"""SQLite's full-text index of prompt.text."""


class Search:
    """Queries that list prompts: a part of `Browse`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def prompts(
        self,
        run_id: int,
        wanted: PromptFilter | None = None,
        *,
        after: int | None = None,
        before: int | None = None,
        limit: int = PAGE,
    ) -> Page[PromptListRow]:
        """Prompts of a run with ids above `after`, or the last ones below `before`, by id.

        A fork shows the prompts its history uses with its own pairs. Raises BadInput for an iteration that
        is not there.
        """
        wanted = wanted or PromptFilter()
        with self._database.read() as connection:
            used = only(history(connection, run_id), wanted.t)
            ids = _ids(connection, run_id, wanted, used, after, before, limit + 1)
            more, ids = len(ids) > limit, ids[:limit]
            rows = _rows(connection, sorted(ids), used)
        return paged(rows, more, after, before)


def paged(rows: Sequence[Any], more: bool, after: int | None, before: int | None) -> Page[Any]:
    """A page of rows in the order of their ids; `more` are there in the direction of reading."""
    backward = before is not None
    further, back = (more, bool(rows)) if not backward else (bool(rows), more)
    came_from = bool(after) or backward
    return Page(
        rows=tuple(rows),
        after=rows[-1].id if rows and further else None,
        before=rows[0].id if rows and back and came_from else None,
    )


def words_of(typed: str) -> list[str]:
    """What a user typed, word by word; what has neither letter nor digit finds nothing and is left out."""
    return [word for word in clean(typed).split() if any(char.isalnum() for char in word)]


def match_sqlite(words: Sequence[str]) -> str:
    """The words as an FTS5 query in which nothing is syntax, the last one as a beginning."""
    return " ".join('"' + word.replace('"', '""') + '"' for word in words) + "*"


def match_postgresql(words: Sequence[str]) -> str:
    """The words as to_tsquery reads them, each in quotes, the last one as a beginning."""
    quoted = ["'" + word.replace("\\", "\\\\").replace("'", "''") + "'" for word in words]
    return " & ".join(quoted) + ":*"


def _ids(
    connection: Connection,
    run_id: int,
    wanted: PromptFilter,
    used: Sequence[Used],
    after: int | None,
    before: int | None,
    limit: int,
) -> list[int]:
    """Ids of a page, in the direction of reading."""
    if wanted.words.strip() and not words_of(wanted.words):
        return []
    seeds = wanted.source is PromptSource.SEED
    bounds = None if seeds else _bounds(connection, used)
    if not seeds and bounds is None:
        return []
    key, start, conditions = _conditions(connection, wanted, used)
    if seeds:
        conditions.append(seeds_of(Prompt.run_id, run_id) & (Prompt.source == PromptSource.SEED))
    elif bounds is not None:
        conditions.append(key.between(*bounds))
    if before is not None:
        conditions.append(key < before)
    elif after is not None:
        conditions.append(key > after)
    query = select(key).select_from(start).where(*conditions)
    query = query.order_by(key.desc() if before is not None else key).limit(limit)
    return list(connection.scalars(query))


def _bounds(connection: Connection, used: Sequence[Used]) -> tuple[int, int] | None:
    """The least and the greatest id of what these iterations use: two steps into an index each."""
    ends = [
        select(kind(Prompt.id))
        .where(Prompt.iteration_id == Iteration.id, Prompt.status == status)
        .scalar_subquery()
        for status in PromptStatus
        for kind in (func.min, func.max)
    ]
    query = select(*ends).where(Iteration.id.in_([row.data_id for row in used]))
    found = [key for row in connection.execute(query) for key in row if key is not None]
    return (min(found), max(found)) if found else None


def _conditions(
    connection: Connection, wanted: PromptFilter, used: Sequence[Used]
) -> tuple[ColumnElement[int], FromClause, list[ColumnElement[bool]]]:
    """Whose index is walked along, what is joined to it, and what must hold."""
    sqlite = connection.dialect.name == "sqlite"
    words = words_of(wanted.words)
    decided = _decision_conditions(wanted)
    paired = _margin_conditions(wanted)
    deciding = [row.id for row in used]
    steps: list[tuple[FromClause, ColumnElement[int], list[ColumnElement[bool]]]] = []
    if words and sqlite:
        match = literal_column("prompt_search").op("MATCH")(bindparam("words", match_sqlite(words)))
        steps.append((FOUND, FOUND.c.rowid, [match]))
    if paired:
        mine = PreferencePair.iteration_id.in_(deciding)
        steps.append((PreferencePair.__table__, PreferencePair.prompt_id.expression, [mine, *paired]))
    if decided:
        mine = PairDecision.iteration_id.in_(deciding)
        steps.append((PairDecision.__table__, PairDecision.prompt_id.expression, [mine, *decided]))
    own = _prompt_conditions(wanted)
    if words and not sqlite:
        query = func.to_tsquery(literal_column("'simple'"), match_postgresql(words))
        own.append(func.to_tsvector(literal_column("'simple'"), Prompt.text).op("@@")(query))
    if own or not (paired or decided):
        if wanted.source is not PromptSource.SEED:
            own.append(Prompt.iteration_id.in_([row.data_id for row in used]))
        steps.append((Prompt.__table__, Prompt.id.expression, own))
    start, key, conditions = steps[0]
    for joined, its_key, its_conditions in steps[1:]:
        start = start.join(joined, its_key == key)
        conditions = conditions + its_conditions
    return key, start, list(conditions)


def _prompt_conditions(wanted: PromptFilter) -> list[ColumnElement[bool]]:
    """On the prompt itself."""
    if isinstance(wanted.outcome, RejectReason):
        return [Prompt.reject_reason == wanted.outcome]
    if isinstance(wanted.outcome, PromptStatus):
        return [Prompt.status == wanted.outcome]
    return []


def _decision_conditions(wanted: PromptFilter) -> list[ColumnElement[bool]]:
    """On what became of it."""
    found: list[ColumnElement[bool]] = []
    if isinstance(wanted.outcome, PairOutcome):
        found.append(PairDecision.outcome == wanted.outcome)
    if wanted.least_score is not None:
        found.append(PairDecision.best_score >= wanted.least_score)
    if wanted.most_score is not None:
        found.append(PairDecision.best_score <= wanted.most_score)
    return found


def _margin_conditions(wanted: PromptFilter) -> list[ColumnElement[bool]]:
    """On its pair."""
    found: list[ColumnElement[bool]] = []
    if wanted.least_margin is not None:
        found.append(PreferencePair.margin >= wanted.least_margin)
    if wanted.most_margin is not None:
        found.append(PreferencePair.margin <= wanted.most_margin)
    return found


def _rows(connection: Connection, ids: Sequence[int], used: Sequence[Used]) -> list[PromptListRow]:
    """What a list shows of these prompts."""
    deciding = [row.id for row in used]
    t_of = {row.data_id: row.t for row in used}
    candidates = (
        select(func.count()).select_from(Candidate).where(Candidate.prompt_id == Prompt.id).scalar_subquery()
    )
    decided = (PairDecision.prompt_id == Prompt.id) & PairDecision.iteration_id.in_(deciding)
    paired = (PreferencePair.prompt_id == Prompt.id) & PreferencePair.iteration_id.in_(deciding)
    query: AnySelect = (
        select(
            Prompt.id,
            Prompt.iteration_id,
            Prompt.text,
            Prompt.source,
            Prompt.status,
            Prompt.reject_reason,
            PairDecision.outcome,
            PairDecision.best_score,
            PairDecision.worst_score,
            PreferencePair.margin,
            PreferencePair.id.label("pair_id"),
            candidates.label("candidates"),
        )
        .outerjoin(PairDecision, decided if deciding else false())
        .outerjoin(PreferencePair, paired if deciding else false())
        .where(Prompt.id.in_(ids))
        .order_by(Prompt.id)
    )
    return [_row(row._asdict(), t_of) for row in connection.execute(query)]


def _row(found: dict[str, Any], t_of: dict[int, int]) -> PromptListRow:
    iteration, reason, outcome = found.pop("iteration_id"), found["reject_reason"], found["outcome"]
    return PromptListRow(
        **found
        | {
            "t": t_of.get(iteration),
            "source": PromptSource(found["source"]),
            "status": PromptStatus(found["status"]),
            "reject_reason": RejectReason(reason) if reason else None,
            "outcome": PairOutcome(outcome) if outcome else None,
        }
    )
