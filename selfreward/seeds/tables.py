"""Records of Arrow tables: Parquet files here, data sets of the hub through `hub`."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from selfreward.errors import BadInput
from selfreward.seeds.skips import MAX_RECORD_BYTES, Skip

PARQUET_MAGIC = b"PAR1"
BATCH_ROWS = 64
"""Few, because each row may be up to MAX_RECORD_BYTES."""
MESSAGE_COLUMNS = (
    "message_id",
    "parent_id",
    "message_tree_id",
    "text",
    "lang",
    "rank",
    "deleted",
    "synthetic",
    "review_result",
)
"""What is read of a table of messages; the other columns hold labels, dates and people."""
INSTALL_HINT = "Install it: pip install 'selfreward-daemon[train]'."


def parquet_records(path: Path) -> Iterator[tuple[str, Any]]:
    """Every row of `path`, as a dict, with its number from 1; at most one batch of rows is held.

    Raises BadInput, naming the row group, where the data are broken.
    """
    try:
        import pyarrow.parquet as parquet  # type: ignore[import-untyped]
    except ImportError:
        raise BadInput(f"{path} is a Parquet file, and pyarrow is not installed", INSTALL_HINT) from None
    group = 0
    first = 1
    try:
        with parquet.ParquetFile(path) as file:
            columns = wanted(file.schema_arrow.names)
            for group in range(file.num_row_groups):
                batches = file.iter_batches(batch_size=BATCH_ROWS, row_groups=[group], columns=columns)
                yield from batch_records(batches, str(path), first)
                first += file.metadata.row_group(group).num_rows
    except (OSError, ValueError, _arrow_error()) as error:
        raise BadInput(
            f"{path} row group {group + 1}: broken Parquet data: {first_line(error)}",
            "The file may be cut off: get it again. Nothing of it was used.",
        ) from None


def wanted(columns: Sequence[str]) -> list[str]:
    """The columns worth reading: of messages the known ones, of any other table all but pandas' index."""
    if "message_id" in columns:
        return [column for column in MESSAGE_COLUMNS if column in columns]
    return [column for column in columns if not column.startswith("__index_level_")]


def batch_records(batches: Iterable[Any], where: str, first: int = 1) -> Iterator[tuple[str, Any]]:
    """Rows of record batches or tables, numbered from `first`; one above the cap never becomes Python."""
    number = first
    for batch in batches:
        for row in _rows(batch):
            yield f"{where} row {number}", row
            number += 1


def _rows(batch: Any) -> Iterator[Any]:
    if batch.nbytes <= MAX_RECORD_BYTES:
        yield from batch.to_pylist()
        return
    for index in range(batch.num_rows):
        row = batch.slice(index, 1)
        yield Skip.TOO_LARGE if row.nbytes > MAX_RECORD_BYTES else row.to_pylist()[0]


def first_line(error: BaseException) -> str:
    """An error of a library in one line: the rest is its advice to programmers."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _arrow_error() -> type[Exception]:
    import pyarrow

    return pyarrow.ArrowException  # type: ignore[no-any-return]
