"""Rows into files, as they come: JSON lines, Parquet in row groups, or a directory of `datasets`."""

import json
import shutil
import uuid
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from selfreward.errors import BadInput, SelfRewardError
from selfreward.exports.columns import arrow_schema, record_batch, to_record
from selfreward.exports.kinds import Format
from selfreward.store.exported import Exported

if TYPE_CHECKING:
    import pyarrow  # type: ignore[import-untyped]

BATCH_ROWS = 256
GROUP_BYTES = 16 * 2**20
"""Of a row group, before compression: what a reader of the file must hold at once, and so must we."""
SHARD_BYTES = 512 * 2**20
"""Of a Parquet file, before compression. One that would be larger is followed by another."""
INSTALL_HINT = "Install it: pip install 'selfreward-daemon[train]', or choose --format parquet."
_LINE_ENDS = str.maketrans({mark: f"\\u{ord(mark):04x}" for mark in "\x85\u2028\u2029"})
"""Some readers take these for the end of a line, which JSON allows in texts."""

Rows = Iterable[Exported]
Write = Callable[[Rows, type[Exported], Path, str], None]


def write_jsonl(rows: Rows, row_type: type[Exported], directory: Path, stem: str) -> None:
    """One file, one JSON object a line, UTF-8."""
    with (directory / f"{stem}.jsonl").open("w", encoding="utf-8", newline="\n") as file:
        for row in rows:
            line = json.dumps(to_record(row), ensure_ascii=False, allow_nan=False)
            file.write(line.translate(_LINE_ENDS) + "\n")


def write_parquet(
    rows: Rows,
    row_type: type[Exported],
    directory: Path,
    stem: str,
    group_bytes: int = GROUP_BYTES,
    shard_bytes: int = SHARD_BYTES,
) -> None:
    """`<stem>.parquet`, or `<stem>-00000.parquet`, … where one file would be too large."""
    schema = arrow_schema(row_type)
    groups, shards = _groups(rows, schema, group_bytes), 0
    for shards, shard in enumerate(_shards(groups, shard_bytes), start=1):
        _write_shard(directory / f"{stem}-{shards - 1:05d}.parquet", schema, shard)
    if shards == 1:
        (directory / f"{stem}-00000.parquet").rename(directory / f"{stem}.parquet")


def _groups(rows: Rows, schema: "pyarrow.Schema", most: int) -> Iterator["pyarrow.Table"]:
    import pyarrow as pa

    held: list[Any] = []
    held_bytes = 0
    source = iter(rows)
    while batch := list(islice(source, BATCH_ROWS)):
        held.append(record_batch(batch, schema))
        held_bytes += held[-1].nbytes
        if held_bytes >= most:
            yield pa.Table.from_batches(held)
            held, held_bytes = [], 0
    if held:
        yield pa.Table.from_batches(held)


def _shards(groups: Iterator["pyarrow.Table"], most: int) -> Iterator[Iterator["pyarrow.Table"]]:
    """The groups of each file in turn; each must be used up before the next is asked for."""
    for first in groups:
        yield _shard(first, groups, most)


def _shard(first: "pyarrow.Table", others: Iterator["pyarrow.Table"], most: int) -> Iterator["pyarrow.Table"]:
    held = first.nbytes
    yield first
    while held < most and (group := next(others, None)) is not None:
        held += group.nbytes
        yield group


def _write_shard(path: Path, schema: "pyarrow.Schema", groups: Iterator["pyarrow.Table"]) -> None:
    from pyarrow import parquet

    with parquet.ParquetWriter(path, schema, compression="zstd") as writer:
        for group in groups:
            writer.write_table(group, row_group_size=group.num_rows)


def write_hf(rows: Rows, row_type: type[Exported], directory: Path, stem: str) -> None:
    """What `datasets.load_from_disk` opens: Arrow files and their description.

    Raises BadInput when the package `datasets` is not installed.
    """
    datasets = require_datasets()
    cache = directory / ".cache"
    shown = not datasets.utils.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    try:
        dataset = datasets.Dataset.from_generator(
            lambda: map(to_record, rows),
            features=datasets.Features.from_arrow_schema(arrow_schema(row_type)),
            cache_dir=str(cache),
            writer_batch_size=BATCH_ROWS,
            fingerprint=uuid.uuid4().hex,  # of the generator it could be none: it may not serve another run
        )
        dataset.save_to_disk(directory)
    except datasets.exceptions.DatasetGenerationError as error:
        raise (error.__cause__ if isinstance(error.__cause__, SelfRewardError | OSError) else error) from None
    finally:
        shutil.rmtree(cache, ignore_errors=True)
        if shown:
            datasets.enable_progress_bars()


def require_datasets() -> Any:
    """The package. Raises BadInput with the command that installs it."""
    try:
        import datasets
    except ImportError:
        raise BadInput(
            "--format hf needs the package datasets, which is not installed", INSTALL_HINT
        ) from None
    return datasets


WRITERS: dict[Format, Write] = {
    Format.JSONL: write_jsonl,
    Format.PARQUET: write_parquet,
    Format.HF: write_hf,
}
