"""Reads seed instructions: what ships, a user's JSONL, Self-Instruct tasks, OpenAssistant trees.

A file is read whole or not at all. A record that is well formed but unwanted (another language,
deleted, a duplicate) is counted; one that cannot be understood stops the reading with its line.
"""

import gzip
import json
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, BinaryIO

from selfreward.errors import BadInput
from selfreward.resources import seeds_dir
from selfreward.types import Seed

BUILTIN = "builtin"
MAX_RECORD_BYTES = 1_000_000
GZIP_MAGIC = b"\x1f\x8b"

Record = dict[str, Any]

_METADATA = frozenset({"id", "name", "source", "category", "is_classification"})
"""Keys of a plain seed that hold no part of its text. Any other key might, so it is not ignored."""

_SHAPES_HINT = (
    'Each line is one JSON object: {"instruction": …, "answer": …}, a Self-Instruct task '
    '{"instruction": …, "instances": [{"input": …, "output": …}]}, or an OpenAssistant tree '
    '{"prompt": {"text": …, "lang": …, "replies": […]}}.'
)
_CUT_HINT = (
    "The file may be cut off: get it again, or delete this line. Seed files hold one JSON object per line."
)


class Skip(StrEnum):
    """Why a record gave no seed."""

    TOO_LARGE = "too_large"
    EMPTY = "empty"
    NO_INSTANCE = "no_instance"
    """A Self-Instruct task without instances: its input is missing."""
    NOT_ENGLISH = "not_english"
    DELETED = "deleted"
    SYNTHETIC = "synthetic"
    """Written by a model, not by a person."""
    FAILED_REVIEW = "failed_review"
    NO_RANKED_REPLY = "no_ranked_reply"
    DUPLICATE = "duplicate"


@dataclass(frozen=True, kw_only=True)
class SeedReading:
    """What all the files of one run gave."""

    seeds: tuple[Seed, ...]
    """In the order of the files and of their lines, each instruction once."""
    skipped: Mapping[str, int]
    """Records that gave no seed, counted by reason (`too_large`, `duplicate`, `not_english`, …)."""


class _UnknownShape(Exception):
    """A record that is JSON but not a seed; the message says what is wrong with it."""


def read_seeds(names: Sequence[str], base: Path) -> SeedReading:
    """Read `names` in order: `builtin`, or paths relative to `base`, gzipped or not.

    The format of each record is told by its keys, not by the file's name. Two instructions that
    differ only in case or spacing are one; the first is kept, with the first answer either has.
    Raises BadInput, naming file and line, when a file is missing, empty, broken or not of a known
    shape, and when nothing usable is left.
    """
    seeds: dict[str, Seed] = {}
    skipped: Counter[str] = Counter()
    for name in names:
        for item in _read(name, base):
            if isinstance(item, Skip):
                skipped[item] += 1
            elif not _add(item, seeds):
                skipped[Skip.DUPLICATE] += 1
    if not seeds:
        raise BadInput(_nothing(names, skipped), "Set seeds.files to a file with seeds, or to builtin.")
    return SeedReading(
        seeds=tuple(seeds.values()), skipped={str(reason): n for reason, n in sorted(skipped.items())}
    )


def _add(seed: Seed, seeds: dict[str, Seed]) -> bool:
    """Whether the instruction is new. A known one without an answer takes over this one's."""
    key = " ".join(seed.instruction.split()).casefold()
    known = seeds.get(key)
    if known is None or (known.answer is None and seed.answer is not None):
        seeds[key] = seed
    return known is None


def _nothing(names: Sequence[str], skipped: Mapping[str, int]) -> str:
    if not names:
        return "there are no seeds: seeds.files is empty"
    counts = ", ".join(f"{n} {reason}" for reason, n in sorted(skipped.items()))
    return f"no record of {', '.join(names)} can be used as a seed (skipped: {counts})"


def _read(name: str, base: Path) -> Iterator[Seed | Skip]:
    """What each record of one file gives."""
    path = seeds_dir() / "instructions.jsonl" if name == BUILTIN else base / name
    records = 0
    for number, line in _lines(path):
        if line is not None and not line.strip():
            continue
        records += 1
        if line is None:
            yield Skip.TOO_LARGE
            continue
        place = f"{path} line {number}"
        try:
            yield from _seeds_of(_parse(line, place), name)
        except _UnknownShape as error:
            raise BadInput(f"{place}: {error}", _SHAPES_HINT) from None
    if not records:
        raise BadInput(
            f"{path} line 1: the file is empty", f"Fill it or take it out of seeds.files. {_SHAPES_HINT}"
        )


def _lines(path: Path) -> Iterator[tuple[int, bytes | None]]:
    """Numbered lines, unzipped; None stands for one above MAX_RECORD_BYTES, which is never held whole."""
    if not path.is_file():
        raise BadInput(
            f"seed file {path} {'is not a file' if path.exists() else 'does not exist'}",
            f"Correct seeds.files; relative paths start at the run's directory. {BUILTIN!r} is what ships.",
        )
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
    except OSError as error:
        raise BadInput(
            f"{path} cannot be read: {error.strerror or error}", "Check its permissions."
        ) from None


def _open(path: Path) -> BinaryIO | gzip.GzipFile:
    """The file's bytes, unzipped if they are gzip, whatever its name says."""
    with path.open("rb") as stream:
        zipped = stream.read(len(GZIP_MAGIC)) == GZIP_MAGIC
    return gzip.open(path, "rb") if zipped else path.open("rb")


def _parse(line: bytes, place: str) -> Record:
    try:
        record = json.loads(line.decode("utf-8-sig"))  # some editors put a byte order mark first
    except UnicodeDecodeError as error:
        raise BadInput(f"{place}: not UTF-8 text at byte {error.start + 1}", _CUT_HINT) from None
    except json.JSONDecodeError as error:
        raise BadInput(f"{place}: broken JSON at column {error.colno}: {error.msg}", _CUT_HINT) from None
    except (ValueError, RecursionError) as error:  # a number of thousands of digits, bottomless nesting
        raise BadInput(f"{place}: JSON that cannot be read: {error}", _CUT_HINT) from None
    if not isinstance(record, dict):
        raise _UnknownShape(f"expected a JSON object, found {type(record).__name__}")
    return record


def _seeds_of(record: Record, origin: str) -> Iterator[Seed | Skip]:
    if "prompt" in record:
        yield _tree(record, origin)
    elif "instances" in record:
        yield from _task(record, origin)
    elif "instruction" in record:
        yield _plain(record, origin)
    else:
        raise _UnknownShape(f"not a seed: an object with the keys {_listed(record)}")


def _plain(record: Record, origin: str) -> Seed | Skip:
    unknown = record.keys() - _METADATA - {"instruction", "answer"}
    if unknown:
        raise _UnknownShape(f"keys that a seed does not have: {_listed(unknown)}")
    answer = _text(record, "answer") if record.get("answer") is not None else ""
    return _seed(_text(record, "instruction"), answer, origin)


def _task(record: Record, origin: str) -> Iterator[Seed | Skip]:
    """A Self-Instruct task (arXiv 2212.10560): one seed an instance, its input below the instruction."""
    instruction = _text(record, "instruction")
    if not record["instances"]:
        yield Skip.NO_INSTANCE
    for instance in _objects(record, "instances"):
        parts = (instruction, _text(instance, "input"))
        yield _seed("\n\n".join(filter(None, parts)), _text(instance, "output"), origin)


def _tree(record: Record, origin: str) -> Seed | Skip:
    """An OpenAssistant tree: its first turn, answered by the reply that people ranked best (rank 0)."""
    prompt = record["prompt"]
    if not isinstance(prompt, dict):
        raise _UnknownShape(f'"prompt" must be an object, found {type(prompt).__name__}')
    question = _text(prompt, "text")
    replies = _objects(prompt, "replies")
    if flaw := _flaw(prompt):
        return flaw
    best = next((reply for reply in replies if reply.get("rank") == 0), None)
    if best is None:
        return Skip.NO_RANKED_REPLY
    answer = _text(best, "text")
    return _flaw(best) or (_seed(question, answer, origin) if answer else Skip.EMPTY)


def _flaw(message: Record) -> Skip | None:
    """What rules out a message of a tree; a review that never took place does not."""
    if _text(message, "lang") != "en":
        return Skip.NOT_ENGLISH
    if message.get("deleted"):
        return Skip.DELETED
    if message.get("synthetic"):
        return Skip.SYNTHETIC
    if message.get("review_result") is False:
        return Skip.FAILED_REVIEW
    return None


def _seed(instruction: str, answer: str, origin: str) -> Seed | Skip:
    if not instruction:
        return Skip.EMPTY
    return Seed(instruction=instruction, answer=answer or None, origin=origin)


def _text(record: Record, key: str) -> str:
    """A string field, stripped. A lone surrogate (a cut emoji) is refused: no tokeniser takes it."""
    value = record.get(key)
    if not isinstance(value, str):
        raise _UnknownShape(f'"{key}" must be a string, found {type(value).__name__}')
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        raise _UnknownShape(f'"{key}" holds half a character (a lone surrogate)') from None
    return value.strip()


def _objects(record: Record, key: str) -> list[Record]:
    value = record.get(key)
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise _UnknownShape(f'"{key}" must be a list of objects')
    return value


def _listed(keys: Iterable[str]) -> str:
    """The first keys, quoted; a broken record may have thousands."""
    return ", ".join(repr(key) for key in sorted(keys)[:8]) or "none"
