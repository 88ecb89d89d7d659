"""Charts as SVG for the pages, light and dark: text stays text, and the same figures are the same bytes."""

import io
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from selfreward.report.charts import Chart, Kind, Panel, Series, Unit
from selfreward.report.plots import own_style, short_name

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.ticker import Locator

WIDE_IN, HIGH_IN = 6.0, 3.6
FONTS = ["system-ui", "Segoe UI", "Roboto", "Noto Sans", "DejaVu Sans"]
MOST_LABELS = 12
LEAST_PLACES = 3
"""Room for so many: one bar alone is not as wide as all."""
LEGEND_FROM = 2
_DRAWING = threading.Lock()


@dataclass(frozen=True, kw_only=True)
class Theme:
    """Colours on one ground. Series keep their place in all charts; colour-blind people tell them apart."""

    text: str
    muted: str
    grid: str
    series: tuple[str, ...]
    ramp: tuple[str, str]
    """Bars: from the first to the last of things in an order."""
    lines: tuple[str, str]
    """The same for lines, which need more contrast."""
    rest: str
    """What could not be counted among them."""


THEMES = {
    "light": Theme(
        text="#1d2126",
        muted="#5a626b",
        grid="#e2e2dc",
        series=("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7a7a7a"),
        ramp=("#d3e6f5", "#083a66"),
        lines=("#8db4d6", "#06335c"),
        rest="#b9b9b2",
    ),
    "dark": Theme(
        text="#e3e6e9",
        muted="#a2abb4",
        grid="#343a41",
        series=("#56B4E9", "#E8833A", "#35c496", "#dc94bd", "#f0c04c", "#8fb8d8", "#9a9a9a"),
        ramp=("#274a68", "#cfe8fb"),
        lines=("#4d7396", "#d8ecfc"),
        rest="#5b636b",
    ),
}


def svg(chart: Chart, theme: str) -> bytes:
    """Draw it. One drawing at a time: matplotlib's settings are global. Slow: call it from a thread."""
    with _DRAWING, own_style():
        figure = _figure(chart, THEMES[theme])
        target = io.BytesIO()
        figure.savefig(target, format="svg", metadata={"Date": None, "Title": chart.title}, transparent=True)
    return target.getvalue()


def _figure(chart: Chart, theme: Theme) -> "Figure":
    import matplotlib
    from matplotlib.figure import Figure

    matplotlib.rcParams["font.sans-serif"] = FONTS
    figure = Figure(figsize=(WIDE_IN, HIGH_IN))
    grid = figure.subplots(1, len(chart.panels), squeeze=False).flat
    draw = {Kind.POINTS: _points, Kind.STACK: _stack, Kind.CURVES: _curves}[chart.kind]
    for axes, panel in zip(grid, chart.panels, strict=True):
        _prepare(axes, panel, theme)
        draw(axes, chart, panel, theme)
    handles, labels = figure.axes[0].get_legend_handles_labels()
    if len(labels) >= LEGEND_FROM:
        across = 4 if sum(map(len, labels)) < 70 else 3
        columns = min(len(labels), 10 if chart.kind is Kind.CURVES else max(across, 7 * (len(labels) == 7)))
        figure.legend(
            handles, labels, loc="outside lower center", ncols=columns, frameon=False, labelcolor=theme.text
        )
    return figure


def _prepare(axes: "Axes", panel: Panel, theme: Theme) -> None:
    axes.set_title(panel.title, color=theme.text)
    axes.set_ylabel(panel.axis, color=theme.text)
    axes.grid(axis="y", color=theme.grid, linewidth=0.7)
    axes.tick_params(colors=theme.muted, labelcolor=theme.text)
    for spine in axes.spines.values():
        spine.set_color(theme.muted)
    if panel.unit is Unit.SHARE:
        axes.set_ylim(-0.03, 1.03)
        axes.set_yticks((0, 0.25, 0.5, 0.75, 1), labels=("0%", "25%", "50%", "75%", "100%"))
    if panel.unit is Unit.COUNT:
        axes.yaxis.set_major_locator(_whole_numbers())
    if panel.reference is not None:
        axes.axhline(panel.reference, color=theme.muted, linestyle="--", linewidth=1)


def _points(axes: "Axes", chart: Chart, panel: Panel, theme: Theme) -> None:
    shift = 0.09 if len(panel.series) > 1 else 0.0
    for order, series in enumerate(panel.series):
        aside = shift * (order - (len(panel.series) - 1) / 2)
        _series(axes, series, theme.series[order % len(theme.series)], "osD^vP"[order % 6], aside)
    _label_places(axes, chart, theme)
    if panel.unit is not Unit.SHARE:
        axes.set_ylim(bottom=0)


def _series(axes: "Axes", series: Series, colour: str, marker: str, aside: float) -> None:
    places = [place + aside for place in range(len(series.values))]
    values = [float("nan") if value is None else value for value in series.values]
    axes.plot(places, values, color=colour, marker=marker, markersize=5, linewidth=1.5, label=series.label)
    for place, low, high in zip(places, series.low, series.high, strict=False):
        if low is not None and high is not None:
            axes.errorbar(
                place, (low + high) / 2, yerr=(high - low) / 2, fmt="none", ecolor=colour, capsize=3
            )


def _stack(axes: "Axes", chart: Chart, panel: Panel, theme: Theme) -> None:
    bottoms = [0.0] * len(chart.places)
    for series, colour in zip(panel.series, _colours(panel, theme), strict=True):
        heights = [value or 0.0 for value in series.values]
        axes.bar(
            range(len(heights)), heights, bottom=bottoms, width=0.72, color=colour, label=series.label,
            hatch="///" if colour == theme.rest else None, edgecolor=theme.muted, linewidth=0.4,
        )  # fmt: skip
        bottoms = [bottom + height for bottom, height in zip(bottoms, heights, strict=True)]
    _label_places(axes, chart, theme)


def _curves(axes: "Axes", chart: Chart, panel: Panel, theme: Theme) -> None:
    lines = [*panel.series]
    for series, colour in zip(lines, _ramp(theme.lines, len(lines)), strict=True):
        values = [float("nan") if value is None else value for value in series.values]
        newest = series is lines[-1]
        axes.plot(series.at, values, color=colour, linewidth=1.9 if newest else 1.2, label=series.label)
    axes.set_xlabel(chart.along, color=theme.text)
    axes.xaxis.set_major_locator(_whole_numbers())
    axes.margins(x=0.02)


def _label_places(axes: "Axes", chart: Chart, theme: Theme) -> None:
    names = [short_name(name) for name in chart.places]
    each = -(-len(names) // MOST_LABELS) if len(chart.panels) == 1 else -(-2 * len(names) // MOST_LABELS)
    shown = range(0, len(names), max(each, 1))
    axes.set_xticks(list(shown), labels=[names[place] for place in shown], color=theme.text)
    axes.set_xlabel(chart.place_name, color=theme.text)
    room = 0.6 + max(0, LEAST_PLACES - len(names)) / 2
    axes.set_xlim(-room, len(names) - 1 + room)


def _whole_numbers() -> "Locator":
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator("auto", steps=[1, 2, 5, 10], integer=True)


def _colours(panel: Panel, theme: Theme) -> Sequence[str]:
    """Scores in an order from light to dark; outcomes each in its own; what has no score hatched."""
    labels = [series.label for series in panel.series]
    ordered = [label for label in labels if label.isdigit()]
    if not ordered:
        return [theme.series[place % len(theme.series)] for place in range(len(labels))]
    ramp = dict(zip(ordered, _ramp(theme.ramp, len(ordered)), strict=True))
    return [ramp.get(label, theme.rest) for label in labels]


def _ramp(ends: tuple[str, str], count: int) -> list[str]:
    """So many colours between two, the last of them the second."""
    first, last = (_channels(colour) for colour in ends)
    steps = ((place + 1) / count if count == 1 else place / (count - 1) for place in range(count))
    mixed = ([round(a + (b - a) * step) for a, b in zip(first, last, strict=True)] for step in steps)
    return ["#{:02x}{:02x}{:02x}".format(*channels) for channels in mixed]


def _channels(colour: str) -> list[int]:
    return [int(colour[start:end], 16) for start, end in pairwise((1, 3, 5, 7))]
