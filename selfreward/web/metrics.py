"""`/metrics`: what Prometheus asks for, read from the database at every scrape.

A daemon needs no port of its own for it, and one that is dead is told about as well.
"""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from selfreward.errors import StoreError
from selfreward.progress import Meter
from selfreward.store.migrate import require_head
from selfreward.store.snapshot import Memory, Snapshot
from selfreward.web.measures import BUILD, MEASURES, READY, Look, Measure
from selfreward.web.site import Site, SiteNeeded
from selfreward.web.surroundings import at_work

router = APIRouter()


@router.get("/metrics", include_in_schema=False)
async def metrics(request: Request, site: SiteNeeded) -> Response:
    """All figures in Prometheus's text format."""
    text = await asyncio.to_thread(scrape, site, _recall(request))
    return Response(text, media_type=CONTENT_TYPE_LATEST)


@dataclass
class Recall:
    """What is kept from scrape to scrape."""

    schema_fits: bool = False
    counts: Memory = field(default_factory=Memory)
    meters: dict[str, Meter] = field(default_factory=dict)


def scrape(site: Site, recall: Recall) -> bytes:
    """The page. Blocks: called in a thread. A database that is away, or another's, is told of as such."""
    try:
        if not recall.schema_fits:
            require_head(site.store.database)
            recall.schema_fits = True
        return _scrape(site, recall)
    except StoreError:
        away = replace(READY, samples=lambda _: [(0,)])
        return _page(family(measure, None) for measure in (BUILD, away))


def _scrape(site: Site, recall: Recall) -> bytes:
    with site.store.database.read() as connection:
        rows = Snapshot(connection, recall.counts)
        look = Look(rows=rows, site=site, statuses=at_work(rows, site, recall.meters))
        return _page(family(measure, look) for measure in MEASURES)


def _page(families: Iterable[Metric]) -> bytes:
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collected(families))
    return generate_latest(registry)


class _Collected(Collector):
    """The families of one look, as prometheus_client wants them."""

    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        """See prometheus_client. Asked once."""
        return self._families


def family(measure: Measure, look: Look | None) -> Metric:
    """A measure's samples in prometheus_client's form. `look` is None where nothing can be read."""
    make = CounterMetricFamily if measure.kind == "counter" else GaugeMetricFamily
    made = make(measure.name, measure.help, labels=measure.labels)
    for *labels, value in measure.samples(look):
        if value is not None:
            made.add_metric([str(label) for label in labels], float(value))
    return made


def _recall(request: Request) -> Recall:
    """One for each application."""
    state: Any = request.app.state
    if not hasattr(state, "metrics_recall"):
        state.metrics_recall = Recall()
    recall: Recall = state.metrics_recall
    return recall
