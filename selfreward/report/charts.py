"""A chart before it is drawn: its figures, as a table and in words. Nothing here needs matplotlib."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

MOST_SAID = 12
"""Places that the words name one by one; of more, the first, the last and the extremes."""


class Kind(StrEnum):
    """How a chart is drawn."""

    POINTS = "points"
    """Over places in an order, each with its interval where there is one."""
    STACK = "stack"
    """Parts of a whole, a bar a place."""
    CURVES = "curves"
    """Over numbers, a line a series."""


class Unit(StrEnum):
    """How a figure is written."""

    SHARE = "%"
    """Kept as a share from 0 to 1."""
    COUNT = "count"
    PLAIN = "plain"


@dataclass(frozen=True, kw_only=True)
class Series:
    """Figures that belong together; None where there is none."""

    label: str
    values: tuple[float | None, ...]
    low: tuple[float | None, ...] = ()
    high: tuple[float | None, ...] = ()
    at: tuple[float, ...] = ()
    """Curves: where each value stands."""


@dataclass(frozen=True, kw_only=True)
class Panel:
    """One pair of axes."""

    series: tuple[Series, ...]
    title: str = ""
    axis: str = ""
    unit: Unit = Unit.PLAIN
    reference: float | None = None
    """Drawn as a dashed line: what chance gives."""


@dataclass(frozen=True, kw_only=True)
class Chart:
    """All that a drawing, a table and a description of it are made from."""

    name: str
    title: str
    kind: Kind
    places: tuple[str, ...]
    """Labels of the x axis; curves have none."""
    panels: tuple[Panel, ...]
    place_name: str = "iteration"
    along: str = ""
    """What the x axis of curves counts."""

    @property
    def digest(self) -> str:
        """The same for the same figures."""
        return hashlib.sha256(repr(self).encode()).hexdigest()

    @property
    def empty(self) -> bool:
        """Whether there is nothing to draw."""
        return not any(
            value is not None for panel in self.panels for series in panel.series for value in series.values
        )

    @property
    def columns(self) -> tuple[str, ...]:
        """The heads of the table."""
        if self.kind is Kind.CURVES:
            heads = (f"{panel.title}, {end}" for panel in self.panels for end in ("first", "last"))
            return (self.place_name, self.along, *heads)
        return (self.place_name, *(_head(self, panel, series) for panel, series in self._all()))

    @property
    def rows(self) -> tuple[tuple[str, ...], ...]:
        """The table: a row a place; of curves, a row a series with its first and last figure."""
        if self.kind is Kind.CURVES:
            return tuple(self._ends(place) for place in range(len(self.panels[0].series)))
        return tuple(
            (name, *(_cell(panel, series, place) for panel, series in self._all()))
            for place, name in enumerate(self.places)
        )

    @property
    def alt(self) -> str:
        """The figures in words."""
        said = "; ".join(self._said())
        return f"{self.title}. {said or 'No figures yet'}."

    def _all(self) -> Iterator[tuple[Panel, Series]]:
        return ((panel, series) for panel in self.panels for series in panel.series)

    def _ends(self, place: int) -> tuple[str, ...]:
        first = self.panels[0].series[place]
        ends = (
            written(end, panel.unit)
            for panel in self.panels
            for end in _first_and_last(panel.series[place].values)
        )
        return (first.label, written(max(first.at, default=None), Unit.COUNT), *ends)

    def _said(self) -> Iterator[str]:
        if self.kind is Kind.CURVES:
            shown = self.rows if len(self.rows) <= MOST_SAID else (self.rows[0], self.rows[-1])
            for row in shown:
                told = ", ".join(f"{head} {cell}" for head, cell in zip(self.columns, row, strict=True))
                yield told
            return
        for panel, series in self._all():
            told = ", ".join(f"{name} {_cell(panel, series, place)}" for place, name in self._named(series))
            if told:
                yield f"{_head(self, panel, series)}: {told}"

    def _named(self, series: Series) -> list[tuple[int, str]]:
        there = [place for place, value in enumerate(series.values) if value is not None]
        if len(there) > MOST_SAID:
            by_value = sorted(there, key=lambda place: series.values[place] or 0)
            there = sorted({there[0], there[-1], by_value[0], by_value[-1]})
        return [(place, self.places[place]) for place in there]


def written(value: float | None, unit: Unit) -> str:
    """A figure as text; a dash where there is none."""
    if value is None:
        return "–"
    if unit is Unit.SHARE:
        return f"{100 * value:.1f}%"
    if unit is Unit.COUNT:
        return f"{value:,.0f}"
    return f"{value:,.4g}".replace("-", "−")


def _head(chart: Chart, panel: Panel, series: Series) -> str:
    return f"{panel.title}, {series.label}" if len(chart.panels) > 1 and panel.title else series.label


def _cell(panel: Panel, series: Series, place: int) -> str:
    value = written(series.values[place], panel.unit)
    low, high = _at(series.low, place), _at(series.high, place)
    if low is None or high is None:
        return value
    return f"{value} [{written(low, panel.unit).rstrip('%')}–{written(high, panel.unit).rstrip('%')}]"


def _at(values: Sequence[float | None], place: int) -> float | None:
    return values[place] if place < len(values) else None


def _first_and_last(values: Sequence[float | None]) -> tuple[float | None, float | None]:
    there = [value for value in values if value is not None]
    return (there[0], there[-1]) if there else (None, None)
