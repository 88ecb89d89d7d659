"""Cards: the README.md of an exported data set or model, with the front matter that the hub reads."""

import re
from functools import cache

from jinja2 import Environment, PackageLoader, StrictUndefined

from selfreward import __version__
from selfreward.text import printable
from selfreward.types import EvaluationRow

_MARKUP = re.compile(r"[\\`*\[\]|<>#~]|(?<!\w)_|_(?!\w)")
NOTHING = "–"


def render(template: str, **facts: object) -> str:
    """A card from one of the templates beside this module. Whatever it is given is shown, never obeyed."""
    return _environment().get_template(template).render(version=__version__, **facts)


def inert(text: object) -> str:
    """A value on one line, with nothing in it that Markdown or HTML would obey."""
    line = printable(" ".join(str(text).split()))
    return _MARKUP.sub(r"\\\g<0>", line).replace("&", "&amp;")


def code(text: object) -> str:
    """A value as code within a line: no backtick of its own can end it."""
    return "`" + printable(" ".join(str(text).split())).replace("`", "'").replace("|", "\\|") + "`"


def figure(row: EvaluationRow) -> str:
    """A figure with its 95% interval."""
    interval = "" if row.low is None or row.high is None else f" [{number(row.low)}, {number(row.high)}]"
    return f"{number(row.value)}{interval}"


def number(value: float | None) -> str:
    """A number with the digits that say something."""
    if value is None:
        return NOTHING
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("selfreward.exports"),
        undefined=StrictUndefined,
        autoescape=False,  # Markdown; `inert` and `code` are for what others wrote
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"inert": inert, "code": code, "figure": figure, "number": number}
    return environment
