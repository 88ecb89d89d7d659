"""What differs between two settings: those that a run was made with, and those it is started with."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import tomlkit

from selfreward.config.settings import Settings

MAKE_NOTHING = ("iterations", "daemon", "database", "engine", "evaluation", "gates", "notify")
"""What changes nothing of what a run makes: how long, on what, and how closely it is watched …"""
MAKE_NOTHING_EITHER = frozenset(
    f"{table}.{key}" for table in ("train", "bootstrap.sft") for key in ("save_minutes", "report_to")
)
"""… and of the trainings."""


@dataclass(frozen=True, kw_only=True)
class Change:
    """One setting that differs."""

    key: str
    """Dotted."""
    old: Any
    new: Any

    @property
    def shown(self) -> str:
        """For people: key: old → new."""
        return f"{self.key}: {toml(self.old)} → {toml(self.new)}"

    @property
    def override(self) -> str:
        """As --set takes it."""
        return f"{self.key}={toml(self.new)}"


def changes(before: Mapping[str, Any], after: Settings) -> list[Change]:
    """Every setting whose value differs, in the order of the settings.

    `before` is a dump of settings, of an older version perhaps: keys that it lacks have their defaults,
    and those that are gone count as unchanged.
    """
    defaults = Settings().model_dump(mode="json")
    old, new = _flat(before, defaults), _flat(after.model_dump(mode="json"), defaults)
    return [Change(key=key, old=old[key], new=value) for key, value in new.items() if old[key] != value]


def that_matter(found: Iterable[Change]) -> list[Change]:
    """Those that change what a run makes."""
    return [
        change
        for change in found
        if change.key.split(".")[0] not in MAKE_NOTHING and change.key not in MAKE_NOTHING_EITHER
    ]


def toml(value: Any) -> str:
    """A value as TOML has it on one line; one that is not set, in words."""
    if value is None:
        return "(unset)"
    if isinstance(value, dict):
        table = tomlkit.inline_table()
        table.update(value)
        return str(table.as_string())
    return str(tomlkit.item(value).as_string())


def _flat(values: Mapping[str, Any], defaults: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Dotted key → value of every key that `defaults` has; what is a table there is one here."""
    found: dict[str, Any] = {}
    for key, default in defaults.items():
        value = values.get(key, default)
        table = isinstance(default, dict) and bool(default)
        found |= _flat(value, default, f"{prefix}{key}.") if table else {prefix + key: value}
    return found
