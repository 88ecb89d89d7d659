"""Where two texts differ, word by word: what was kept, deleted and inserted. Pure, and bounded in work.

The words that both have in the same order are found by rapidfuzz's bit-parallel LCS, whose time and memory
grow with the product of the two lengths; texts too long for that are compared by lines, and beyond that
only their common beginning and end are told.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import groupby

from rapidfuzz.distance import LCSseq

MOST_CELLS = 25_000_000
"""Old words × new words that are still compared: 5,000 against 5,000 take 60 ms and 3 MB."""
_WORDS = re.compile(r"\w+|\s+|[^\w\s]")
_LINES = re.compile(r"[^\n]*\n|[^\n]+")


class Kind(StrEnum):
    """What happened to a piece on the way from the old text to the new one."""

    KEPT = "kept"
    DELETED = "deleted"
    INSERTED = "inserted"


@dataclass(frozen=True, kw_only=True)
class Piece:
    """A stretch of text of one kind; never empty."""

    kind: Kind
    text: str


@dataclass(frozen=True, kw_only=True)
class Difference:
    """Both texts as one sequence of pieces; where something is replaced the deleted comes first."""

    pieces: tuple[Piece, ...]

    @property
    def old(self) -> tuple[Piece, ...]:
        """The old text: kept and deleted."""
        return tuple(piece for piece in self.pieces if piece.kind is not Kind.INSERTED)

    @property
    def new(self) -> tuple[Piece, ...]:
        """The new text: kept and inserted."""
        return tuple(piece for piece in self.pieces if piece.kind is not Kind.DELETED)

    @property
    def shared(self) -> float:
        """How much of both texts is kept, 0 to 1, by characters, white space aside; 1 if there are none."""
        sizes = dict.fromkeys(Kind, 0)
        for piece in self.pieces:
            sizes[piece.kind] += sum(map(len, piece.text.split()))
        whole = 2 * sizes[Kind.KEPT] + sizes[Kind.DELETED] + sizes[Kind.INSERTED]
        return 2 * sizes[Kind.KEPT] / whole if whole else 1.0


def differences(old: str, new: str) -> Difference:
    """How `new` differs from `old`. Joining `.old` gives the old text, joining `.new` the new one."""
    before, after = _WORDS.findall(old), _WORDS.findall(new)
    begin, end = _common_ends(before, after)
    steps = [
        *_all(Kind.KEPT, before[:begin]),
        *_compared(before[begin : len(before) - end], after[begin : len(after) - end]),
        *_all(Kind.KEPT, before[len(before) - end :]),
    ]
    return Difference(pieces=tuple(_tidied(steps)))


Step = tuple[Kind, str]
Negligible = Callable[[Piece, Sequence[Piece], Sequence[Piece]], bool]


def _common_ends(before: Sequence[str], after: Sequence[str]) -> tuple[int, int]:
    """How many units at the beginning, and how many of the rest at the end, are the same."""
    most = min(len(before), len(after))
    begin = next((place for place in range(most) if before[place] != after[place]), most)
    rest = range(1, most - begin + 1)
    end = next((place for place in rest if before[-place] != after[-place]), most - begin + 1) - 1
    return begin, end


def _compared(before: Sequence[str], after: Sequence[str]) -> Iterator[Step]:
    """By these units; where they are too many by lines, and where those are too many not at all."""
    if len(before) * len(after) > MOST_CELLS:
        before, after = (_LINES.findall("".join(units)) for units in (before, after))
    if len(before) * len(after) > MOST_CELLS:
        yield from (*_all(Kind.DELETED, before), *_all(Kind.INSERTED, after))
        return
    numbers: dict[str, int] = {}  # for units: rapidfuzz compares hashes, and those of texts may collide
    old, new = ([numbers.setdefault(unit, len(numbers)) for unit in units] for units in (before, after))
    for step in LCSseq.opcodes(old, new):
        gone, come = before[step.src_start : step.src_end], after[step.dest_start : step.dest_end]
        if step.tag == "equal":
            yield from _all(Kind.KEPT, gone)
        else:
            yield from (*_all(Kind.DELETED, gone), *_all(Kind.INSERTED, come))


def _all(kind: Kind, units: Iterable[str]) -> Iterator[Step]:
    return ((kind, unit) for unit in units)


def _tidied(steps: Iterable[Step]) -> Sequence[Piece]:
    """Changes with next to nothing between them become one: confetti is hard to read."""
    pieces = [
        Piece(kind=kind, text="".join(unit for _, unit in units))
        for kind, units in groupby(steps, key=lambda step: step[0])
    ]
    for negligible in (_blank, _trifle):  # only whole changes, and no single words, make a word a trifle
        pieces = [*_merged(pieces, negligible)]
    return pieces


def _merged(pieces: Sequence[Piece], negligible: Negligible) -> Iterator[Piece]:
    """The pieces with those changes joined that only something negligible keeps apart."""
    runs = [tuple(run) for _, run in groupby(pieces, key=lambda piece: piece.kind is Kind.KEPT)]
    change: tuple[Piece, ...] = ()
    for place, run in enumerate(runs):
        before, after = runs[place - 1 : place], runs[place + 1 : place + 2]
        if run[0].kind is not Kind.KEPT or (before and after and negligible(run[0], before[0], after[0])):
            change += run
            continue
        yield from _joined(change)
        yield from run
        change = ()
    yield from _joined(change)


def _blank(kept: Piece, before: Sequence[Piece], after: Sequence[Piece]) -> bool:
    return not kept.text.strip()


def _trifle(kept: Piece, before: Sequence[Piece], after: Sequence[Piece]) -> bool:
    """Whether it is at most half as long as each of the changes around it (diff-match-patch's rule)."""
    longest = (max(len(piece.text) for piece in change) for change in (before, after))
    return 2 * len(kept.text.strip()) <= min(longest)


def _joined(change: Sequence[Piece]) -> Iterator[Piece]:
    """One deletion and one insertion with all between, if both hold more than white space."""
    sides = {
        kind: "".join(piece.text for piece in change if piece.kind in (kind, Kind.KEPT))
        for kind in (Kind.DELETED, Kind.INSERTED)
    }
    if {piece.kind for piece in change} >= set(sides):
        yield from (Piece(kind=kind, text=side) for kind, side in sides.items())
    else:
        yield from change
