"""Query results for people and programs. Values are text from a model: nothing in them is obeyed."""

import csv
import json
import sys
from collections.abc import Iterable
from datetime import date, datetime
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from selfreward.store.readonly import QueryResult
from selfreward.text import printable

FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


def print_table(result: QueryResult) -> None:
    """A table on the terminal; without one, no line is cut to a width."""
    console = Console() if sys.stdout.isatty() else Console(width=10_000)
    table = Table(header_style="bold", box=None, pad_edge=False)
    for position, column in enumerate(result.columns):
        numeric = all(isinstance(row[position], (int, float, type(None))) for row in result.rows)
        table.add_column(Text(printable(column)), justify="right" if numeric and result.rows else "left")
    for row in result.rows:
        table.add_row(*(Text(_cell(value)) for value in row))
    console.print(table)


def print_json(result: QueryResult) -> None:
    """A JSON array of objects, one a row, streamed a row a line."""
    rows = (dict(zip(result.columns, row, strict=True)) for row in result.rows)
    _write_array(json.dumps(row, ensure_ascii=False, default=_plain) for row in rows)


def print_csv(result: QueryResult) -> None:
    """CSV with a header. A text that a spreadsheet would take for a formula gets a quote before it."""
    writer = csv.writer(sys.stdout)
    writer.writerow(result.columns)
    writer.writerows([_inert(value) for value in row] for row in result.rows)


def _cell(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:.6g}"
    return printable(str(_plain(value)))


def _inert(value: Any) -> Any:
    value = _plain(value)
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA_STARTS) else value


def _plain(value: Any) -> Any:
    if isinstance(value, (datetime, date)):
        return value.isoformat()
    if isinstance(value, bytes):
        return value.hex()
    return value if isinstance(value, (str, int, float, bool, list, dict, type(None))) else str(value)


def _write_array(items: Iterable[str]) -> None:
    sys.stdout.write("[")
    for number, item in enumerate(items):
        sys.stdout.write((",\n " if number else "") + item)
    sys.stdout.write("]\n")
