"""A query's result as cells of a page and as a file. Values may be a model's text: nothing is obeyed."""

import io
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Any
from urllib.parse import quote

from selfreward.store.readonly import QueryResult
from selfreward.terminal.tabular import unique_names, write_csv
from selfreward.text import printable

LONGEST_CELL = 400
"""Characters of a value that a page shows; a file has all of it."""
PAGES = {
    "pair_id": "/pairs/{0}",
    "candidate_id": "/candidates/{0}",
    "chosen_id": "/candidates/{0}",
    "rejected_id": "/candidates/{0}",
    "judgement_id": "/judgements/{0}",
    "prompt_id": "/runs/{1}/prompts/{0}",
    "t": "/runs/{1}/iterations/{0}",
    "checkpoint": "/runs/{1}/checkpoints/{0}",
}
"""Where a column's value leads, for a row whose `run` names the run."""


@dataclass(frozen=True, kw_only=True)
class Column:
    """A column of the table."""

    name: str
    numeric: bool


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One value as a page shows it."""

    text: str
    numeric: bool
    missing: bool = False
    """NULL."""
    cut: int = 0
    """How many characters are not shown."""
    link: str = ""


def columns_of(result: QueryResult) -> tuple[Column, ...]:
    """Names, and whether all values are numbers."""
    return tuple(
        Column(name=printable(name), numeric=bool(result.rows) and _all_numbers(result, place))
        for place, name in enumerate(result.columns)
    )


def cells_of(result: QueryResult) -> Iterator[tuple[Cell, ...]]:
    """The rows. Ids lead to their pages."""
    numeric = [column.numeric for column in columns_of(result)]
    run_at = result.columns.index("run") if "run" in result.columns else None
    for row in result.rows:
        run = row[run_at] if run_at is not None and isinstance(row[run_at], str) else ""
        yield tuple(
            _cell(value, number, _link(name, value, run))
            for name, value, number in zip(result.columns, row, numeric, strict=True)
        )


def as_csv(result: QueryResult) -> str:
    """CSV as `selfreward query --csv` writes it."""
    out = io.StringIO(newline="")
    write_csv(result, out)
    return out.getvalue()


def as_json(result: QueryResult) -> str:
    """A JSON array of objects, a row a line. Columns of one name get numbers."""
    names = unique_names(result.columns)
    rows = (
        json.dumps(dict(zip(names, map(_plain, row), strict=True)), ensure_ascii=False, default=str)
        for row in result.rows
    )
    return "[" + ",\n ".join(rows) + "]\n"


FILES = {"csv": ("text/csv; charset=utf-8", as_csv), "json": ("application/json", as_json)}
"""Format → its media type and who writes it."""


def _all_numbers(result: QueryResult, place: int) -> bool:
    return all(isinstance(row[place], (int, float, Decimal, type(None))) for row in result.rows)


def _cell(value: Any, numeric: bool, link: str) -> Cell:
    if value is None:
        return Cell(text="NULL", numeric=numeric, missing=True)
    if isinstance(value, float):
        return Cell(text=f"{value:.6g}", numeric=numeric)
    plain = _plain(value)
    text = (
        json.dumps(plain, ensure_ascii=False, default=str) if isinstance(plain, (list, dict)) else str(plain)
    )
    return Cell(
        text=printable(text[:LONGEST_CELL]), numeric=numeric, cut=max(0, len(text) - LONGEST_CELL), link=link
    )


def _link(name: str, value: Any, run: str) -> str:
    address = PAGES.get(name, "")
    if not address or isinstance(value, float) or value is None or ("{1}" in address and not run):
        return ""
    return address.format(quote(str(value), safe=""), quote(run, safe=""))


def _plain(value: Any) -> Any:
    """The value as JSON knows it; it has no infinity."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, bytes):
        return value.hex()
    return value if isinstance(value, (str, int, float, list, dict, type(None))) else str(value)
