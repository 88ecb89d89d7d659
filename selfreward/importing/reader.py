"""Reads preferences: a user's files, data sets of the hub, the ranked replies that ship.

A file may hold any number of records, which are read one by one. One that is well formed but unwanted is
told by its reason; one that cannot be understood stops the reading with its line.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any

from selfreward.errors import BadInput
from selfreward.importing.hh import from_hh, is_hh
from selfreward.importing.reasons import NotUnderstood
from selfreward.importing.trees import from_tree, is_tree
from selfreward.importing.trl import from_trl, is_trl
from selfreward.resources import seeds_dir
from selfreward.seeds import hub
from selfreward.seeds.files import Located, file_records
from selfreward.seeds.messages import rebuilt
from selfreward.seeds.reader import BUILTIN
from selfreward.seeds.skips import Skip
from selfreward.types import Preference

Found = Preference | str
"""A preference, or the reason why a record (or a part of one) gives none."""


class PreferenceFormat(StrEnum):
    """How a record holds a preference."""

    TRL = "trl"
    HH = "hh"
    OASST = "oasst"


READERS: Mapping[PreferenceFormat, Callable[[Mapping[str, Any]], Iterable[Found]]] = {
    PreferenceFormat.TRL: lambda record: (from_trl(record),),
    PreferenceFormat.HH: lambda record: (from_hh(record),),
    PreferenceFormat.OASST: from_tree,
}
DETECTED: Mapping[PreferenceFormat, Callable[[Mapping[str, Any]], bool]] = {
    PreferenceFormat.OASST: is_tree,
    PreferenceFormat.HH: is_hh,
    PreferenceFormat.TRL: is_trl,
}
FORMATS_HINT = (
    'A record is one of: {"prompt": …, "chosen": …, "rejected": …} as TRL has it, texts or lists of '
    '{"role", "content"} (trl); {"chosen": "\\n\\nHuman: …\\n\\nAssistant: …", "rejected": …} as hh-rlhf '
    'has it (hh); a tree of OpenAssistant or {"prompt": …, "replies": [{"text", "rank"}]} (oasst).'
)
KEPT_HINT = "What stands before it is stored: mend the file and import it again, nothing is stored twice."


def read_preferences(name: str, base: Path, form: PreferenceFormat | None = None) -> Iterator[Found]:
    """What each record of `name` gives: a path from `base`, `hub:ORG/NAME[:SPLIT]` or `builtin:ranked`.

    The format of each record is told by its keys unless `form` says it. Raises BadInput, naming file and
    line, where the file is missing, empty or broken, or a record is of no known format.
    """
    some = False
    for place, record in rebuilt(_records(name, base)):
        some = True
        if isinstance(record, Skip):
            yield str(record)
            continue
        try:
            yield from _read(record, form)
        except NotUnderstood as error:
            raise BadInput(f"{place}: {error}", f"{FORMATS_HINT}\n{KEPT_HINT}") from None
    if not some:
        raise BadInput(f"{name} holds no preferences: it is empty", FORMATS_HINT)


def _read(record: Any, form: PreferenceFormat | None) -> Iterator[Found]:
    if not isinstance(record, dict):
        raise NotUnderstood(f"expected a JSON object, found {type(record).__name__}")
    chosen = form or next((each for each, fits in DETECTED.items() if fits(record)), None)
    if chosen is None:
        keys = ", ".join(repr(key) for key in sorted(record)[:8]) or "none"
        raise NotUnderstood(f"no preference: an object with the keys {keys}")
    for found in READERS[chosen](record):
        yield found if isinstance(found, Preference) else str(found)


def _records(name: str, base: Path) -> Iterator[Located]:
    if name.startswith(hub.PREFIX):
        return hub.hub_records(name, base)
    path = seeds_dir() / BUILTIN[name] if name in BUILTIN else base / name
    if not path.is_file():
        what = "is not a file" if path.exists() else "does not exist"
        raise BadInput(f"{path} {what}", "Name a file of preferences, or hub:ORG/NAME for one of the hub's.")
    return file_records(path)
