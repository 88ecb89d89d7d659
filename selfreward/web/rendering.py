"""Pages from templates: everything is escaped, and a name that a template lacks is an error, not a gap."""

import hashlib
from collections.abc import Mapping
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

from fastapi import Request
from fastapi.responses import HTMLResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from selfreward import __version__
from selfreward.text import printable
from selfreward.web.security import logged_in
from selfreward.web.site import site_of

HERE = Path(__file__).resolve().parent
STATIC = HERE / "static"
NOTHING = "–"


def render(request: Request, template: str, /, status: int = 200, **context: Any) -> HTMLResponse:
    """A page from a template in templates/, which extends base.html.

    Each has `site` and `logged_in`; pages of one run give `run`, its name, which the search box uses.
    """
    site = site_of(request)
    known = {"site": site, "run": site.settings.name, "logged_in": logged_in(request)}
    text = _environment().get_template(template).render({**known, **context})
    return HTMLResponse(text, status_code=status)


def number(value: float | None, digits: int | None = None) -> str:
    """1,234 or 0.123; with `digits`, that many behind the point. A dash where there is nothing."""
    if value is None or value != value:
        return NOTHING
    if digits is None:
        digits = 0 if float(value).is_integer() or abs(value) >= 1000 else 2 if abs(value) >= 0.1 else 4
    return f"{value:,.{digits}f}".replace("-", "−")


def percent(value: float | None, digits: int = 1) -> str:
    """A share from 0 to 1 as 12.3%."""
    return NOTHING if value is None or value != value else f"{100 * value:.{digits}f}%".replace("-", "−")


def when(value: datetime | str | None) -> str:
    """A UTC time to the second, marked up as a time."""
    if value is None:
        return NOTHING
    moment = datetime.fromisoformat(value) if isinstance(value, str) else value
    written = f"{moment:%Y-%m-%d %H:%M:%S}"
    return Markup('<time datetime="{0}Z">{1}</time>').format(written.replace(" ", "T"), written)


def duration(seconds: float | None) -> str:
    """12.3 s, 4 min 5 s, 2 h 3 min."""
    if seconds is None:
        return NOTHING
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def short(text: str | None, longest: int = 120) -> str:
    """The beginning of a text on one line."""
    line = " ".join((text or "")[: 4 * longest].split())
    return line if len(line) <= longest else f"{line[: longest - 1]}…"


@lru_cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "number": number,
        "percent": percent,
        "when": when,
        "duration": duration,
        "short": short,
        "printable": printable,
    }
    environment.globals |= _everywhere()
    return environment


def _everywhere() -> Mapping[str, Any]:
    """What any template can use: the address of a static file changes with what it holds."""
    versions = {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()[:10]
        for path in STATIC.iterdir()
        if path.is_file()
    }
    return {
        "asset": lambda name: f"/static/{name}?v={versions[name]}",
        "version": __version__,
        "NOTHING": NOTHING,
    }
