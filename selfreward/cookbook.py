"""Saved queries: the questions people really ask of a run, each an SQL file that says what it answers.

A file of `queries/` begins with a comment of up to three paragraphs: its title with a sentence or two on
what it answers; its parameters, a line each (`:t integer = NULL  what it is`); its columns, a line each
(`name  what it is`). SQLite and PostgreSQL both run the SQL behind it. Where they need different words, it
stands twice, behind `-- @sqlite` and behind `-- @postgresql`. `python -m selfreward.cookbook` prints the
page `docs/queries.md`.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Literal, get_args

from selfreward.errors import BadInput
from selfreward.resources import PACKAGE

Value = int | float | str | None
Kind = Literal["integer", "number", "text"]
DIRECTORY = PACKAGE / "queries"
_PARAMETER = re.compile(rf":(\w+) ({'|'.join(get_args(Kind))}) = ('[^']*'|\S+)  +(\S.*)")
_COLUMN = re.compile(r"(\w+)  +(\S.*)")
_VARIANT = re.compile(r"^-- @(sqlite|postgresql)\n", re.MULTILINE)


@dataclass(frozen=True, kw_only=True)
class Parameter:
    """What a saved query can be told, `:name` in its SQL."""

    name: str
    kind: Kind
    default: Value
    meaning: str

    def read(self, text: str) -> Value:
        """The value that a user's text stands for; NULL is none. Raises BadInput for another kind."""
        if text == "NULL":
            return None
        reader = {"integer": int, "number": float, "text": str}[self.kind]
        try:
            value: Value = reader(text)
        except ValueError:
            raise BadInput(
                f"{self.name}={text!r}: {self.name} takes {_A_KIND[self.kind]}", self.meaning
            ) from None
        if isinstance(value, int) and abs(value) >= 2**63:
            raise BadInput(f"{self.name}={text}: no number in the database is that large")
        return value


_A_KIND: Mapping[Kind, str] = {"integer": "a whole number", "number": "a number", "text": "a text"}


@dataclass(frozen=True, kw_only=True)
class SavedQuery:
    """One question with the SQL that answers it."""

    name: str
    title: str
    answers: str
    """A sentence or two: what comes out, and how to read it."""
    sql: str
    """As SQLite runs it."""
    parameters: tuple[Parameter, ...] = ()
    columns: tuple[tuple[str, str], ...] = ()
    """Name and meaning of each column of the result, in order."""
    postgresql: str
    """As PostgreSQL runs it; mostly the same text."""

    def statement(self, *, sqlite: bool) -> str:
        """The SQL for one of the two databases, parameters as `:name`."""
        return self.sql if sqlite else self.postgresql

    def values(self, given: Mapping[str, str]) -> dict[str, Value]:
        """A value for each parameter: what the user gave as text, else its default.

        Raises BadInput for a parameter that there is not, with the nearest one, and for a value of the
        wrong kind.
        """
        known = {parameter.name: parameter for parameter in self.parameters}
        for name in given:
            if name not in known:
                raise BadInput(f"{self.name} has no parameter {name!r}", _known_names(name, list(known)))
        defaults = {parameter.name: parameter.default for parameter in self.parameters}
        return defaults | {name: known[name].read(text) for name, text in given.items()}


def guessed(text: str) -> Value:
    """The value of a parameter that nobody declared: a number where it looks like one, else a text."""
    if text == "NULL":
        return None
    if re.fullmatch(r"[+-]?\d{1,18}", text):
        return int(text)
    return float(text) if re.fullmatch(r"[+-]?\d+\.\d+([eE][+-]?\d+)?", text) else text


@cache
def saved_queries() -> tuple[SavedQuery, ...]:
    """All of them, by name."""
    return tuple(_parse(path) for path in sorted(DIRECTORY.glob("*.sql")))


def saved_query(name: str) -> SavedQuery:
    """The one of that name. Raises BadInput with the nearest name when there is none."""
    named = {query.name: query for query in saved_queries()}
    if name not in named:
        hint = _known_names(name, list(named), "See them all: selfreward query --list")
        raise BadInput(f"there is no saved query {name!r}", hint)
    return named[name]


def as_markdown(queries: Sequence[SavedQuery]) -> str:
    """The page of all queries: question, parameters, SQL, columns."""
    return "\n".join([_INTRODUCTION, *map(_contents_line, queries), *map(_section, queries)])


def _known_names(name: str, known: list[str], otherwise: str = "") -> str:
    near = get_close_matches(name, known, n=1)
    if near:
        return f"Did you mean {near[0]}?"
    return otherwise or (f"It has: {', '.join(known)}." if known else "It has none.")


def _parse(path: Path) -> SavedQuery:
    header, sql = _split(path.read_text(encoding="utf-8"))
    first, *others = header
    variants = _VARIANT.split(sql)
    bodies = dict(zip(variants[1::2], variants[2::2], strict=True)) or {"sqlite": sql, "postgresql": sql}
    lines = [line for paragraph in others for line in paragraph]
    return SavedQuery(
        name=path.stem,
        title=first[0],
        answers=" ".join(first[1:]),
        sql=bodies["sqlite"].strip(),
        postgresql=bodies["postgresql"].strip(),
        parameters=tuple(_parameter(line) for line in lines if line.startswith(":")),
        columns=tuple(_column(line) for line in lines if not line.startswith(":")),
    )


def _split(text: str) -> tuple[list[list[str]], str]:
    """The paragraphs of the comment a file begins with, and what follows."""
    lines = text.splitlines(keepends=True)
    comment = [line for line in lines[: _header_length(lines)]]
    paragraphs = "".join(line.removeprefix("--").removeprefix(" ") for line in comment).strip().split("\n\n")
    return [paragraph.splitlines() for paragraph in paragraphs], "".join(lines[len(comment) :])


def _header_length(lines: list[str]) -> int:
    ends = (place for place, line in enumerate(lines) if not line.startswith("--") or _VARIANT.match(line))
    return next(ends)


def _parameter(line: str) -> Parameter:
    found = _PARAMETER.fullmatch(line)
    if found is None:
        raise ValueError(f"no parameter of a saved query: {line!r}")
    name, kind, default, meaning = found.groups()
    bare = Parameter(name=name, kind=kind, default=None, meaning=meaning)  # type: ignore[arg-type]
    return Parameter(name=name, kind=bare.kind, default=bare.read(default.strip("'")), meaning=meaning)


def _column(line: str) -> tuple[str, str]:
    found = _COLUMN.fullmatch(line)
    if found is None:
        raise ValueError(f"no column of a saved query: {line!r}")
    return found[1], found[2]


_INTRODUCTION = """# Cookbook: questions and the SQL that answers them

Made from `selfreward/queries/*.sql` by `python -m selfreward.cookbook > docs/queries.md`; a test keeps it so.
The tables and views are explained in [schema.md](schema.md).

```sh
selfreward query --list                                   # these queries, with what they can be told
selfreward query --saved judge_health                     # run one
selfreward query --saved widest_pairs --param t=2         # with a parameter of its own
selfreward query --saved widest_pairs --print             # its SQL, as a start for your own
selfreward query --saved judge_health --csv > judge.csv   # or --json, or --parquet FILE
selfreward query "select * from prompt where id = :id" --param id=17
```

A parameter that is not given has the default that is named here. `NULL` means: not restricted, or what the
line says. Queries about single rows look at the last judged iteration of each run unless `t` names another.
"""


def _contents_line(query: SavedQuery) -> str:
    return f"- [{query.title}](#{query.name})"


def _section(query: SavedQuery) -> str:
    lines = [f'\n<a id="{query.name}"></a>', f"## {query.title}", "", query.answers, ""]
    lines += [f"`selfreward query --saved {query.name}`", ""]
    lines += [f"- `{each.name}` ({_told(each)}): {each.meaning}" for each in query.parameters]
    lines += [""] * bool(query.parameters)
    lines += ["| column | |", "|---|---|", *(f"| `{name}` | {told} |" for name, told in query.columns), ""]
    if query.sql == query.postgresql:
        return "\n".join([*lines, _fenced(query.sql)])
    return "\n".join([*lines, "SQLite:", _fenced(query.sql), "", "PostgreSQL:", _fenced(query.postgresql)])


def _told(parameter: Parameter) -> str:
    default = "NULL" if parameter.default is None else parameter.default
    return f"{parameter.kind}, `{default}`"


def _fenced(sql: str) -> str:
    return f"```sql\n{sql}\n```"


if __name__ == "__main__":
    print(as_markdown(saved_queries()))
