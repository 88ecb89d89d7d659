"""What every page knows: the store, whose run it is, who may ask, and who may control."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from fastapi import Depends, Request
from fastapi import Path as InPath

from selfreward.config import Settings
from selfreward.errors import BadInput
from selfreward.store import Store
from selfreward.types import RunRow

LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
MOST = 2**31 - 1
"""The greatest id, iteration or page that a page asks a database for."""


class Missing(BadInput):
    """There is no such run, iteration or row: a page with status 404."""


@dataclass(frozen=True, kw_only=True)
class Site:
    """One database served as pages."""

    store: Store
    settings: Settings
    """Of the run in `directory`: its name is where the pages begin."""
    directory: Path
    host_names: frozenset[str] = LOOPBACK
    """What a request may call this host: a page elsewhere whose name was made to point here is refused."""
    token: str | None = None
    """What control asks for; without one nothing can be changed from a page."""


def site_of(request: Request) -> Site:
    """The site that a request came to."""
    site: Site = request.app.state.site
    return site


SiteNeeded = Annotated[Site, Depends(site_of)]
Number = Annotated[int, InPath(ge=0, le=MOST)]
"""An iteration or an id in an address; anything else is answered with 400."""


def run_named(site: SiteNeeded, run: str) -> RunRow:
    """The run that an address names as `{run}`. Raises Missing with the names that are there."""
    found = site.store.runs.find(run) if run.isprintable() and len(run) <= MOST_CHARACTERS else None
    if found is None:
        known = ", ".join(site.store.runs.names()) or "none yet"
        raise Missing(f"there is no run {run[:MOST_CHARACTERS]!r}", f"Runs: {known}.")
    return found


RunNeeded = Annotated[RunRow, Depends(run_named)]
MOST_CHARACTERS = 64
