"""Records of a file: JSON lines, gzipped or not, and Parquet. What a file is, its first bytes tell."""

import gzip
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from selfreward.errors import BadInput
from selfreward.seeds.skips import MAX_RECORD_BYTES, Skip
from selfreward.seeds.tables import PARQUET_MAGIC, parquet_records

GZIP_MAGIC = b"\x1f\x8b"

Located = tuple[str, Any]
"""Where a record is, for messages, and the record: any JSON value, or the Skip that stands for it."""

_CUT_HINT = (
    "The file may be cut off: get it again, or delete this line. Such files hold one JSON object per line."
)


def file_records(path: Path) -> Iterator[Located]:
    """Every record of `path` with its line or row. Raises BadInput where the file is missing or broken."""
    if not path.is_file():
        raise BadInput(
            f"seed file {path} {'is not a file' if path.exists() else 'does not exist'}",
            "Correct its name; a relative path in seeds.files starts at the run's directory. "
            "'builtin' and 'builtin:ranked' are what ships.",
        )
    try:
        magic = _first_bytes(path)
        yield from parquet_records(path) if magic == PARQUET_MAGIC else _json_lines(path)
    except OSError as error:
        raise BadInput(
            f"{path} cannot be read: {error.strerror or error}", "Check its permissions."
        ) from None


def _first_bytes(path: Path) -> bytes:
    with path.open("rb") as stream:
        return stream.read(len(PARQUET_MAGIC))


def _json_lines(path: Path) -> Iterator[Located]:
    for number, line in _lines(path):
        place = f"{path} line {number}"
        if line is None:
            yield place, Skip.TOO_LARGE
        elif line.strip():
            yield place, _parse(line, place)


def _lines(path: Path) -> Iterator[tuple[int, bytes | None]]:
    """Numbered lines, unzipped; None stands for one above MAX_RECORD_BYTES, which is never held whole."""
    number = 1
    try:
        with _open(path) as stream:
            while line := stream.readline(MAX_RECORD_BYTES + 1):
                large = len(line.rstrip(b"\n")) > MAX_RECORD_BYTES
                yield number, None if large else line
                while line and not line.endswith(b"\n"):
                    line = stream.readline(MAX_RECORD_BYTES)
                number += 1
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise BadInput(f"{path} line {number}: broken gzip data: {error}", "Get the file again.") from None


def _open(path: Path) -> BinaryIO | gzip.GzipFile:
    """The file's bytes, unzipped if they are gzip, whatever its name says."""
    return gzip.open(path, "rb") if _first_bytes(path).startswith(GZIP_MAGIC) else path.open("rb")


def _parse(line: bytes, place: str) -> Any:
    try:
        return json.loads(line.decode("utf-8-sig"))  # some editors put a byte order mark first
    except UnicodeDecodeError as error:
        raise BadInput(f"{place}: not UTF-8 text at byte {error.start + 1}", _CUT_HINT) from None
    except json.JSONDecodeError as error:
        raise BadInput(f"{place}: broken JSON at column {error.colno}: {error.msg}", _CUT_HINT) from None
    except (ValueError, RecursionError) as error:  # a number of thousands of digits, bottomless nesting
        raise BadInput(f"{place}: JSON that cannot be read: {error}", _CUT_HINT) from None
