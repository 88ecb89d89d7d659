"""The tables of a report as text, the same for a terminal and for a page."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from selfreward.report.data import Change, ReportData, assistant_figures
from selfreward.report.metrics import JUDGE_FIGURES, Description, Scale
from selfreward.types import CheckpointRow, EvaluationRow, GateState

NOTHING = "–"
ARROWS = {Change.HIGHER: "▲", Change.LOWER: "▼"}
BARS = "▁▂▃▄▅▆▇█"
RAISED = (GateState.WARN, GateState.PAUSE, GateState.ACCEPTED)
LEGEND = (
    "[low–high] is the 95% interval, n the items measured. Where the intervals of two checkpoints overlap, "
    "no difference between them was measured.",
    "▲ ▼ higher, lower than M_t−1, the intervals apart (a win rate: than 50%, its interval wholly to one "
    "side). – not measured.",
)


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One figure of one checkpoint as text. `interval` is empty where there is none."""

    value: str = NOTHING
    change: str = ""
    n: str = ""
    interval: str = ""

    @property
    def head(self) -> str:
        """Value, arrow and n."""
        return " ".join(part for part in (self.value, self.change, self.n) if part)


@dataclass(frozen=True, kw_only=True)
class Line:
    """One metric: a cell for each checkpoint."""

    label: str
    unit: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True, kw_only=True)
class Section:
    """One table."""

    title: str
    lines: tuple[Line, ...]


def sections(data: ReportData) -> tuple[Section, ...]:
    """As a judge, as an assistant, the run."""
    judge = [_line(data, described) for described in JUDGE_FIGURES]
    if any(data.score_histogram.values()):
        judge.append(_score_line(data))
    return (
        Section(title="As a judge", lines=tuple(judge)),
        Section(title="As an assistant", lines=tuple(_line(data, one) for one in assistant_figures(data))),
        Section(title="The run", lines=_run_lines(data)),
    )


def _line(data: ReportData, described: Description) -> Line:
    cells = []
    for checkpoint in data.checkpoints:
        row, change = data.figure(checkpoint.name, described), data.change(checkpoint, described)
        cells.append(Cell() if row is None else _cell(row, described.scale, change))
    return Line(label=described.label, unit=described.unit, cells=tuple(cells))


def _cell(row: EvaluationRow, scale: Scale, change: Change | None) -> Cell:
    interval = ""
    if row.low is not None and row.high is not None:
        # A dash beside a minus sign would be read as one: coefficients, which have signs, get a comma.
        between = "," if scale is Scale.COEFFICIENT else "–"
        interval = f"[{_number(row.low, scale)}{between}{_number(row.high, scale)}]"
    arrow = ARROWS[change] if change else ""
    return Cell(value=_number(row.value, scale), change=arrow, n=f"n {row.n}", interval=interval)


def _number(value: float | None, scale: Scale) -> str:
    if value is None:
        return NOTHING
    if scale is Scale.PERCENT:
        return f"{100 * value:.1f}" if value != 1 else "100"
    if scale is Scale.COUNT:
        return f"{value:.0f}"
    return f"{round(value, 2) + 0.0:.2f}".replace("-", "−")


def _score_line(data: ReportData) -> Line:
    counts = [data.score_histogram.get(checkpoint.name, {}) for checkpoint in data.checkpoints]
    return Line(label="scores given", unit="bars from 0 to 5", cells=tuple(map(_bars, counts)))


def _bars(counts: Mapping[int, int]) -> Cell:
    total, most = sum(counts.values()), max(counts.values(), default=0)
    if not total:
        return Cell()
    drawn = (counts.get(score, 0) for score in range(6))
    bars = (BARS[round((len(BARS) - 1) * count / most)] if count else "·" for count in drawn)
    return Cell(value="".join(bars), n=f"n {total}")


def _run_lines(data: ReportData) -> tuple[Line, ...]:
    pairs = [data.trained_pairs(checkpoint) for checkpoint in data.checkpoints]
    return tuple(
        Line(label=label, unit="", cells=tuple(Cell(value=value) for value in values))
        for label, values in (
            ("kind", [str(checkpoint.kind) for checkpoint in data.checkpoints]),
            ("trained from", [data.parent(checkpoint) or NOTHING for checkpoint in data.checkpoints]),
            ("on preference pairs", [NOTHING if count is None else str(count) for count in pairs]),
            ("gates that warned", [_raised(data, checkpoint) for checkpoint in data.checkpoints]),
        )
    )


def _raised(data: ReportData, checkpoint: CheckpointRow) -> str:
    """How many of the gates before its own successor's training did not pass."""
    found = [one.state for t, one in data.gates if checkpoint.name == f"M_{t}"]
    return f"{sum(state in RAISED for state in found)} of {len(found)}" if found else NOTHING


def raised_gates(data: ReportData) -> Iterator[str]:
    """What the gates that did not pass say, in order."""
    for t, found in data.gates:
        if found.state in RAISED:
            yield f"M_{t}, gate {found.gate}: {found.state}: {' '.join(found.message.split())}"
