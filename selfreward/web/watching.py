"""Where runs stand, for pages that look every second: one look serves all who ask within that second."""

import threading
import time
from dataclasses import dataclass, field

from pydantic import ValidationError

from selfreward.config import Settings
from selfreward.places import run_option
from selfreward.progress import Meter, RunStatus, gather
from selfreward.types import RunRow
from selfreward.web.site import Site

FRESH_S = 0.9


@dataclass
class Look:
    """The last look at one run, and what makes rates of successive ones."""

    meter: Meter = field(default_factory=Meter)
    lock: threading.Lock = field(default_factory=threading.Lock)
    at: float = 0.0
    status: RunStatus | None = None


class Watching:
    """Keeps the last look at each run. Any thread may ask."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._where = run_option(site.directory)
        self._looks: dict[int, Look] = {}
        self._lock = threading.Lock()

    def status(self, run: RunRow) -> RunStatus:
        """Where it stands, at most a second ago. Blocks."""
        with self._lock:
            look = self._looks.setdefault(run.id, Look())
        with look.lock:
            if look.status is None or time.monotonic() - look.at >= FRESH_S:
                settings = settings_of(self._site, run)
                look.status = gather(self._site.store, settings, look.meter, where=self._where_is(run))
                look.at = time.monotonic()
            return look.status

    def _where_is(self, run: RunRow) -> str:
        return self._where if run.name == self._site.settings.name else f"{self._where} --run {run.name}"


def settings_of(site: Site, run: RunRow) -> Settings:
    """The settings of a run: of another than the site's those it was last worked on with."""
    if run.name == site.settings.name:
        return site.settings
    last = site.store.runs.latest_iteration(run.id)
    stored = site.store.runs.settings_of(last) if last else {}
    try:
        return Settings.model_validate({**stored, "name": run.name})
    except ValidationError:  # of another version: its run is looked at with ours
        return site.settings.model_copy(update={"name": run.name})
