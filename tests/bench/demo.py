"""What a demo run has come to, iteration by iteration, read from its database. Nothing is run."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from selfreward.config import Settings, load_settings
from selfreward.errors import SelfRewardError
from selfreward.store import Store
from selfreward.store.readonly import run_query
from tests.bench.figures import Figure, Options, Skipped

MIN_PROMPTS = 12
MIN_PAIRS = 6
MIN_READABLE = 0.95
CHANCE = 0.5

ITERATIONS = """
    SELECT iteration.t AS t, iteration.status AS status, iteration_summary.prompts AS prompts,
           iteration_summary.pairs AS pairs,
           (SELECT count(DISTINCT step) FROM training_metric WHERE iteration_id = iteration.id) AS steps,
           (SELECT count(DISTINCT name) FROM training_metric WHERE iteration_id = iteration.id) AS metrics
    FROM iteration JOIN run ON run.id = iteration.run_id
    JOIN iteration_summary ON iteration_summary.run = run.name AND iteration_summary.t = iteration.t
    WHERE run.name = '{run}' AND iteration.t > 0 ORDER BY iteration.t
"""
MEASURED = """
    SELECT evaluation.value AS value, evaluation.low AS low, evaluation.high AS high, evaluation.n AS n
    FROM evaluation JOIN run ON run.id = evaluation.run_id
    WHERE run.name = '{run}' AND checkpoint = '{checkpoint}' AND suite = 'judge' AND metric = '{metric}'
"""
SPREAD = """
    SELECT min(n) AS least, max(n) AS most FROM (
        SELECT count({child}.id) AS n FROM {parent}
        LEFT JOIN {child} ON {child}.{parent}_id = {parent}.id
        JOIN iteration ON iteration.id = {parent}.iteration_id
        JOIN run ON run.id = iteration.run_id
        WHERE run.name = '{run}' AND iteration.t = {t} AND {parent}.status IN ({statuses})
        GROUP BY {parent}.id
    ) AS counted
"""
DIGESTS = """
    SELECT checkpoint.name AS name, checkpoint.digest AS digest FROM checkpoint
    JOIN run ON run.id = checkpoint.run_id WHERE run.name = '{run}' ORDER BY checkpoint.version
"""
MINUTES = """
    SELECT (julianday(max(iteration.finished_at)) - julianday(min(run.created_at))) * 1440 AS minutes
    FROM iteration JOIN run ON run.id = iteration.run_id WHERE run.name = '{run}'
"""


def measure(options: Options) -> list[Figure]:
    """The figures of the run in `options.demo_dir`. Raises Skipped when there is none."""
    settings, store = _open(options.demo_dir)
    try:
        demo = Demo(store, settings)
        return list(demo.figures())
    finally:
        store.close()


def _open(directory: Path) -> tuple[Settings, Store]:
    try:
        settings = load_settings(directory)
        store = Store(settings.database.url, directory)
        if not Path(str(store.database.url.database)).is_file():
            raise Skipped(f"{directory} has no SQLite database yet: `make demo`")
        return settings, Store.open(settings.database.url, directory)
    except SelfRewardError as error:
        raise Skipped(f"{error.message}; `make demo` makes one, --demo-dir names another") from None


class Demo:
    """The questions, put to one run."""

    def __init__(self, store: Store, settings: Settings) -> None:
        self._store, self._settings = store, settings

    def figures(self) -> Iterable[Figure]:
        """All of them, iteration by iteration, then those of the whole run."""
        iterations = self._ask(ITERATIONS)
        if not iterations:
            raise Skipped("the run has no iteration yet: `make demo`")
        for row in iterations:
            yield from self._iteration(row)
        yield self._digests()
        yield self._judge("readable_share", "value", MIN_READABLE)
        yield self._judge("pairwise_accuracy", "low", CHANCE)
        yield self._minutes(iterations)

    def _iteration(self, row: dict[str, Any]) -> Iterable[Figure]:
        wanted, t = self._settings, row["t"]
        yield _at_least(f"iteration {t}: accepted prompts", row["prompts"], MIN_PROMPTS)
        yield self._spread(
            t, "candidates per prompt", "prompt", "candidate", "'accepted'", wanted.sample.candidates
        )
        judgeable = "'ok', 'truncated'"
        yield self._spread(
            t, "judgements per candidate", "candidate", "judgement", judgeable, wanted.judge.samples
        )
        yield _at_least(f"iteration {t}: pairs", row["pairs"], MIN_PAIRS)
        yield Figure(
            name=f"iteration {t}: DPO steps with metrics",
            reached=f"{row['steps']} steps, {row['metrics']} metrics",
            wanted=">= 1",
            reached_it=row["steps"] >= 1,
            data=row,
        )

    def _spread(self, t: int, name: str, parent: str, child: str, statuses: str, wanted: int) -> Figure:
        found = self._ask(SPREAD, t=t, parent=parent, child=child, statuses=statuses)[0]
        least, most = found["least"], found["most"]
        return Figure(
            name=f"iteration {t}: {name}",
            reached=str(least) if least == most else f"{least}–{most}",
            wanted=str(wanted),
            reached_it=least == most == wanted,
            data=found,
        )

    def _digests(self) -> Figure:
        found = self._ask(DIGESTS)
        bootstrapped = self._settings.bootstrap.mode == "sft"
        different, wanted = (
            len({row["digest"] for row in found}),
            self._settings.iterations + 1 + bootstrapped,
        )
        return Figure(
            name="distinct digests of the models",
            reached=f"{different} of {len(found)}",
            wanted=f"{wanted} of {wanted}",
            reached_it=different == len(found) == wanted,
            note=", ".join(f"{row['name']} {row['digest'][:12]}" for row in found),
        )

    def _judge(self, metric: str, end: str, wanted: float) -> Figure:
        """M_1 as a judge, by the value or an end of its interval; M_0's beside it."""
        first, base = (
            next(iter(self._ask(MEASURED, checkpoint=name, metric=metric)), {}) for name in ("M_1", "M_0")
        )
        value = first.get(end)
        return Figure(
            name=f"M_1: {metric}" + (f", {end} end of its interval" if end != "value" else ""),
            reached="not measured" if value is None else f"{value:.2f}",
            wanted=f"> {wanted}",
            reached_it=value is not None and value > wanted,
            note=f"M_0: {base.get('value')}",
            data=first,
        )

    def _minutes(self, iterations: list[dict[str, Any]]) -> Figure:
        """From the creation of the run to its last finished iteration: a rest in between counts too."""
        done = sum(row["status"] == "done" for row in iterations)
        minutes = self._ask(MINUTES)[0]["minutes"]
        wanted = self._settings.iterations
        finished = done >= wanted and minutes is not None
        return Figure(
            name="start to end",
            reached=f"{minutes:.1f} min" if finished else "not finished",
            wanted=f"{wanted} iterations done",
            reached_it=finished,
            note=f"{done} of {wanted} iterations are done",
            data={"minutes": minutes, "iterations_done": done},
        )

    def _ask(self, sql: str, **values: Any) -> list[dict[str, Any]]:
        result = run_query(self._store.database, sql.format(run=self._settings.name, **values))
        return [dict(zip(result.columns, row, strict=True)) for row in result.rows]


def _at_least(name: str, reached: int, wanted: int) -> Figure:
    return Figure(
        name=name,
        reached=str(reached),
        wanted=f">= {wanted}",
        reached_it=reached >= wanted,
        data={"n": reached},
    )
