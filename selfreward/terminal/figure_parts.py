"""The parts of the status screen that tell how good things are: scores, pairs, curves, gates, figures."""

from collections.abc import Sequence

from rich.text import Text

from selfreward.progress import RunStatus
from selfreward.progress.figures import SCORES
from selfreward.terminal.drawing import (
    BAD,
    DIM,
    GOOD,
    LABEL,
    MARK,
    WARN,
    Forms,
    alone,
    cells,
    column,
    count,
    cut,
    labelled,
    one_line,
    share,
    sparkline,
)
from selfreward.types import EvaluationRow, GateState, Metric, PairOutcome, Suite

WIDEST_BAR = 10
GATE_STYLES = {
    GateState.OK: GOOD,
    GateState.WARN: WARN,
    GateState.PAUSE: BAD,
    GateState.ACCEPTED: WARN,
    GateState.SKIPPED: DIM,
}


def scores(status: RunStatus, width: int) -> Forms:
    """The histogram of the iteration's scores, as bars of three rows, of one, and in one line."""
    histogram = status.histogram
    if not histogram.judgements:
        return ((),)
    values = (*histogram.scores, histogram.unreadable)
    names = (*map(str, range(SCORES)), "?")
    mean = "" if histogram.mean is None else f"mean {histogram.mean:.2f}"
    unreadable = f"{share(histogram.unreadable, histogram.judgements)} unreadable"
    title = labelled("scores", [f"{count(histogram.judgements)} judgements", mean, unreadable], width)
    room = min(WIDEST_BAR, (width - LABEL) // len(values))
    labels = Text(" " * LABEL)
    for name, value in zip(names, values, strict=True):
        labels.append(f"{name} ", style=MARK)
        labels.append(cells(share(value, histogram.judgements), room - 2), style=DIM)
    small = Text(cells("scores", LABEL), style=DIM)
    for name, value in zip(names, values, strict=True):
        small.append(name, style=MARK).append(column(value, max(values), 1)[0] + " ", style=_of(name))
    small.append(mean, style="")
    return (
        (title, *_columns(values, names, room, 3), labels),
        (title, *_columns(values, names, room, 1), labels),
        (small,),
        (),
    )


def pairs(status: RunStatus, width: int) -> Forms:
    """Preference pairs, and why the other prompts gave none."""
    everything = sum(status.pairs.values())
    if not everything:
        return ((),)
    paired = status.pairs.get(PairOutcome.PAIRED, 0)
    told = [f"{count(paired)} of {count(everything)} prompts ({share(paired, everything)})"]
    others = sorted(status.pairs.items(), key=lambda item: -item[1])
    told += [
        f"{outcome.replace('_', ' ')} {count(number)}"
        for outcome, number in others
        if outcome != PairOutcome.PAIRED
    ]
    return alone(labelled("pairs", told, width))


def training(status: RunStatus, width: int) -> Forms:
    """Loss, margins and accuracy as curves."""
    found = status.training
    if found is None or not found.loss:
        return ((),)
    curves = (("loss", found.loss), ("margin", found.margin), ("accuracy", found.accuracy))
    drawn = [_curve(name, [value for _, value in points], width) for name, points in curves if points]
    return (drawn, drawn[:1], ())


def gates(status: RunStatus, width: int) -> Forms:
    """What the health gates found; those that are not content, with their reasons."""
    if not status.gates:
        return ((),)
    loud = [gate for gate in status.gates if gate.state not in (GateState.OK, GateState.SKIPPED)]
    fine = sum(gate.state is GateState.OK for gate in status.gates)
    told = [f"{fine} of {len(status.gates)} ok", *(f"{gate.gate}: {gate.state}" for gate in loud)]
    style = GATE_STYLES[loud[0].state] if loud else ""
    summary = labelled("gates", told, width, style)
    reasons = [
        Text(cut(" " * LABEL + one_line(gate.message), width), style=GATE_STYLES[gate.state]) for gate in loud
    ]
    return ((summary, *reasons), (summary,), ()) if reasons else ((summary,), ())


def evaluation(status: RunStatus, width: int) -> Forms:
    """The checkpoint that was measured last, with 95% intervals."""
    if not status.evaluation:
        return ((),)
    name = status.evaluation[0].checkpoint
    wanted = [
        (Suite.JUDGE, Metric.PAIRWISE_ACCURACY, "accuracy"),
        (Suite.ASSISTANT, Metric.WIN_RATE_PREVIOUS, "wins against the last"),
        (Suite.ASSISTANT, Metric.WIN_RATE_FIRST, "against M_1"),
        (Suite.JUDGE, Metric.READABLE_SHARE, "readable"),
    ]
    if name == "M_2":  # the last one is M_1
        wanted.pop(2)
    rows = {(row.suite, row.metric): row for row in status.evaluation}
    told = [
        _figure(label, rows[suite, metric])
        for suite, metric, label in wanted
        if (suite, metric) in rows and rows[suite, metric].value is not None
    ]
    return alone(labelled(name, told or [f"{len(rows)} figures"], width))


def _of(name: str) -> str:
    return BAD if name == "?" else "cyan"


def _columns(values: Sequence[int], names: Sequence[str], room: int, rows: int) -> list[Text]:
    """Bars that stand side by side, `rows` high."""
    bars = [column(value, max(values), rows) for value in values]
    drawn = []
    for row in range(rows):
        line = Text(" " * LABEL)
        for name, each in zip(names, bars, strict=True):
            line.append(each[row] * (room - 2) + "  ", style=_of(name))
        drawn.append(line)
    return drawn


def _curve(name: str, values: Sequence[float], width: int) -> Text:
    """The first value, the curve, the last value."""
    room = max(4, min(60, width - LABEL - 20))
    return Text.assemble(
        (cells(name, LABEL), DIM),
        f"{values[0]:>8.3f} ",
        (sparkline(values, room), "cyan"),
        (f" {values[-1]:.3f}", MARK),
    )


def _figure(label: str, row: EvaluationRow) -> str:
    spread = "" if row.low is None or row.high is None else f" [{row.low * 100:.0f}–{row.high * 100:.0f}]"
    return f"{label} {(row.value or 0) * 100:.0f}%{spread} n {row.n}"
