"""The plots of a report as PNG and SVG. matplotlib is imported when the first is drawn, and not before.

Figures are made without pyplot, whose state is global, and under matplotlib's own defaults, whatever
the user's say. The SVG files are the same bytes for the same data.
"""

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from selfreward.report.data import ReportData
from selfreward.report.metrics import ASSISTANT_FIGURES, JUDGE_FIGURES, Description, Scale
from selfreward.text import printable
from selfreward.types import Metric, Suite

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLUE, ORANGE, GREY = "#0072B2", "#D55E00", "#767676"  # of Okabe and Ito: colour-blind people tell them apart
STYLE: dict[str, dict[str, Any]] = {
    "svg": {
        "hashsalt": "selfreward",
        "fonttype": "none",  # text stays text: searchable, and readable by a screen reader
    },
    "text": {"parse_math": False},  # a name with dollar signs is no formula
    "font": {"size": 10},
    "axes": {"titlesize": 11, "axisbelow": True},
    "axes.spines": {"top": False, "right": False},
    "figure.constrained_layout": {"use": True},
}
DPI = 150
WIDEST_IN = 14.0
LONGEST_NAME = 12
ACROSS = 5
"""Most histograms beside each other."""
FIGURES = {
    (described.suite, described.metric): described for described in (*JUDGE_FIGURES, *ASSISTANT_FIGURES)
}
PAPER_METRICS = (
    Metric.PAIRWISE_ACCURACY,
    Metric.FIVE_BEST,
    Metric.EXACT_MATCH,
    Metric.SPEARMAN,
    Metric.KENDALL,
)


def save_plots(data: ReportData, directory: Path) -> dict[str, list[Path]]:
    """Draw what there is to draw; returns title → [PNG, SVG]. A plot without any figure is left out.

    Points are figures, bars their 95% intervals; a checkpoint without a figure is a gap. Raises OSError.
    """
    plots = (
        ("judge_accuracy", "As a judge: accuracy and readable judgements", _judge_accuracy),
        ("judge_paper_metrics", "As a judge: the five figures of the paper", _paper_metrics),
        ("win_rates", "As an assistant: win rates", _win_rates),
        ("answer_length", "As an assistant: length of the answers", _answer_length),
        ("score_histograms", "As a judge: the scores it gives", _score_histograms),
    )
    saved: dict[str, list[Path]] = {}
    with own_style():
        for stem, title, draw in plots:
            figure = draw(data)
            if figure is not None:
                note = "" if draw is _score_histograms else ", with 95% intervals"
                figure.suptitle(f"{title}\nrun {short_name(data.run, 40)}{note}", fontsize=11)
                saved[title] = [_save(figure, directory / f"{stem}.{kind}") for kind in ("png", "svg")]
    return saved


def _judge_accuracy(data: ReportData) -> "Figure | None":
    accuracy = FIGURES[Suite.JUDGE, Metric.PAIRWISE_ACCURACY]
    readable = FIGURES[Suite.JUDGE, Metric.READABLE_SHARE]
    if not (data.measured(accuracy) or data.measured(readable)):
        return None
    figure, (axes,) = _panels(data, 1, least=6.5)
    _percent_axis(axes, "%")
    _chance(axes, accuracy)
    _series(axes, data, readable, label="readable judgements", second=True)
    _series(axes, data, accuracy, label="pairwise accuracy")
    _legend(figure, axes)
    return figure


def _paper_metrics(data: ReportData) -> "Figure | None":
    described = [FIGURES[Suite.JUDGE, metric] for metric in PAPER_METRICS]
    if not any(map(data.measured, described)):
        return None
    figure, panels = _panels(data, len(described), across=3, least=3.2)
    for axes, one in zip(panels, described, strict=True):
        axes.set_title(one.label)
        if one.scale is Scale.PERCENT:
            _percent_axis(axes, one.unit)
        else:
            axes.set_ylabel(one.unit)
        _chance(axes, one)
        _series(axes, data, one)
    _legend(figure, panels[0])
    return figure


def _win_rates(data: ReportData) -> "Figure | None":
    metrics = (Metric.WIN_RATE_PREVIOUS, Metric.WIN_RATE_FIRST)
    judges = (Suite.ASSISTANT, Suite.INDEPENDENT)
    seen = [suite for suite in judges if any(data.measured(FIGURES[suite, metric]) for metric in metrics)]
    if not seen:
        return None
    figure, panels = _panels(data, 2, across=2, least=4.2)
    for axes, metric in zip(panels, metrics, strict=True):
        axes.set_title(FIGURES[Suite.ASSISTANT, metric].label)
        _percent_axis(axes, "% won, a tie is half a win")
        _chance(axes, FIGURES[Suite.ASSISTANT, metric], "no difference")
        for suite in seen:
            independent = suite is Suite.INDEPENDENT
            label = "an independent judge" if independent else "judged by itself"
            _series(axes, data, FIGURES[suite, metric], label=label, second=independent, apart=len(seen) > 1)
    _legend(figure, panels[0])
    return figure


def _answer_length(data: ReportData) -> "Figure | None":
    length = FIGURES[Suite.ASSISTANT, Metric.MEAN_LENGTH]
    if not data.measured(length):
        return None
    figure, (axes,) = _panels(data, 1, least=6.5)
    axes.set_ylabel(f"mean length, {length.unit}")
    _series(axes, data, length)
    axes.set_ylim(bottom=0)
    return figure


def _score_histograms(data: ReportData) -> "Figure | None":
    if not any(data.score_histogram.values()):
        return None
    from matplotlib.figure import Figure

    count = len(data.checkpoints)
    across = min(ACROSS, count)
    down = -(-count // across)
    figure = Figure(figsize=(max(6.5, 2.3 * across), 0.8 + 2.2 * down))
    grid = figure.subplots(down, across, sharex=True, sharey=True, squeeze=False).flat
    for place, axes in enumerate(grid):
        if place < count:
            name = data.checkpoints[place].name
            _histogram(axes, name, data.score_histogram.get(name, {}))
            axes.tick_params(labelbottom=True)
        else:
            axes.set_visible(False)
    figure.supxlabel("score")
    figure.supylabel("% of judgements")
    return figure


def _histogram(axes: "Axes", name: str, counts: Mapping[int, int]) -> None:
    total = sum(counts.values())
    axes.set_title(f"{short_name(name)} · n {total}")
    axes.set_xticks(range(6))
    axes.set_ylim(0, 100)
    axes.bar(range(6), [100 * counts.get(score, 0) / max(total, 1) for score in range(6)], color=BLUE)
    if not total:
        axes.text(0.5, 0.5, "none readable", transform=axes.transAxes, ha="center", color=GREY)


def _series(
    axes: "Axes",
    data: ReportData,
    described: Description,
    label: str = "",
    second: bool = False,
    apart: bool = True,
) -> None:
    """One figure over the checkpoints. Two that share axes stand a little apart, so that both bars show."""
    colour, marker, aside = (ORANGE, "s", 0.08) if second else (BLUE, "o", -0.08 if apart and label else 0.0)
    factor = 100 if described.scale is Scale.PERCENT else 1
    rows = [data.figure(checkpoint.name, described) for checkpoint in data.checkpoints]
    places = [place + aside for place in range(len(rows))]
    values = [factor * row.value if row and row.value is not None else float("nan") for row in rows]
    axes.plot(places, values, color=colour, marker=marker, linewidth=1.2, label=label or "_")
    for place, row in zip(places, rows, strict=True):
        if row and row.low is not None and row.high is not None:
            middle, half = factor * (row.high + row.low) / 2, factor * (row.high - row.low) / 2
            axes.errorbar(place, middle, yerr=half, fmt="none", ecolor=colour, capsize=3)


def _chance(axes: "Axes", described: Description, label: str = "chance") -> None:
    if described.chance is not None:
        at = 100 * described.chance if described.scale is Scale.PERCENT else described.chance
        axes.axhline(at, color=GREY, linestyle="--", linewidth=1, label=label)


def _percent_axis(axes: "Axes", unit: str) -> None:
    axes.set_ylim(-3, 103)
    axes.set_yticks(range(0, 101, 25))
    axes.set_ylabel(unit)


def _panels(data: ReportData, count: int, *, across: int = 1, least: float) -> "tuple[Figure, list[Axes]]":
    """`count` axes with a place for each checkpoint, `across` beside each other, `least` inches wide each."""
    from matplotlib.figure import Figure

    names = [short_name(checkpoint.name) for checkpoint in data.checkpoints]
    down = -(-count // across)
    wide = min(WIDEST_IN, across * max(least, 0.6 + 0.45 * len(names)))
    figure = Figure(figsize=(wide, 1.2 + 2.8 * down))
    grid = list(figure.subplots(down, across, squeeze=False).flat)
    for axes in grid[count:]:
        axes.set_visible(False)
    crowded = sum(map(len, names)) * 0.11 + 0.2 * len(names) > wide / across - 0.8
    for axes in grid[:count]:
        axes.set_xticks(range(len(names)), labels=names)
        if crowded:
            axes.tick_params(axis="x", rotation=45)
            for name in axes.get_xticklabels():
                name.set(horizontalalignment="right", rotation_mode="anchor")
        axes.set_xlim(-0.6, len(names) - 0.4)
        axes.grid(axis="y", color="#dddddd", linewidth=0.6)
    return figure, grid[:count]


def _legend(figure: "Figure", axes: "Axes") -> None:
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False)


def short_name(name: str, longest: int = LONGEST_NAME) -> str:
    """A name on one line, with its end left out where it is too long for an axis."""
    name = printable(" ".join(name.split()))
    return name if len(name) <= longest else f"{name[: longest - 1]}…"


@contextmanager
def own_style() -> Iterator[None]:
    """The style of all plots. It is global to matplotlib: one thread at a time."""
    import matplotlib

    rc: Callable[..., None] = (
        matplotlib.rc
    )  # its groups are literals in some releases' types, text in others'
    with matplotlib.rc_context(), warnings.catch_warnings():
        # A name in a script that the font lacks shows as boxes in the PNG: nothing to warn a user of.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        matplotlib.rcdefaults()
        for group, options in STYLE.items():
            rc(group, **options)
        yield


def _save(figure: "Figure", path: Path) -> Path:
    """Write it whole or not at all. Neither kind carries a date."""
    kind = path.suffix.removeprefix(".")
    partial = path.with_name(f"{path.name}.new")
    figure.savefig(partial, format=kind, dpi=DPI, metadata={"Date": None} if kind == "svg" else None)
    partial.replace(path)
    figure.set_layout_engine("none")  # it is laid out: the second kind need not do it again, twice
    return path
