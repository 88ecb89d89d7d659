"""Query results for people and programs. Values are text from a model: nothing in them is obeyed."""

import csv
import json
import math
import os
import sys
from collections.abc import Iterable, Sequence
from contextlib import suppress
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, TextIO

from rich.console import Console
from rich.table import Table
from rich.text import Text

from selfreward.errors import BadInput
from selfreward.store.readonly import QueryResult
from selfreward.text import printable

FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")
NARROWEST = 8
"""Characters of a column below which rows are shown one below the other."""
LONGEST_CELL = 400
"""Characters of a value on a terminal; elsewhere all of it is printed."""


def print_table(result: QueryResult) -> None:
    """A table on the terminal, or a row below the other where that would be too narrow.

    Without a terminal no line is cut to a width, and no value to a length.
    """
    if not sys.stdout.isatty():
        Console(width=10_000).print(_table(result, fixed=False))
        return
    console = Console()
    cut = QueryResult(
        columns=result.columns,
        rows=tuple(tuple(map(_cut, row)) for row in result.rows),
        truncated=result.truncated,
    )
    if len(result.columns) * NARROWEST > console.width:
        _print_records(console, cut)
    else:
        console.print(_table(cut, fixed=True))


def print_json(result: QueryResult) -> None:
    """A JSON array of objects, one a row, streamed a row a line. Columns of one name get numbers."""
    names = unique_names(result.columns)
    rows = (dict(zip(names, map(_json_value, row), strict=True)) for row in result.rows)
    _write_array(json.dumps(row, ensure_ascii=False, allow_nan=False) for row in rows)


def print_csv(result: QueryResult, keep_formulas: bool = False) -> None:
    """CSV on standard output, as `write_csv` has it."""
    write_csv(result, sys.stdout, keep_formulas)


def write_csv(result: QueryResult, out: TextIO, keep_formulas: bool = False) -> None:
    """CSV with a header. A text that a spreadsheet would take for a formula gets a quote before it.

    With `keep_formulas` it gets none: what is written is exactly what is stored.
    """
    writer = csv.writer(out)
    written = _plain if keep_formulas else _inert
    writer.writerow([written(name) for name in result.columns])
    writer.writerows([written(value) for value in row] for row in result.rows)


def write_parquet(result: QueryResult, path: Path) -> None:
    """A Parquet file, whole or not at all. A column whose values are of several kinds becomes text.

    Raises BadInput where it cannot be written.
    """
    import pyarrow  # type: ignore[import-untyped]
    from pyarrow import parquet

    columns = [_arrow(pyarrow, [row[place] for row in result.rows]) for place in range(len(result.columns))]
    table = pyarrow.table(columns, names=list(unique_names(result.columns)))
    part = path.with_name(f".{path.name}.part")
    try:
        parquet.write_table(table, part)
        os.replace(part, path)
    except OSError as error:
        raise BadInput(f"cannot write {path}: {error.strerror or error}", "Name another file.") from None
    finally:
        with suppress(OSError):
            part.unlink()


def unique_names(columns: Sequence[str]) -> tuple[str, ...]:
    """The names with numbers where one comes again: id, id_2. An object of JSON has each name once."""
    names: list[str] = []
    for name in columns:
        unique, number = name, 1
        while unique in names:
            number += 1
            unique = f"{name}_{number}"
        names.append(unique)
    return tuple(names)


def _table(result: QueryResult, fixed: bool) -> Table:
    """With a `fixed` width numbers are never broken, texts are."""
    table = Table(header_style="bold", box=None, pad_edge=False)
    for position, column in enumerate(result.columns):
        numeric = all(isinstance(row[position], (int, float, type(None))) for row in result.rows)
        table.add_column(
            Text(printable(column)),
            justify="right" if numeric and result.rows else "left",
            no_wrap=numeric and fixed,
            overflow="fold",
        )
    for row in result.rows:
        table.add_row(*(Text(_cell(value)) for value in row))
    return table


def _print_records(console: Console, result: QueryResult) -> None:
    for number, row in enumerate(result.rows, start=1):
        console.print(Text(f"row {number}", style="bold"))
        for name, value in zip(result.columns, row, strict=True):
            console.print(Text.assemble((f"  {printable(name)}: ", "dim"), _cell(value)))


def _cell(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:.6g}"
    return printable(str(_plain(value)))


def _cut(value: Any) -> Any:
    plain = _plain(value)
    if not isinstance(plain, str) or len(plain) <= LONGEST_CELL:
        return value
    return f"{plain[:LONGEST_CELL]}… ({len(plain) - LONGEST_CELL} more)"


def _inert(value: Any) -> Any:
    """White space before it does not keep a spreadsheet from taking a text for a formula."""
    plain = _plain(value)
    if not isinstance(plain, str) or isinstance(value, Decimal):
        return plain
    formula = plain.startswith(FORMULA_STARTS) or plain.lstrip().startswith(FORMULA_STARTS)
    return f"'{plain}" if formula else plain


def _json_value(value: Any) -> Any:
    """JSON has no infinity and no NaN."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return json.loads(_dumped(value)) if isinstance(value, (list, dict)) else _plain(value)


def _plain(value: Any) -> Any:
    if isinstance(value, (datetime, date)):
        return value.isoformat()
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, (list, dict)):
        return _dumped(value)
    return value if isinstance(value, (str, int, float, bool, type(None))) else str(value)


def _dumped(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)


def _arrow(pyarrow: Any, values: Sequence[Any]) -> Any:
    """A column; JSON of PostgreSQL stays text, as it is on SQLite."""
    plain = [_dumped(value) if isinstance(value, (list, dict)) else value for value in values]
    try:
        return pyarrow.array(plain)
    except (pyarrow.ArrowInvalid, pyarrow.ArrowTypeError, OverflowError):
        return pyarrow.array([None if value is None else str(_plain(value)) for value in plain])


def _write_array(items: Iterable[str]) -> None:
    sys.stdout.write("[")
    for number, item in enumerate(items):
        sys.stdout.write((",\n " if number else "") + item)
    sys.stdout.write("]\n")
