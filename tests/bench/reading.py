"""Is a large database pleasant to read: pages, views, saved queries, exports, at a million candidates?

The pages are asked of the real `selfreward serve` over loopback, one request after the other, each address
several times; the exports are the real commands.
"""

import math
import os
import random
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlencode

import httpx
import psutil  # type: ignore[import-untyped, unused-ignore]

from selfreward.config import Settings
from selfreward.cookbook import Value, saved_queries
from selfreward.store import Store
from selfreward.store.readonly import run_query
from tests.bench.bulk import Bulk, Size
from tests.bench.figures import Figure, Options
from tests.bench.store import write_settings

SIZE = Size(iterations=10, prompts=25_000)
WANTED_PAGE_MS, WANTED_SUMMARY_S, WANTED_SERVE_MB = 200, 1.0, 300
WANTED_QUERY_S = 5.0
WANTED_EXPORT_S, WANTED_EXPORT_MB, PAIRS = 20, 400, 100_000
PLOTS = ("scores", "yield", "length", "training", "throughput")
VISITS = 40
"""Of each kind of page, at least."""
TRIES = 5
SEED = 11
MIB = 2**20
PATIENCE_S = 120
ADDRESS = re.compile(r"http://\S+")


def measure(_options: Options) -> list[Figure]:
    """On SQLite, in a directory that is removed afterwards, or in $BENCH_RUN to keep it."""
    with _written() as directory:
        return [*_views(directory), *_pages(directory), *_exports(directory)]


@contextmanager
def _written() -> Iterator[Path]:
    kept = os.environ.get("BENCH_RUN")
    if kept and (Path(kept) / "selfreward.toml").exists():
        yield Path(kept)
        return
    with tempfile.TemporaryDirectory(prefix="selfreward-bench-", ignore_cleanup_errors=True) as temporary:
        directory = Path(kept or temporary)
        directory.mkdir(parents=True, exist_ok=True)
        settings = write_settings(directory, "sqlite:///selfreward.db", SIZE)
        with _opened(settings, directory) as store:
            Bulk(store, settings, directory, SIZE).write()
        yield directory


@contextmanager
def _opened(settings: Settings, directory: Path) -> Iterator[Store]:
    store = Store.open_or_create(settings.database.url, directory)
    try:
        yield store
    finally:
        store.close()


def _views(directory: Path) -> Iterator[Figure]:
    """iteration_summary, and every saved query as it is saved."""
    store = Store.open("sqlite:///selfreward.db", directory)
    try:
        summary = statistics.median(
            _seconds(store, "SELECT * FROM iteration_summary", {}) for _ in range(TRIES)
        )
        yield Figure(
            name="iteration_summary",
            reached=f"{summary:.2f} s",
            wanted=f"< {WANTED_SUMMARY_S:g} s",
            reached_it=summary < WANTED_SUMMARY_S,
        )
        times = {
            query.name: _seconds(store, query.statement(sqlite=True), query.values({}))
            for query in saved_queries()
        }
    finally:
        store.close()
    slowest = max(times, key=lambda name: times[name])
    yield Figure(
        name=f"slowest of {len(times)} saved queries",
        reached=f"{times[slowest]:.2f} s",
        wanted=f"< {WANTED_QUERY_S:g} s",
        reached_it=times[slowest] < WANTED_QUERY_S,
        note=", ".join(f"{name} {took:.2f}" for name, took in sorted(times.items(), key=lambda x: -x[1])[:8]),
        data={"seconds": times},
    )


def _seconds(store: Store, sql: str, parameters: Mapping[str, Value]) -> float:
    began = time.perf_counter()
    run_query(store.database, sql, parameters=parameters, timeout_s=PATIENCE_S)
    return time.perf_counter() - began


@dataclass(frozen=True, kw_only=True)
class Visit:
    """One answer of the server."""

    kind: str
    address: str
    ms: float


def _pages(directory: Path) -> Iterator[Figure]:
    """Every kind of page, in random order, so that none profits from the one before."""
    with _served(directory) as (process, client):
        addresses = _often(list(_addresses()))
        random.Random(SEED).shuffle(addresses)
        visits = [_visit(client, kind, address) for kind, address in addresses]
        memory = psutil.Process(process.pid).memory_info().rss / MIB
    kinds = sorted({visit.kind for visit in visits})
    for kind in kinds:
        yield _page_figure(kind, [visit for visit in visits if visit.kind == kind])
    yield Figure(
        name="memory of serve, all pages seen",
        reached=f"{memory:.0f} MB",
        wanted=f"< {WANTED_SERVE_MB} MB",
        reached_it=memory < WANTED_SERVE_MB,
    )


def _often(addresses: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """Each address as often as its kind needs for a percentile."""
    kinds = Counter(kind for kind, _ in addresses)
    return [each for each in addresses for _ in range(math.ceil(VISITS / kinds[each[0]]))]


def _addresses() -> Iterator[tuple[str, str]]:
    """(kind, address) of what people look at."""
    draw = random.Random(SEED)
    yield "runs", "/"
    yield "run", "/runs/main"
    for t in (1, 5, 10):
        yield "iteration", f"/runs/main/iterations/{t}"
        yield "checkpoint", f"/runs/main/checkpoints/M_{t}"
    for name in PLOTS:
        yield "plot", f"/runs/main/plots/{name}.svg?theme=light"
    for filters in FILTERS:
        kind = "search" if "q" in filters else "prompts"
        yield kind, "/runs/main/prompts?" + urlencode(filters)
    for _ in range(8):
        yield "prompt", f"/runs/main/prompts/{draw.randrange(200, 300_000)}"
    yield "sql page", "/query"
    yield "metrics", "/metrics"


FILTERS: Sequence[dict[str, str | int | float]] = (
    {},
    {"t": 3},
    {"t": 7, "outcome": "tie"},
    {"t": 7, "outcome": "paired", "margin_from": 4},
    {"outcome": "tie"},
    {"score_from": 5},
    {"score_from": 2, "score_to": 3, "t": 2},
    {"margin_from": 4.5},
    {"after": 200_000},
    {"q": "story"},
    {"q": "the"},
    {"q": "the story", "t": 9},
    {"q": "write a poem", "outcome": "tie"},
    {"q": "xylophonist"},
)


def _visit(client: httpx.Client, kind: str, address: str) -> Visit:
    began = time.perf_counter()
    reply = client.get(address)
    ms = (time.perf_counter() - began) * 1000
    if reply.status_code not in (200, 404):
        raise RuntimeError(f"{address}: {reply.status_code} {reply.text[:200]}")
    return Visit(kind=kind, address=address, ms=ms)


def _page_figure(kind: str, visits: Sequence[Visit]) -> Figure:
    times = sorted(visit.ms for visit in visits)
    late = times[max(0, round(0.95 * len(times)) - 1)]
    slowest = max(visits, key=lambda visit: visit.ms)
    return Figure(
        name=f"page: {kind}, 95th percentile",
        reached=f"{late:.0f} ms",
        wanted=f"< {WANTED_PAGE_MS} ms",
        reached_it=late < WANTED_PAGE_MS,
        note=f"median {statistics.median(times):.0f} ms of {len(times)}; slowest {slowest.ms:.0f} ms,"
        f" {slowest.address}",
        data={"ms": times},
    )


@contextmanager
def _served(directory: Path) -> Iterator[tuple["subprocess.Popen[str]", httpx.Client]]:
    command = [sys.executable, "-m", "selfreward", "serve", "--port", "0", "--dir", str(directory)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        assert process.stdout is not None
        found = ADDRESS.search(process.stdout.readline())
        assert found, "serve did not say where it listens"
        with httpx.Client(base_url=found[0], timeout=PATIENCE_S) as client:
            yield process, client
    finally:
        process.terminate()
        process.wait()


def _exports(directory: Path) -> Iterator[Figure]:
    """As many pairs as were wanted, or all there are, to Parquet."""
    iterations = [str(t) for t in range(1, SIZE.iterations)][: PAIRS // SIZE.prompts + 1]
    with tempfile.TemporaryDirectory(prefix="selfreward-bench-export-") as target:
        seconds, pairs, most = 0.0, 0, 0.0
        for t in iterations:
            took, rss = _command(directory, "export", "pairs", "--iteration", t, "--format", "parquet",
                                 f"{target}/{t}")  # fmt: skip
            seconds, most = seconds + took, max(most, rss)
            pairs += _rows_of(Path(target) / t)
    each = seconds * PAIRS / pairs
    yield Figure(
        name=f"export of {PAIRS:,} pairs to Parquet",
        reached=f"{each:.1f} s",
        wanted=f"< {WANTED_EXPORT_S} s",
        reached_it=each < WANTED_EXPORT_S,
        note=f"{pairs:,} pairs of {len(iterations)} iterations in {seconds:.1f} s with the starts",
        data={"pairs": pairs, "seconds": seconds},
    )
    yield Figure(
        name="memory of the export, peak",
        reached=f"{most:.0f} MB",
        wanted=f"< {WANTED_EXPORT_MB} MB",
        reached_it=most < WANTED_EXPORT_MB,
    )


def _rows_of(directory: Path) -> int:
    import pyarrow.parquet as parquet

    return sum(parquet.read_metadata(path).num_rows for path in directory.rglob("*.parquet"))


def _command(directory: Path, *arguments: str) -> tuple[float, float]:
    """(seconds, peak MiB) of one command."""
    began = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "selfreward", *arguments, "--dir", str(directory)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    _, status, used = os.wait4(process.pid, 0)
    if status:
        raise RuntimeError(f"{arguments}: {process.stderr.read().decode() if process.stderr else status}")
    return time.perf_counter() - began, used.ru_maxrss / 1024
