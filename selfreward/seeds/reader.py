"""Reads seeds: what ships, a user's files, data sets of the hub.

A file is read whole or not at all. A record that is well formed but unwanted (another language,
deleted, a duplicate) is counted; one that cannot be understood stops the reading with its line.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from selfreward.errors import BadInput
from selfreward.resources import seeds_dir
from selfreward.seeds import hub
from selfreward.seeds.canaries import shipped_canaries, with_canaries
from selfreward.seeds.files import Located, file_records
from selfreward.seeds.messages import rebuilt
from selfreward.seeds.records import SHAPES_HINT, UnknownShape, seeds_of
from selfreward.seeds.skips import Skip
from selfreward.seeds.splits import key_of
from selfreward.types import Seed, Split

BUILTIN = {"builtin": "instructions.jsonl", "builtin:ranked": "ranked.jsonl"}
"""Names of what ships: answered instructions, and prompts with ranked and judged replies."""


@dataclass(frozen=True, kw_only=True)
class SeedReading:
    """What all the files of one run gave."""

    seeds: tuple[Seed, ...]
    """In the order of the files and of their records, each instruction once."""
    skipped: Mapping[str, int]
    """What was left out, counted by reason (`Skip`): records that gave no seed (`duplicate`,
    `not_english`, …), seeds without their replies (`ranks_…`), and single replies (`reply_…`)."""


def read_seeds(names: Sequence[str], base: Path, held_out: float = 0.33) -> SeedReading:
    """Read `names` in order: `builtin`, `builtin:ranked`, `hub:ORG/NAME[:SPLIT]`, or a path from `base`.

    What a file holds is told by its bytes and keys, not by its name. Two instructions that differ
    only in case or spacing are one: the first is kept, split included, unless it brings neither
    answer nor replies and a later one does. Of the seeds with ranked replies a share `held_out` is
    HELD_OUT, where the file does not say which; each of these has a canary as its last reply.
    Raises BadInput, naming file and line, when a file is missing, empty, broken or not of a known
    shape, and when nothing usable is left.
    """
    seeds: dict[str, Seed] = {}
    skipped: Counter[str] = Counter()
    for name in names:
        for item in _read(name, base, held_out):
            if isinstance(item, Skip):
                skipped[item] += 1
            elif not _add(item, seeds):
                skipped[Skip.DUPLICATE] += 1
    if not seeds:
        raise BadInput(_nothing(names, skipped), "Name a file with seeds; 'builtin' is what ships.")
    return SeedReading(
        seeds=tuple(_guarded(seeds.values())),
        skipped={str(reason): n for reason, n in sorted(skipped.items())},
    )


def _add(seed: Seed, seeds: dict[str, Seed]) -> bool:
    """Whether the instruction is new. A known one that brings nothing else is replaced by one that does."""
    key = key_of(seed.instruction)
    known = seeds.get(key)
    if known is None or (_bare(known) and not _bare(seed)):
        seeds[key] = seed
    return known is None


def _bare(seed: Seed) -> bool:
    return seed.answer is None and not seed.replies


def _guarded(seeds: Iterable[Seed]) -> Iterator[Seed]:
    """The seeds, each held-out one with the next canary."""
    canaries, turns = shipped_canaries(), count()
    for seed in seeds:
        yield with_canaries(seed, canaries, next(turns)) if seed.split is Split.HELD_OUT else seed


def _nothing(names: Sequence[str], skipped: Mapping[str, int]) -> str:
    if not names:
        return "there are no seeds: seeds.files is empty"
    counts = ", ".join(f"{n} {reason}" for reason, n in sorted(skipped.items()))
    return f"no record of {', '.join(names)} can be used as a seed (skipped: {counts})"


def _read(name: str, base: Path, held_out: float) -> Iterator[Seed | Skip]:
    """What each record of one file or data set gives."""
    for place, record in rebuilt(_records(name, base)):
        if isinstance(record, Skip):
            yield record
            continue
        try:
            yield from seeds_of(record, name, held_out)
        except UnknownShape as error:
            raise BadInput(f"{place}: {error}", SHAPES_HINT) from None


def _records(name: str, base: Path) -> Iterator[Located]:
    if name.startswith(hub.PREFIX):
        return _not_empty(hub.hub_records(name, base), f"{name}: the data set")
    path = seeds_dir() / BUILTIN[name] if name in BUILTIN else base / name
    return _not_empty(file_records(path), f"{path} line 1: the file")


def _not_empty(records: Iterator[Located], what: str) -> Iterator[Located]:
    number = 0
    for number, item in enumerate(records, start=1):  # noqa: B007
        yield item
    if not number:
        raise BadInput(f"{what} is empty", f"Fill it or leave it out. {SHAPES_HINT}")
