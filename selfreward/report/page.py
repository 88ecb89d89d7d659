"""A report as Markdown: the tables of the terminal, the plots, and what each figure means."""

import re
from collections.abc import Iterator, Sequence

from selfreward.report.data import ReportData, assistant_figures
from selfreward.report.metrics import JUDGE_FIGURES, Description
from selfreward.report.table import LEGEND, Cell, Section, raised_gates, sections
from selfreward.text import printable

_MARKUP = re.compile(r"[\\`*\[\]|<>#~]|(?<!\w)_|_(?!\w)")


def markdown(data: ReportData, images: Sequence[tuple[str, str]]) -> str:
    """The whole page. `images`: title and file name of each plot, relative to the page."""
    parts = [f"# Report of run {_inert(data.run)}", "\n".join(f"- {_inert(line)}" for line in LEGEND)]
    for section in sections(data):
        parts += [f"## {section.title}", "\n".join(_table(data, section))]
    raised = [f"- {_inert(line)}" for line in raised_gates(data)]
    parts += ["\n".join(raised)] if raised else []
    parts += ["## Plots"] if images else []
    parts += [f"![{title}]({name})" for title, name in images]
    parts += ["## What the figures mean"]
    parts += [_meaning(described) for described in (*JUDGE_FIGURES, *assistant_figures(data))]
    return "\n\n".join(parts) + "\n"


def _table(data: ReportData, section: Section) -> Iterator[str]:
    names = [_inert(checkpoint.name) for checkpoint in data.checkpoints]
    yield _row(["", *names])
    yield _row(["---"] * (len(names) + 1))
    for line in section.lines:
        label = f"{line.label} ({line.unit})" if line.unit else line.label
        yield _row([_inert(label), *(_shown(cell) for cell in line.cells)])


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _shown(cell: Cell) -> str:
    n = f"({cell.n})" if cell.n else ""
    interval = cell.interval.replace(",", ", ")  # a page has the room for it
    return " ".join(part for part in (_inert(cell.value), interval, n, cell.change) if part)


def _meaning(described: Description) -> str:
    label = _inert(f"{described.label} ({described.unit})")
    return (
        f"**{label}.** {_inert(described.about)} n counts {described.items}. "
        f"Interval: {described.interval}. Source: {described.source}."
    )


def _inert(text: str) -> str:
    """`text` on one line, with nothing in it that Markdown or HTML would obey."""
    return _MARKUP.sub(r"\\\g<0>", printable(" ".join(text.split()))).replace("&", "&amp;")
