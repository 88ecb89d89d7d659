"""What a live screen is drawn with: figures in few characters, bars, and curves of one line."""

import math
from collections.abc import Iterable, Sequence
from itertools import pairwise

from rich.cells import cell_len, set_cell_size
from rich.text import Text

from selfreward.text import printable

LEVELS = " ▁▂▃▄▅▆▇█"
FULL, HALF, REST = "━", "╸", "─"
Forms = Sequence[Sequence[Text]]
"""Of a part of the screen, the fullest first."""
LABEL = 8
"""Columns of the word that a line begins with."""
DIM, GOOD, WARN, BAD, MARK = "dim", "green", "yellow", "red", "bold"
ASCII = str.maketrans("▁▂▃▄▅▆▇█━╸─✓✗▶·→…–‖≤≥", ".:-=+*%##=-v*>->.-!<>")
"""For terminals that know nothing else, character by character: widths stay as they are."""


def cells(text: str, width: int, right: bool = False) -> str:
    """Text in exactly so many columns, cut with an ellipsis or filled up on one side."""
    text = cut(text, width)
    padding = " " * (width - cell_len(text))
    return padding + text if right else text + padding


def cut(text: str, width: int) -> str:
    """The text, or as much of it as there is room for, and an ellipsis."""
    if cell_len(text) <= width:
        return text
    return set_cell_size(text, max(0, width - 1)).rstrip() + "…" if width > 0 else ""


def one_line(text: str) -> str:
    """What others wrote, on one line and without what a terminal would obey."""
    return printable(" ".join(text.split()))


def count(number: float, short: bool = False) -> str:
    """12,345, or in five columns: 12.3k."""
    if not short or number < 10_000:
        return f"{number:,.0f}"
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            value = number / size
            return f"{value:.1f}{unit}" if value < 99.95 else f"{value:.0f}{unit}"
    raise AssertionError("it is above 10,000")


def rate(per_second: float | None) -> str:
    """Items a second, a minute or an hour, whichever can be read."""
    if per_second is None:
        return ""
    if per_second >= 1 or per_second == 0:
        return f"{per_second:.1f}/s" if 0 < per_second < 100 else f"{count(per_second, short=True)}/s"
    if per_second * 60 >= 1:
        return f"{per_second * 60:.1f}/min"
    return f"{per_second * 3600:.1f}/h"


def clock(seconds: float | None) -> str:
    """4:07, 1:57:00, 3 d 4:12; nothing for None."""
    if seconds is None or math.isinf(seconds):
        return ""
    minutes, rest = divmod(max(0, round(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days} d {hours}:{minutes:02}"
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def share(part: float, whole: float) -> str:
    """In whole per cent; nothing of nothing."""
    return f"{part / whole:.0%}" if whole else ""


def bar(done: float, total: float | None, width: int) -> tuple[str, str]:
    """(what is done, what is left) of a bar; an empty one where the total is not known or 0."""
    halves = round(2 * width * min(1.0, done / total)) if total else 0
    drawn = FULL * (halves // 2) + (HALF if halves % 2 else "")
    return drawn, REST * (width - len(drawn))


def column(value: float, most: float, rows: int) -> list[str]:
    """A bar that stands: one character for each row, the top one first. What is not 0 is seen."""
    eighths = math.ceil(value / most * rows * 8) if most and value > 0 else 0
    return [LEVELS[min(8, max(0, eighths - 8 * row))] for row in reversed(range(rows))]


def sparkline(values: Sequence[float], width: int) -> str:
    """The curve of values in one line of at most `width` characters, each the mean of its part."""
    finite = [value for value in values if math.isfinite(value)]
    if not finite or width < 1:
        return ""
    parts = min(width, len(finite))
    edges = [round(place * len(finite) / parts) for place in range(parts + 1)]
    means = [sum(finite[low:high]) / (high - low) for low, high in pairwise(edges)]
    low, high = min(means), max(means)
    span = high - low
    return "".join(LEVELS[1 + round(7 * (mean - low) / span)] if span else LEVELS[4] for mean in means)


def in_ascii(line: Text) -> Text:
    """A line for a terminal that shows nothing else, as wide as it was."""
    plain = line.plain.translate(ASCII).encode("ascii", "replace").decode()
    return Text(plain, spans=line.spans) if len(plain) == len(line.plain) else Text(plain)


def labelled(label: str, told: Iterable[str], width: int, style: str = "") -> Text:
    """As many of the things to tell as there is room for, the first in any case."""
    told = [part for part in told if part]
    line = told[0] if told else ""
    for part in told[1:]:
        if cell_len(line) + cell_len(part) + 3 > width - LABEL:
            break
        line += f" · {part}"
    return Text.assemble((cells(label, LABEL), DIM), (cut(line, width - LABEL), style))


def alone(line: Text) -> Forms:
    """A part of one line, or of none."""
    return ((line,), ())
