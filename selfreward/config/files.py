"""Reads settings from TOML, environment and command line, explains mistakes, and writes commented TOML."""

import difflib
import os
import re
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import tomlkit
from pydantic import SecretStr, ValidationError

from selfreward.config.consistency import Conflict, conflicts
from selfreward.config.section import Section
from selfreward.config.settings import Settings, setting_names
from selfreward.errors import BadInput
from selfreward.places import SETTINGS_FILE

ENV_PREFIX = "SELFREWARD_"
ENV_NOT_SETTINGS = frozenset(
    {"SELFREWARD_CRASH_AT", "SELFREWARD_LOG_JSON", "SELFREWARD_LOG_LEVEL", "SELFREWARD_TOKEN"}
)

SECRETS = frozenset({("notify", "url")})
"""Settings whose values are in no message."""


def load_settings(
    directory: Path, overrides: Iterable[str] = (), environ: Mapping[str, str] = os.environ
) -> Settings:
    """The settings of the run in `directory`: its TOML, then `SELFREWARD_…`, then `--set a.b=c`.

    Raises BadInput with file, line and the nearest valid name for whatever cannot be used.
    """
    path = directory / SETTINGS_FILE
    if not path.is_file():
        raise BadInput(
            f"no {SETTINGS_FILE} in {directory}",
            "Make one with `selfreward init`, or name the run's directory with --dir.",
        )
    text = _read_text(path)
    sources = [
        *((f"environment variable {key}", *_split_env(key, value)) for key, value in _settings_env(environ)),
        *((f"--set {item}", *_split_override(item)) for item in overrides),
    ]
    return parse_settings(text, str(path), sources)


def parse_settings(
    text: str, name: str, overrides: Iterable[tuple[str, tuple[str, ...], Any]] = ()
) -> Settings:
    """Settings from TOML `text` called `name` in messages, with (source, key path, value) overrides."""
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise BadInput(f"{name} is not valid TOML: {error}") from None
    origin: dict[tuple[str, ...], str] = {}
    for source, path, value in overrides:
        _assign(data, path, value, source)
        origin[path] = source
    try:
        settings = Settings.model_validate(data)
    except ValidationError as error:
        raise BadInput("\n".join(_explain(item, text, name, origin) for item in error.errors())) from None
    if found := conflicts(settings):
        told = (f"{_place_of(conflict, text, name, origin)}: {conflict.message}" for conflict in found)
        raise BadInput("\n".join(told), "\n".join(dict.fromkeys(conflict.remedy for conflict in found)))
    return settings


def render_settings(values: Mapping[str, Any], header: str) -> str:
    """A commented TOML file with every key: `values` where given, defaults elsewhere."""
    settings = Settings.model_validate(values)
    document = tomlkit.document()
    for line in header.splitlines():
        document.add(tomlkit.comment(line) if line else tomlkit.nl())
    document.add(tomlkit.nl())
    _render_section(settings, document)
    return tomlkit.dumps(document)


def _render_section(section: Section, table: Any) -> None:
    """Scalars first, then sub-tables: a TOML key after a table would belong to that table."""
    fields = type(section).model_fields
    for key, field in fields.items():
        value = getattr(section, key)
        if isinstance(value, Section):
            continue
        for line in (field.description or "").splitlines():
            table.add(tomlkit.comment(line))
        if value is None:
            table.add(tomlkit.comment(f"{key} = …"))
        else:
            table.add(key, _toml(value))
    for key in fields:
        value = getattr(section, key)
        if isinstance(value, Section):
            child = tomlkit.table()
            doc = (type(value).__doc__ or "").strip()
            child.comment(doc.splitlines()[0]) if doc else None
            _render_section(value, child)
            table.add(tomlkit.nl())
            table.add(key, child)


def _toml(value: Any) -> Any:
    """A dict on one line: as a table of its own it would swallow the keys after it."""
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    if isinstance(value, dict):
        inline = tomlkit.inline_table()
        inline.update(value)
        return inline
    return list(value) if isinstance(value, tuple) else value


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise BadInput(f"{path} is not UTF-8 text: byte {error.start} cannot be read") from None


def _settings_env(environ: Mapping[str, str]) -> Iterable[tuple[str, str]]:
    names = sorted(key for key in environ if key.startswith(ENV_PREFIX) and key not in ENV_NOT_SETTINGS)
    return [(key, environ[key]) for key in names]


def _split_env(key: str, value: str) -> tuple[tuple[str, ...], Any]:
    """SELFREWARD_TRAIN__BETA=0.2 is train.beta = 0.2."""
    path = tuple(part.lower() for part in key.removeprefix(ENV_PREFIX).split("__"))
    return path, _toml_value(value)


def _split_override(item: str) -> tuple[tuple[str, ...], Any]:
    key, equals, value = item.partition("=")
    if not equals or not key.strip():
        raise BadInput(
            f"--set {item}: expected key=value", "For example: --set train.beta=0.2 --set iterations=3"
        )
    return tuple(part.strip() for part in key.split(".")), _toml_value(value)


def _toml_value(text: str) -> Any:
    """A TOML value where the text is one, else the text itself: paths and names need no quotes."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _assign(data: dict[str, Any], path: tuple[str, ...], value: Any, source: str) -> None:
    table = data
    for part in path[:-1]:
        table = table.setdefault(part, {})
        if not isinstance(table, dict):
            raise BadInput(f"{source}: {part!r} is a value, not a table of settings")
    table[path[-1]] = value


def _explain(item: Mapping[str, Any], text: str, name: str, origin: Mapping[tuple[str, ...], str]) -> str:
    path = tuple(str(part) for part in item["loc"])
    place = origin.get(path) or _place(text, name, path)
    dotted = ".".join(path)
    if path in SECRETS:
        return f"{place.partition('=')[0]}: {dotted}: {item['msg']}"
    if item["type"] == "extra_forbidden":
        return f"{place}: there is no setting {dotted!r}{_nearest(path)}"
    return f"{place}: {dotted or 'settings'}: {item['msg']} (got {item['input']!r:.80})"


def _place_of(conflict: Conflict, text: str, name: str, origin: Mapping[tuple[str, ...], str]) -> str:
    """Where the first of its settings stands that stands anywhere."""
    paths = [tuple(key.split(".")) for key in conflict.keys]
    places = (origin.get(path) or _place(text, name, path) for path in paths)
    return next((place for place in places if place != name), name)


def _nearest(path: tuple[str, ...]) -> str:
    """The valid name closest to the last part of `path`, wherever in the settings it lives."""
    known = {dotted.rsplit(".", 1)[-1]: dotted for dotted in reversed(setting_names())}
    siblings = [n for n in setting_names() if n.rsplit(".", 1)[0] == ".".join(path[:-1]) or "." not in n]
    near = difflib.get_close_matches(".".join(path), siblings, n=1, cutoff=0.6)
    if near:
        return f"; did you mean {near[0]!r}?"
    elsewhere = difflib.get_close_matches(path[-1], known, n=1, cutoff=0.7)
    return f"; did you mean {known[elsewhere[0]]!r}?" if elsewhere else ""


def _place(text: str, name: str, path: tuple[str, ...]) -> str:
    """`file line N` of a key in TOML text, as exact as plain tables allow."""
    table: tuple[str, ...] = ()
    for number, line in enumerate(text.splitlines(), 1):
        if header := re.match(r"\s*\[([^\[\]]+)\]", line):
            table = tuple(part.strip(" \"'") for part in header[1].split("."))
            if table == path:
                return f"{name} line {number}"
        elif key := re.match(r"\s*([\w.\"'-]+)\s*=", line):
            here = table + tuple(part.strip(" \"'") for part in key[1].split("."))
            if here == path[: len(here)] and len(here) > len(table):
                return f"{name} line {number}"
    return name
