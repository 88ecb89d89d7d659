"""Exports read back: the same frozen rows that were written, whatever the format.

What an export is, its files tell: JSON lines, Parquet, or a directory that `datasets` saved.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

from selfreward.errors import BadInput
from selfreward.exports.columns import from_record
from selfreward.exports.writing import require_datasets
from selfreward.store.exported import (
    Exported,
    ExportedCandidate,
    ExportedExample,
    ExportedJudgement,
    ExportedPair,
)

PARQUET, JSONL, STATE = ".parquet", ".jsonl", "state.json"
BATCH_ROWS = 256

Row = TypeVar("Row", bound=Exported)
Located = Iterator[tuple[str, Any]]


def read_pairs(path: Path) -> Iterator[ExportedPair]:
    """The pairs of an export: its directory, or one of its files."""
    return read_rows(path, ExportedPair)


def read_candidates(path: Path) -> Iterator[ExportedCandidate]:
    """The candidates of an export: its directory, or one of its files."""
    return read_rows(path, ExportedCandidate)


def read_judgements(path: Path) -> Iterator[ExportedJudgement]:
    """The judgements of an export: its directory, or one of its files."""
    return read_rows(path, ExportedJudgement)


def read_examples(path: Path) -> Iterator[ExportedExample]:
    """The examples of an `sft` export: its directory, or one of its files."""
    return read_rows(path, ExportedExample)


def read_rows(path: Path, row_type: type[Row]) -> Iterator[Row]:
    """The rows of an export in the order in which they were written, a batch at a time in memory.

    Raises BadInput, naming file and row, where there is no export of this kind or it is broken.
    """
    for place, record in _records(path):
        yield from_record(row_type, record, place)


def _records(path: Path) -> Located:
    if not path.is_dir():
        yield from _file(path)
    elif (path / STATE).is_file():
        yield from _saved(path)
    else:
        for file in _data_files(path):
            yield from _file(file)


def _data_files(directory: Path) -> list[Path]:
    """Sorted by name, which is the order in which shards were written."""
    found = sorted(path for path in directory.iterdir() if path.suffix in (PARQUET, JSONL))
    if not found or len({path.suffix for path in found}) > 1:
        what = "data of two formats" if found else "no data"
        raise BadInput(f"{directory} holds {what}", f"An export has {JSONL} or {PARQUET} files.")
    return found


def _file(path: Path) -> Located:
    if not path.is_file():
        raise BadInput(f"{path} is not there", "Name the directory of an export, or one of its files.")
    return _parquet(path) if path.suffix == PARQUET else _lines(path)


def _lines(path: Path) -> Located:
    with path.open("rb") as file:  # in bytes only LF ends a line
        for number, line in enumerate(file, start=1):
            try:
                yield f"{path} line {number}", json.loads(line)
            except ValueError as error:
                raise BadInput(f"{path} line {number}: {error}", "The file may be cut off.") from None


def _parquet(path: Path) -> Located:
    import pyarrow as pa  # type: ignore[import-untyped]
    from pyarrow import parquet

    number = 0
    try:
        with parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=BATCH_ROWS):
                for record in batch.to_pylist():
                    number += 1
                    yield f"{path} row {number}", record
    except (OSError, pa.ArrowException) as error:
        why = str(error).splitlines()[0]
        raise BadInput(f"{path} after row {number}: {why}", "The file may be cut off.") from None


def _saved(directory: Path) -> Located:
    dataset = require_datasets().load_from_disk(str(directory)).with_format("arrow")
    number = 0
    for table in dataset.iter(batch_size=BATCH_ROWS):
        for record in table.to_pylist():
            number += 1
            yield f"{directory} row {number}", record
