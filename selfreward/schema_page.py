"""docs/schema.md, made from the comments of the tables and views themselves: `selfreward db docs`."""

from collections.abc import Iterable, Iterator, Sequence
from types import ModuleType

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Constraint,
    Float,
    ForeignKeyConstraint,
    Integer,
    UniqueConstraint,
)
from sqlalchemy import Table as SqlTable

from selfreward.store.schema import (
    VIEWS,
    CleanJson,
    CleanText,
    Table,
    UtcDateTime,
    View,
    generation,
    measuring,
    methods,
    runs,
    tallies,
)

GROUPS = {
    "Runs": runs,
    "What an iteration makes": generation,
    "Neighbouring methods": methods,
    "Tallies": tallies,
    "Bootstrap and measuring": measuring,
}
TYPES = (
    (UtcDateTime, "time"),
    (CleanText, "text"),
    (CleanJson, "json"),
    (Float, "real"),
    (Boolean, "boolean"),
    (BigInteger, "integer"),
    (Integer, "integer"),
)
HEAD = """\
# The database

Everything a run makes is a row of these tables; the views put together what one asks most often. Made by
`selfreward db docs` from the comments in `selfreward/store/schema`, and checked against both databases.

```
selfreward query --tables
selfreward query "select t, pairs, mean_score from iteration_summary"
```

[Runs](#runs) · [What an iteration makes](#what-an-iteration-makes) ·
[Neighbouring methods](#neighbouring-methods) · [Tallies](#tallies) ·
[Bootstrap and measuring](#bootstrap-and-measuring) · [Views](#views) · [Search](#search)

| type | on SQLite | on PostgreSQL |
|---|---|---|
| integer | INTEGER | BIGINT or INTEGER |
| real | FLOAT | DOUBLE PRECISION |
| text | TEXT | TEXT |
| time | TEXT in UTC, `2025-03-04 05:06:07.890000` | TIMESTAMP WITH TIME ZONE |
| boolean | 0 or 1 | BOOLEAN |
| json | TEXT, see `json_extract` | JSONB |
"""
SEARCH = """\
## Search

Prompts are found by their words without reading them all. On SQLite that is `prompt_search`, a table of
the extension FTS5 whose `rowid` is `prompt.id`, kept up to date by triggers; the `prompt_search_…` tables
beside it are its own. On PostgreSQL it is an index over `to_tsvector('simple', text)`.

```sql
-- SQLite
SELECT prompt.id, prompt.text FROM prompt_search JOIN prompt ON prompt.id = prompt_search.rowid
WHERE prompt_search MATCH 'gravity AND orbit';
-- PostgreSQL
SELECT id, text FROM prompt
WHERE to_tsvector('simple', text) @@ plainto_tsquery('simple', 'gravity orbit');
```
"""


def page() -> str:
    """The whole page, in Markdown."""
    parts = [HEAD]
    for heading, module in GROUPS.items():
        tables = _tables(module)
        told = (module.__doc__ or "").split("\n")[0]
        parts += [f"## {heading}\n", f"{told}\n", _diagram(tables), *map(_table, tables)]
    parts += ["## Views\n", *map(_view, VIEWS), SEARCH]
    return "\n".join(parts)


def _tables(module: ModuleType) -> list[SqlTable]:
    """The tables that a module defines, in its order."""
    mine = {
        mapper.class_.__tablename__
        for mapper in Table.registry.mappers
        if mapper.class_.__module__ == module.__name__
    }
    return [table for name, table in Table.metadata.tables.items() if name in mine]


def _diagram(tables: Sequence[SqlTable]) -> str:
    """What these tables refer to, by which columns."""
    lines = [_line(key) for table in tables for key in _references(table)]
    return "\n".join(["```mermaid", "erDiagram", *lines, "```", ""])


def _references(table: SqlTable) -> list[ForeignKeyConstraint]:
    order = list(table.columns)
    return sorted(table.foreign_key_constraints, key=lambda key: order.index(key.columns[0]))


def _line(key: ForeignKeyConstraint) -> str:
    one = "|o" if key.columns[0].nullable else "||"
    return f'    {key.referred_table.name} {one}--o{{ {key.table.name} : "{", ".join(key.column_keys)}"'


def _table(table: SqlTable) -> str:
    rows = [
        (f"`{column.name}`", _type(column), "yes" if column.nullable else "", _key(column), _said(column))
        for column in table.columns
    ]
    facts = [*_constraints(table.constraints), *_indexes(table)]
    parts = [
        f"### {table.name}\n",
        f"{table.comment}\n",
        _grid(("column", "type", "null", "key", "what"), rows),
    ]
    return "\n".join([*parts, *(f"- {fact}" for fact in facts), ""] if facts else parts)


def _view(view: View) -> str:
    rows = [(f"`{name}`", comment) for name, comment in view.columns.items()]
    return "\n".join([f"### {view.name}\n", f"{view.comment}\n", _grid(("column", "what"), rows)])


def _grid(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def _type(column: Column[object]) -> str:
    return next(name for kind, name in TYPES if isinstance(column.type, kind))


def _key(column: Column[object]) -> str:
    targets = [f"→ `{key.target_fullname}`" for key in column.foreign_keys]
    return ", ".join([*(["primary"] if column.primary_key else []), *sorted(targets)])


def _said(column: Column[object]) -> str:
    return column.comment or "The id of the row."


def _constraints(constraints: Iterable[Constraint]) -> Iterator[str]:
    said = []
    for constraint in constraints:
        if isinstance(constraint, UniqueConstraint):
            said.append(f"One row for each {_names(constraint.columns)}.")
        elif isinstance(constraint, CheckConstraint):
            said.append(f"Always `{constraint.sqltext}`.")
    return iter(sorted(said))


def _indexes(table: SqlTable) -> Iterator[str]:
    for index in sorted(table.indexes, key=lambda each: str(each.name)):
        kind = "One row for each" if index.unique else "Indexed by"
        where = index.dialect_options["sqlite"]["where"]
        yield f"{kind} {_names(index.columns)}{f' where `{where}`' if where is not None else ''}."


def _names(columns: Iterable[Column[object]]) -> str:
    return ", ".join(f"`{column.name}`" for column in columns)
