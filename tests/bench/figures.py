"""What a benchmark hands back, and how it is shown: a table for people, JSON for programs."""

import json
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped, unused-ignore]
from rich.console import Console
from rich.table import Table
from rich.text import Text

MARKS = {
    True: Text("reached", style="green"),
    False: Text("SHORT", style="bold red"),
    None: Text("", style="dim"),
}
WIDTH_IN_A_FILE = 160


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One measured number. `reached_it` is None for a figure that is only told, or could not be had."""

    name: str
    reached: str
    wanted: str = ""
    reached_it: bool | None = None
    note: str = ""
    data: dict[str, Any] = field(default_factory=dict)
    """The raw numbers, for JSON."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """What the command line says."""

    model: Path | None
    """A converted model to use as it is; None: convert the demo model."""
    demo_dir: Path
    """The directory of a finished demo run."""
    prompts: int
    """Prompts that the generation benchmark has written."""
    rounds: int
    """How often the generation benchmark runs the daemon's side."""
    keep: Path | None
    """Where the generation benchmark leaves what it measured; None: nowhere."""
    iterations: int
    """Iterations of the run that the store benchmark writes."""


class Skipped(Exception):
    """A benchmark cannot run here; the text says why and what would help."""


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    return {
        "cpus": len(os.sched_getaffinity(0)),
        "cpu": _cpu_name(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "python": platform.python_version(),
        "load": [round(value, 2) for value in os.getloadavg()],
    }


def show(results: Sequence[tuple[str, Sequence[Figure]]], about: dict[str, Any]) -> None:
    """The table, and below it the notes."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=WIDTH_IN_A_FILE)
    table = Table(title=_title(about), title_justify="left", show_lines=False)
    for heading in ("benchmark", "figure", "reached", "wanted", ""):
        table.add_column(heading, justify="right" if heading == "reached" else "left")
    for name, figures in results:
        for figure in figures:
            row = (Text(name), Text(figure.name), Text(figure.reached), Text(figure.wanted))
            table.add_row(*row, MARKS[figure.reached_it])
        table.add_section()
    console.print(table)
    for name, figures in results:
        for figure in figures:
            if figure.note:
                console.print(Text.assemble((f"{name} · {figure.name}: ", "bold"), figure.note))


def as_json(results: Sequence[tuple[str, Sequence[Figure]]], about: dict[str, Any]) -> str:
    """The same for programs, raw numbers included."""
    figures = [{"benchmark": name, **asdict(figure)} for name, figures in results for figure in figures]
    return json.dumps({"machine": about, "figures": figures}, indent=2, ensure_ascii=False)


def _title(about: dict[str, Any]) -> str:
    load = about["load"][0]
    return f"{about['cpus']} × {about['cpu']}, {about['memory_gib']} GiB, load {load} at the start"


def _cpu_name() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()
