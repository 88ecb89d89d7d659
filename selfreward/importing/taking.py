"""Takes preferences into a run, a batch of rows at a time, and counts what was left out."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from selfreward.errors import BadInput
from selfreward.importing.reader import FORMATS_HINT, Found
from selfreward.importing.reasons import LeftOut
from selfreward.seeds.hub import PREFIX
from selfreward.seeds.splits import key_of
from selfreward.store import Store
from selfreward.types import Preference, RunRow, Split

BATCH = 250
OWN = "ai"
"""The origin of what the model's own judge prefers: no file may have it."""


@dataclass(frozen=True, kw_only=True)
class Taken:
    """What one file gave."""

    origin: str
    read: int
    """Preferences that can be used."""
    new: int
    """Those of them that were not there yet."""
    left_out: Mapping[str, int] = field(default_factory=dict)
    """Records, or replies of trees, by the reason why they were not taken."""


def check_origin(origin: str) -> str:
    """The name under which a file's preferences are stored. Raises BadInput for one that cannot be."""
    if origin == OWN or not origin.strip() or len(origin) > 200 or not origin.isprintable():
        raise BadInput(
            f"{origin!r} cannot be the name of imported preferences",
            f"Give another one with --name; {OWN!r} is what the model's own pairs are called.",
        )
    return origin


def origin_of(name: str) -> str:
    """What the preferences of a file are called where nobody says: its name, or the data set's."""
    return name.removeprefix(PREFIX) if name.startswith(PREFIX) else Path(name).name


def take(store: Store, run: RunRow, origin: str, found: Iterable[Found], limit: int | None = None) -> Taken:
    """Store preferences of a run as they come, `limit` of them at most.

    Everything that was read before an error is stored. The same again adds nothing.
    """
    left_out: Counter[str] = Counter()
    held_out = {key_of(seed.text) for seed in store.prompts.seeds(run.id, Split.HELD_OUT)}
    read = new = 0
    for batch in _batches(islice(_usable(found, held_out, left_out), limit)):
        read += len(batch)
        new += store.imported.add(run.id, origin, batch)
    if not read:
        counts = ", ".join(f"{n} {reason}" for reason, n in sorted(left_out.items())) or "no records"
        raise BadInput(f"nothing of {origin} can be used ({counts})", FORMATS_HINT)
    return Taken(origin=origin, read=read, new=new, left_out=dict(sorted(left_out.items())))


def _usable(found: Iterable[Found], held_out: set[str], left_out: Counter[str]) -> Iterator[Preference]:
    for each in found:
        if isinstance(each, str):
            left_out[each] += 1
        elif key_of(each.prompt) in held_out:
            left_out[LeftOut.HELD_OUT] += 1
        else:
            yield each


def _batches(preferences: Iterable[Preference]) -> Iterator[list[Preference]]:
    """BATCH at a time; where reading fails, first what came before that."""
    batch: list[Preference] = []
    try:
        for each in preferences:
            batch.append(each)
            if len(batch) == BATCH:
                yield batch
                batch = []
    except BadInput:
        if batch:
            yield batch
        raise
    if batch:
        yield batch
