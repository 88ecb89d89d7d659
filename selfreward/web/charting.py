"""Which charts a run's page has, and the figures of each."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from selfreward.report.charts import Chart, Kind, Panel, Series, Unit
from selfreward.store import Store
from selfreward.types import EvaluationRow, Metric, PairOutcome, RunRow, Suite
from selfreward.web.figures import Figures, ViewRow

SCORES = 6
SHOWN_STAGES = {"sample": "sampling", "judge": "judging", "answer_held_out": "held-out answers"}


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where the figures of one run's charts come from."""

    store: Store
    figures: Figures
    run: RunRow
    t: int | None = None
    """Only this iteration, where it is given."""

    def rows(self, view: str) -> tuple[ViewRow, ...]:
        """The view's rows of the run's history."""
        rows = self.figures.rows(view, self.run.id)
        return rows if self.t is None else tuple(row for row in rows if row["t"] == self.t)


def charts(source: Source) -> list[Chart]:
    """Those for which there is a figure, in the order of the page."""
    return [made for build in CHARTS.values() if not (made := build(source)).empty]


def chart(source: Source, name: str) -> Chart | None:
    """One by its name; None when there is no such chart, or no figure for it yet."""
    build = CHARTS.get(name)
    made = build(source) if build else None
    return None if made is None or made.empty else made


def _judge_accuracy(source: Source) -> Chart:
    wanted = ((Metric.PAIRWISE_ACCURACY, "pairwise accuracy"), (Metric.READABLE_SHARE, "readable judgements"))
    names, found = _measured(source)
    series = [_measured_series(names, found, Suite.JUDGE, metric, label) for metric, label in wanted]
    panel = Panel(series=_filled(series), unit=Unit.SHARE, reference=0.5)
    return _by_checkpoint("judge-accuracy", "Judge: accuracy on held-out pairs, 95% intervals", names, panel)


def _win_rate(source: Source) -> Chart:
    wanted = (
        (Suite.ASSISTANT, Metric.WIN_RATE_PREVIOUS, "against M_t−1"),
        (Suite.ASSISTANT, Metric.WIN_RATE_FIRST, "against M_1"),
        (Suite.INDEPENDENT, Metric.WIN_RATE_PREVIOUS, "against M_t−1, independent judge"),
        (Suite.INDEPENDENT, Metric.WIN_RATE_FIRST, "against M_1, independent judge"),
    )
    names, found = _measured(source)
    series = [_measured_series(names, found, suite, metric, label) for suite, metric, label in wanted]
    panel = Panel(series=_filled(series), unit=Unit.SHARE, reference=0.5)
    return _by_checkpoint("win-rate", "Assistant: win rate, 95% intervals", names, panel)


def _scores(source: Source) -> Chart:
    rows = source.rows("score_histogram")
    places = _iterations(rows)
    counts: dict[tuple[int, str], float] = {}
    for row in rows:
        label = "unreadable" if row["score"] is None else str(int(float(row["score"]) + 0.5))
        counts[row["t"], label] = counts.get((row["t"], label), 0) + row["judgements"]
    totals = {t: sum(count for (other, _), count in counts.items() if other == t) for t in places}
    labels = [*map(str, range(SCORES)), "unreadable"]
    series = [
        Series(label=label, values=tuple(counts.get((t, label), 0) / totals[t] for t in places))
        for label in labels
    ]
    panel = Panel(series=tuple(series), axis="of judgements", unit=Unit.SHARE)
    return _by_iteration("scores", "Scores given, by iteration", Kind.STACK, places, panel)


def _length(source: Source) -> Chart:
    rows = source.rows("length_by_iteration")
    wanted = (
        ("mean_tokens", "all candidates"),
        ("chosen_tokens", "chosen"),
        ("rejected_tokens", "rejected"),
    )
    series = [Series(label=label, values=_column(rows, column)) for column, label in wanted]
    panel = Panel(series=_filled(series), axis="mean tokens", unit=Unit.PLAIN)
    return _by_iteration("length", "Length of the answers, in tokens", Kind.POINTS, _iterations(rows), panel)


def _yield(source: Source) -> Chart:
    rows = source.rows("pair_outcomes")
    places = _iterations(rows)
    counts = {(row["t"], row["outcome"]): float(row["prompts"]) for row in rows}
    series = [
        Series(label=outcome.replace("_", " "), values=tuple(counts.get((t, outcome), 0.0) for t in places))
        for outcome in PairOutcome
        if any((t, outcome) in counts for t in places)
    ]
    panel = Panel(series=tuple(series), axis="prompts", unit=Unit.COUNT)
    return _by_iteration("yield", "What became of the prompts", Kind.STACK, places, panel)


def _training(source: Source) -> Chart:
    rows = source.rows("training_curve")
    places = _iterations(rows)
    by_iteration = {t: [row for row in rows if row["t"] == t] for t in places}
    panels = [
        Panel(
            title=title,
            series=tuple(
                Series(
                    label=f"iteration {t}",
                    values=_column(steps, column),
                    at=tuple(float(row["step"]) for row in steps),
                )
                for t, steps in by_iteration.items()
            ),
        )
        for column, title in (("loss", "loss"), ("margin", "reward margin"))
    ]
    return Chart(
        name="training",
        title="Training: loss and margin of rewards",
        kind=Kind.CURVES,
        places=(),
        panels=tuple(panels),
        along="steps",
    )


def _throughput(source: Source) -> Chart:
    rows = source.rows("throughput")
    places = _iterations(rows)
    series = [
        Series(label=label, values=_of_stage(rows, places, stage)) for stage, label in SHOWN_STAGES.items()
    ]
    panel = Panel(series=_filled(series), axis="tokens per second", unit=Unit.PLAIN)
    return _by_iteration("throughput", "Throughput of the engine", Kind.POINTS, places, panel)


CHARTS: Mapping[str, Callable[[Source], Chart]] = {
    "judge-accuracy": _judge_accuracy,
    "win-rate": _win_rate,
    "scores": _scores,
    "yield": _yield,
    "length": _length,
    "training": _training,
    "throughput": _throughput,
}


def _measured(source: Source) -> tuple[tuple[str, ...], Mapping[tuple[str, str, str], EvaluationRow]]:
    rows = source.store.evaluations.rows(source.run.id)
    seen = {row.checkpoint for row in rows}
    names = [row.name for row in source.store.runs.checkpoints(source.run.id) if row.name in seen]
    return tuple(names), {(row.checkpoint, row.suite, row.metric): row for row in rows}


def _measured_series(
    names: Sequence[str],
    found: Mapping[tuple[str, str, str], EvaluationRow],
    suite: Suite,
    metric: Metric,
    label: str,
) -> Series:
    rows = [found.get((name, suite, metric)) for name in names]
    return Series(
        label=label,
        values=tuple(row.value if row else None for row in rows),
        low=tuple(row.low if row else None for row in rows),
        high=tuple(row.high if row else None for row in rows),
    )


def _by_checkpoint(name: str, title: str, names: tuple[str, ...], panel: Panel) -> Chart:
    return Chart(
        name=name, title=title, kind=Kind.POINTS, places=names, panels=(panel,), place_name="checkpoint"
    )


def _by_iteration(name: str, title: str, kind: Kind, places: Sequence[int], panel: Panel) -> Chart:
    return Chart(name=name, title=title, kind=kind, places=tuple(map(str, places)), panels=(panel,))


def _iterations(rows: Sequence[ViewRow]) -> list[int]:
    return sorted({row["t"] for row in rows})


def _filled(series: Sequence[Series]) -> tuple[Series, ...]:
    return tuple(one for one in series if any(value is not None for value in one.values))


def _column(rows: Sequence[ViewRow], name: str) -> tuple[float | None, ...]:
    return tuple(_number(row[name]) for row in rows)


def _of_stage(rows: Sequence[ViewRow], places: Sequence[int], stage: str) -> tuple[float | None, ...]:
    found = {row["t"]: _number(row["tokens_per_second"]) for row in rows if row["stage"] == stage}
    return tuple(found.get(t) for t in places)


def _number(value: Any) -> float | None:
    """PostgreSQL's averages are decimals."""
    return None if value is None else float(value)
