"""Ready settings, in selfreward/presets/*.toml, as nested tables for `selfreward init`.

A preset stands alone (`demo`, `paper`), or it is a method on top of the numbers of another: then it begins
with `base = "paper"`, and its tables hold what the method is. `load_preset("rrhf")` is the base with these
tables laid over it. On the demo model (`--model demo`) the base is `demo`, and two more layers count:
`[methods]` of demo.toml, which all methods share there, and the method's own `[demo]`. A later layer wins,
key by key:

    paper     <  the method's tables
    demo      <  demo.toml [methods]  <  the method's tables  <  the method's [demo]

A method's [judge] thus holds on the demo model as well, unless its [demo.judge] says otherwise.
"""

import difflib
import tomllib
from collections.abc import Mapping
from functools import reduce
from typing import Any

from selfreward.errors import BadInput
from selfreward.resources import preset_lines, presets_dir

BASE, ON_DEMO, METHODS = "base", "demo", "methods"
"""Keys of a preset that are no settings."""


def preset_names() -> list[str]:
    """The presets that ship, sorted."""
    return sorted(preset_lines())


def method_names() -> list[str]:
    """Those of them that are a method on top of other numbers, sorted."""
    return [name for name in preset_names() if BASE in _read(name)]


def load_preset(name: str, on_demo: bool = False) -> dict[str, Any]:
    """What a preset departs in from the defaults; with `on_demo` a method on the demo model, with that model.

    Raises BadInput with the nearest name for one that is not there.
    """
    own = _read(name)
    base, demo, _ = own.pop(BASE, None), own.pop(ON_DEMO, {}), own.pop(METHODS, {})
    if base is None:
        return own
    if not on_demo:
        return _laid(load_preset(base), own)
    return reduce(_laid, (load_preset("demo"), _read("demo")[METHODS], own, demo))


def _read(name: str) -> dict[str, Any]:
    if name not in preset_names():
        near = difflib.get_close_matches(name, preset_names(), n=1, cutoff=0.5)
        meant = f"; did you mean {near[0]!r}?" if near else ""
        raise BadInput(f"there is no preset {name!r}{meant}", f"Presets: {', '.join(preset_names())}.")
    return tomllib.loads((presets_dir() / f"{name}.toml").read_text(encoding="utf-8"))


def _laid(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Tables of `above` over those of `below`, key by key."""
    merged = dict(below)
    for key, value in above.items():
        under = merged.get(key)
        merged[key] = _laid(under, value) if isinstance(under, dict) and isinstance(value, dict) else value
    return merged
