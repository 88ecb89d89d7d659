"""`selfreward report`: what was measured of every checkpoint, on a terminal, as JSON and as files."""

import sys
from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from selfreward.errors import BadInput
from selfreward.report.data import ReportData, assistant_figures
from selfreward.report.metrics import JUDGE_FIGURES
from selfreward.report.page import markdown
from selfreward.report.table import LEGEND, Cell, Line, Section, raised_gates, sections
from selfreward.text import printable
from selfreward.training.checkpoint import write_durably
from selfreward.types import CheckpointRow, Suite

__all__ = ["ReportData", "as_json", "print_report", "write_report"]

WIDEST_LEGEND = 100
GAP = 2
LEAST_SHOWN = 2


@dataclass(frozen=True, kw_only=True)
class Columns:
    """Where things go: the width of the labels and of each checkpoint, and which of those are shown."""

    first: int
    widths: tuple[int, ...]
    shown: tuple[int | None, ...]
    """Positions; None is the gap where some are left out."""

    @property
    def total(self) -> int:
        """Width of the whole."""
        return self.first + sum(GAP + (1 if place is None else self.widths[place]) for place in self.shown)


def print_report(data: ReportData, console: Console | None = None) -> None:
    """Three tables: as a judge, as an assistant, the run. Metrics are lines, checkpoints are columns.

    Checkpoints that do not fit the terminal are left out, those in the middle first, and it says which.
    Without a terminal all are there, however wide. `console` is for where else it should go.
    """
    if console is None:
        console = Console() if sys.stdout.isatty() else Console(width=10_000)
    tables = sections(data)
    columns = _columns(data, tables, console.width)
    console.print(Text.assemble(("run ", "dim"), (printable(data.run), "bold")), soft_wrap=True)
    for section in tables:
        console.print()
        console.print(_table(data, section, columns), crop=False)
    console.print()
    notes = [*((line, "") for line in raised_gates(data)), *((line, "dim") for line in LEGEND)]
    for line, style in (*_left_out(data, columns), *notes):
        console.print(Text(printable(line), style=style), width=min(console.width, WIDEST_LEGEND))


def as_json(data: ReportData) -> dict[str, Any]:
    """The report for programs. These keys stay; later versions may add others.

    `run`; `checkpoints`, in order: `name`, `version`, `kind`, `parent` (name or null), `pairs` (trained
    on; or null), `score_histogram` (score → judgements) and one object a suite, `judge`, `assistant`,
    `assistant_independent`: metric → `value`, `low`, `high` (numbers or null; shares from 0 to 1), `n`,
    `change` against M_{t−1} (`higher`, `lower`, or null where none was measured); `pairs`: iteration →
    preference pairs; `gates`: `iteration`, `gate`, `state`, `value`, `limit`, `message`.
    """
    return {
        "run": data.run,
        "checkpoints": [_checkpoint_json(data, checkpoint) for checkpoint in data.checkpoints],
        "pairs": {str(t): count for t, count in data.pairs.items()},
        "gates": [
            {
                "iteration": t,
                "gate": str(found.gate),
                "state": str(found.state),
                "value": found.value,
                "limit": found.limit,
                "message": found.message,
            }
            for t, found in data.gates
        ],
    }


def write_report(data: ReportData, directory: Path) -> list[Path]:
    """`report.md` with its plots beside it, as PNG and SVG; returns the files, `report.md` first.

    Each file appears whole; `report.md` is the last. Raises BadInput when the place cannot be written.
    """
    from selfreward.report.plots import save_plots

    page = directory / "report.md"
    try:
        directory.mkdir(parents=True, exist_ok=True)
        plots = save_plots(data, directory)
        images = [(title, path.name) for title, paths in plots.items() for path in paths[:1]]
        write_durably(page, markdown(data, images))
    except OSError as error:
        raise BadInput(
            f"cannot write the report to {directory}: {error.strerror}",
            "Give a directory that can be written.",
        ) from error
    return [page, *(path for paths in plots.values() for path in paths)]


def _checkpoint_json(data: ReportData, checkpoint: CheckpointRow) -> dict[str, Any]:
    suites: dict[str, dict[str, Any]] = {str(suite): {} for suite in Suite}
    for described in (*JUDGE_FIGURES, *assistant_figures(data)):
        row = data.recorded(checkpoint.name, described)
        if row is not None:
            suites[described.suite][described.metric] = {
                "value": row.value,
                "low": row.low,
                "high": row.high,
                "n": row.n,
                "change": data.change(checkpoint, described),
            }
    counts = data.score_histogram.get(checkpoint.name, {})
    return {
        "name": checkpoint.name,
        "version": checkpoint.version,
        "kind": str(checkpoint.kind),
        "parent": data.parent(checkpoint),
        "pairs": data.trained_pairs(checkpoint),
        **suites,
        "score_histogram": {str(score): counts[score] for score in sorted(counts)},
    }


def _table(data: ReportData, section: Section, columns: Columns) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, GAP, 0, 0))
    table.add_column(Text(section.title), width=columns.first, no_wrap=True)
    for position in columns.shown:
        name = "…" if position is None else _name(data, position)
        table.add_column(Text(name), width=1 if position is None else columns.widths[position], no_wrap=True)
    for line in section.lines:
        label = Text.assemble(line.label, (f"\n{line.unit}" if line.unit else "", "dim"))
        cells = ("" if position is None else _shown(line.cells[position]) for position in columns.shown)
        table.add_row(label, *cells)
    return table


def _shown(cell: Cell) -> Text:
    value = " ".join(part for part in (cell.value, cell.change) if part)
    n, interval = f" {cell.n}" if cell.n else "", f"\n{cell.interval}" if cell.interval else ""
    return Text.assemble(printable(value), (n, "dim"), (interval, "dim"))


def _name(data: ReportData, position: int) -> str:
    return printable(data.checkpoints[position].name)


def _columns(data: ReportData, tables: Sequence[Section], width: int) -> Columns:
    """As many checkpoints as fit, the most telling first, and two in any case."""
    lines = [line for section in tables for line in section.lines]
    first = max(max(len(line.label), len(line.unit)) for line in lines)
    places = range(len(data.checkpoints))
    widths = tuple(_column_width(_name(data, place), lines, place) for place in places)
    everything = Columns(first=first, widths=widths, shown=tuple(places))
    if everything.total <= width:
        return everything
    kept = _by_importance(data)[:LEAST_SHOWN]
    for place in _by_importance(data)[LEAST_SHOWN:]:
        if replace(everything, shown=_with_gaps({*kept, place})).total > width:
            break
        kept.append(place)
    return replace(everything, shown=_with_gaps(set(kept)))


def _with_gaps(places: Set[int]) -> tuple[int | None, ...]:
    """The places in order, None before each that does not follow the one before it."""
    together = ((None, place) if place and place - 1 not in places else (place,) for place in sorted(places))
    return tuple(place for each in together for place in each)


def _by_importance(data: ReportData) -> list[int]:
    """By turns the first and the last of the line M_0, M_1, …; then what stands beside it."""
    line = [place for place, one in enumerate(data.checkpoints) if one.name == f"M_{one.version}"]
    turns = [end for step, place in enumerate(line) for end in (place, line[-1 - step])]
    return list(dict.fromkeys([*turns, *range(len(data.checkpoints))]))


def _column_width(name: str, lines: Sequence[Line], position: int) -> int:
    cells = [line.cells[position] for line in lines]
    return max(len(name), *(max(len(cell.head), len(cell.interval)) for cell in cells))


def _left_out(data: ReportData, columns: Columns) -> Iterator[tuple[str, str]]:
    missing = [_name(data, place) for place in range(len(columns.widths)) if place not in columns.shown]
    if missing:
        yield f"… Too wide for this terminal: {', '.join(missing)}. A wider one or --json has all.", ""
