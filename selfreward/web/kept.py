"""What an application keeps between requests: rows of what is done, plots, the last look at each run."""

import threading
from collections import OrderedDict
from typing import Annotated

from fastapi import Depends, Request

from selfreward import __version__
from selfreward.report.charts import Chart
from selfreward.web.figures import Figures
from selfreward.web.site import Site
from selfreward.web.watching import Watching

MOST_DRAWN = 96
"""SVG files of some 30 KB."""


class Drawn:
    """Plots by what is in them. One is drawn at a time, and by nobody twice."""

    def __init__(self) -> None:
        self._plots: OrderedDict[str, bytes] = OrderedDict()
        self._lock = threading.Lock()

    def svg(self, chart: Chart, theme: str) -> bytes:
        """The plot. matplotlib is imported here, by the first that is drawn. Blocks for some 0.2 s."""
        tag = tag_of(chart, theme)
        with self._lock:
            if tag not in self._plots:
                from selfreward.report.drawing import svg

                self._plots[tag] = svg(chart, theme)
                if len(self._plots) > MOST_DRAWN:
                    self._plots.popitem(last=False)
            self._plots.move_to_end(tag)
            return self._plots[tag]


def tag_of(chart: Chart, theme: str) -> str:
    """The same for the same picture, by the same version."""
    return f'"{chart.digest[:24]}-{theme}-{__version__}"'


class Kept:
    """All of it, for one application."""

    def __init__(self, site: Site) -> None:
        self.figures = Figures(site.store.database)
        self.watching = Watching(site)
        self.drawn = Drawn()


def kept_by(request: Request) -> Kept:
    """What this application keeps."""
    kept: Kept = request.app.state.kept
    return kept


KeptNeeded = Annotated[Kept, Depends(kept_by)]
