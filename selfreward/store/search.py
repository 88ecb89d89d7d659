"""Pages of prompts by what became of them, their scores and their words: by key, over indexes.

Everything is in the order of the prompts' ids, and the iterations that are asked for bound those ids: a
page is a walk along one index from where the last one ended. Which index depends on the filter: a rare
word, outcome or margin must not be looked for prompt by prompt.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    bindparam,
    column,
    exists,
    func,
    literal_column,
    select,
    table,
)
from sqlalchemy.orm import InstrumentedAttribute
from sqlalchemy.sql.selectable import FromClause

from selfreward.store.browsed import Page, PromptFilter, PromptListRow
from selfreward.store.database import Database
from selfreward.store.lineage import lineage, seeds_of
from selfreward.store.schema import ImportedPreference, Iteration, PairDecision, PreferencePair, Prompt
from selfreward.store.scope import Used, history, only
from selfreward.store.search_rows import listed
from selfreward.store.words import match_postgresql, match_sqlite, words_of
from selfreward.types import PairOutcome, PromptSource, PromptStatus, RejectReason

PAGE = 50
NEAR = (5_000, 50_000)
"""So many ids among which what may be common is looked for at first."""
GREATEST = 2**63 - 1
FOUND = table("prompt_search", column("rowid"))
"""SQLite's full-text index of prompt.text."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where in a list a page begins, and in which direction it is read."""

    after: int | None
    before: int | None

    @property
    def backward(self) -> bool:
        """From `before` down."""
        return self.before is not None

    def within(self, bounds: tuple[int, int]) -> tuple[int, int]:
        """The part of these bounds, both included, that is still to be read."""
        low, high = bounds
        if self.before is not None:
            return low, min(high, self.before - 1)
        return (low, high) if self.after is None else (max(low, min(self.after, GREATEST - 1) + 1), high)


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
            ids = _ids(connection, run_id, wanted, used, Place(after=after, before=before), limit + 1)
            more, ids = len(ids) > limit, ids[:limit]
            rows = listed(connection, sorted(ids), used)
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


def _ids(
    connection: Connection,
    run_id: int,
    wanted: PromptFilter,
    used: Sequence[Used],
    place: Place,
    limit: int,
) -> list[int]:
    """Ids of a page, in the direction of reading."""
    if wanted.words.strip() and not words_of(wanted.words):
        return []
    source = _source(connection, run_id, wanted, used)
    if source is None:
        return []
    found: list[int] = []
    for span in _spans(wanted, place.within(source.bounds), place.backward):
        key, start, conditions = _conditions(connection, wanted, source, used, span)
        query = select(key).select_from(start).where(*conditions, key.between(*span)).limit(limit)
        if start.is_derived_from(PreferencePair.__table__):
            query = query.distinct()  # a prompt can have several pairs
        found = list(connection.scalars(query.order_by(key.desc() if place.backward else key)))
        if len(found) == limit:
            break
    return found


def _spans(wanted: PromptFilter, bounds: tuple[int, int], backward: bool) -> Iterator[tuple[int, int]]:
    """Where to look: at first near by for what no index has in the order of ids; if common, that will do."""
    low, high = bounds
    for near in NEAR if _is_near_first(wanted) else ():
        yield (max(low, high - near), high) if backward else (low, min(high, low + near))
    yield bounds


def _is_near_first(wanted: PromptFilter) -> bool:
    ranges = (wanted.least_score, wanted.most_score, wanted.least_margin, wanted.most_margin)
    words = wanted.words.strip() and not _is_alone(wanted)
    return bool(words) or any(end is not None for end in ranges)


@dataclass(frozen=True, kw_only=True)
class Source:
    """Which prompts a list is of."""

    bounds: tuple[int, int]
    """Their least and greatest ids."""
    condition: ColumnElement[bool]
    apart: bool
    """Whether it must be looked at even where decisions and pairs say whose prompts they are about."""


def _source(connection: Connection, run_id: int, wanted: PromptFilter, used: Sequence[Used]) -> Source | None:
    """Written ones, seeds or imported ones; None where there are none."""
    if wanted.source is PromptSource.SEED:
        mine = seeds_of(Prompt.run_id, run_id) & (Prompt.source == PromptSource.SEED)
        return Source(bounds=(0, GREATEST), condition=mine, apart=True)
    if wanted.source is PromptSource.IMPORTED:
        return _imported(connection, run_id, wanted, used)
    bounds = _bounds(connection, used)
    return None if bounds is None else Source(bounds=bounds, condition=_of_these(used), apart=False)


def _imported(
    connection: Connection, run_id: int, wanted: PromptFilter, used: Sequence[Used]
) -> Source | None:
    """All that the run has or comes from, or those whose pairs an iteration has taken."""
    runs = [link.run_id for link in lineage(connection, run_id)]
    theirs = ImportedPreference.run_id.in_(runs)
    ends = func.min(ImportedPreference.prompt_id), func.max(ImportedPreference.prompt_id)
    low, high = connection.execute(select(*ends).where(theirs)).one()
    mine = exists().where(theirs, ImportedPreference.prompt_id == Prompt.id)
    if wanted.t is not None:
        taken = PreferencePair.iteration_id.in_([row.id for row in used])
        mine = exists().where(taken, PreferencePair.prompt_id == Prompt.id)
    condition = mine & (Prompt.source == PromptSource.IMPORTED)
    return None if low is None else Source(bounds=(low, high), condition=condition, apart=True)


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
    connection: Connection,
    wanted: PromptFilter,
    source: Source,
    used: Sequence[Used],
    span: tuple[int, int],
) -> tuple[ColumnElement[int], FromClause, list[ColumnElement[bool]]]:
    """Whose index is walked along, what is joined to it, and what must hold."""
    deciding = [row.id for row in used]
    near = _is_near_first(wanted) and span[1] - span[0] <= NEAR[-1]
    decided, paired = _decision_conditions(wanted, near), _margin_conditions(wanted, near)
    steps: list[tuple[FromClause, ColumnElement[int], list[ColumnElement[bool]]]] = []
    if paired:
        mine = PreferencePair.iteration_id.in_(deciding)
        steps.append((PreferencePair.__table__, PreferencePair.prompt_id.expression, [mine, *paired]))
    if decided:
        mine = PairDecision.iteration_id.in_(deciding)
        if paired:
            decided.append(PairDecision.iteration_id == PreferencePair.iteration_id)
        if paired and wanted.outcome in (None, PairOutcome.PAIRED):  # says less than a margin does
            same = PairDecision.prompt_id == PreferencePair.prompt_id
            steps[0][2].append(select(PairDecision.prompt_id).where(same, *decided).exists())
        else:
            steps.append((PairDecision.__table__, PairDecision.prompt_id.expression, [mine, *decided]))
    own = _prompt_conditions(wanted)
    if own or not steps or source.apart:
        steps.append((Prompt.__table__, Prompt.id.expression, [*own, source.condition]))
    if wanted.words.strip():
        _add_words(connection, wanted, span, steps)
    start, key, conditions = steps[0]
    for joined, its_key, its_conditions in steps[1:]:
        start = start.join(joined, its_key == key)
        conditions = conditions + its_conditions
    return key, start, list(conditions)


def _of_these(used: Sequence[Used]) -> ColumnElement[bool]:
    """Of these iterations. The plus keeps SQLite from their index, which is not in the order of the ids."""
    return (Prompt.iteration_id + 0).in_([row.data_id for row in used])


def _add_words(
    connection: Connection,
    wanted: PromptFilter,
    span: tuple[int, int],
    steps: list[tuple[FromClause, ColumnElement[int], list[ColumnElement[bool]]]],
) -> None:
    """SQLite walks along what has the words, or looks it up at once where something rarer may be walked."""
    words = words_of(wanted.words)
    _, key, conditions = steps[0]
    if connection.dialect.name != "sqlite":
        query = func.to_tsquery(literal_column("'simple'"), match_postgresql(words))
        having = func.to_tsvector(literal_column("'simple'"), Prompt.text).op("@@")(query)
        if steps[-1][0] is Prompt.__table__:
            steps[-1][2].append(having)
        else:
            steps.append((Prompt.__table__, Prompt.id.expression, [having]))
        return
    match = literal_column("prompt_search").op("MATCH")(bindparam("words", match_sqlite(words)))
    if _is_alone(wanted):
        steps.insert(0, (FOUND, FOUND.c.rowid, [match]))
    else:
        conditions.append(key.in_(select(FOUND.c.rowid).where(match, FOUND.c.rowid.between(*span))))


def _is_alone(wanted: PromptFilter) -> bool:
    """Whether what else is asked for, if anything, holds for many prompts."""
    rare = isinstance(wanted.outcome, PairOutcome | RejectReason)
    return not (rare or _decision_conditions(wanted) or _margin_conditions(wanted))


def _prompt_conditions(wanted: PromptFilter) -> list[ColumnElement[bool]]:
    """On the prompt itself."""
    if isinstance(wanted.outcome, RejectReason):
        return [Prompt.reject_reason == wanted.outcome]
    if isinstance(wanted.outcome, PromptStatus):
        return [Prompt.status == wanted.outcome]
    return []


def _decision_conditions(wanted: PromptFilter, near: bool = False) -> list[ColumnElement[bool]]:
    """On what became of it."""
    outcome = isinstance(wanted.outcome, PairOutcome)
    found = [PairDecision.outcome == wanted.outcome] if outcome else []
    return found + _between(PairDecision.best_score, wanted.least_score, wanted.most_score, near)


def _margin_conditions(wanted: PromptFilter, near: bool = False) -> list[ColumnElement[bool]]:
    """On one of its pairs."""
    return _between(PreferencePair.margin, wanted.least_margin, wanted.most_margin, near)


def _between(
    column: InstrumentedAttribute[Any], least: float | None, most: float | None, near: bool
) -> list[ColumnElement[bool]]:
    """Near by, the plus keeps databases from the index on the column, which goes over all ids."""
    value = column + 0 if near else column.expression
    ends = [] if least is None else [value >= least]
    return ends if most is None else [*ends, value <= most]
