"""What the commands that show things are made of: headings, facts, texts that are wrapped or cut, columns.

On a terminal long texts are cut, saying how much is left, and two answers stand side by side where there
is room. Without one nothing is cut, wrapped or coloured: what follows in the pipe gets whole lines.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, is_dataclass
from datetime import datetime
from typing import Any

from rich.console import Console, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from selfreward.differences import Kind, Piece, differences
from selfreward.text import printable

PIPED_WIDTH = 100_000
LEAST_FOR_TWO = 76
"""Columns from which two texts stand side by side."""
SHOWN = 600
"""Characters of a long text that are shown."""
INDENT = 2
LEAST_SHARED = 0.25
"""Texts that have less in common differ everywhere: nothing is marked."""
GOOD, BAD, MARK, DIM = "green", "red", "bold", "dim"


@dataclass(frozen=True, kw_only=True)
class Sheet:
    """Where things are shown, and how much of them."""

    console: Console
    full: bool = False
    where: str = ""
    """What a command for the user to type needs to find the same run."""

    @property
    def piped(self) -> bool:
        """No terminal."""
        return not self.console.is_terminal

    @property
    def two_columns(self) -> bool:
        """Whether there is room for two texts side by side."""
        return not self.piped and self.console.width >= LEAST_FOR_TWO

    def show(self, parts: Iterable[RenderableType]) -> None:
        """Print them all."""
        for part in parts:
            if self.piped:
                with self.console.capture() as captured:
                    self.console.print(part, soft_wrap=True)
                lines = captured.get().removesuffix("\n").split("\n")
                self.console.file.write("".join(f"{line.rstrip()}\n" for line in lines))
            else:
                self.console.print(part, crop=False)
        self.console.file.flush()

    def cut(self, text: Text, most: int = SHOWN) -> Text:
        """The text, or its beginning and how much is left."""
        left = len(text) - most
        if self.full or self.piped or left < most // 10:
            return text
        return Text.assemble(text[:most], (f" … {left:,} more characters: --full", DIM))

    def block(self, text: Text, most: int = SHOWN) -> RenderableType:
        """A text that stands in from the margin."""
        shown = self.cut(text, most)
        if not self.piped:
            return Padding(shown, (0, 0, 0, INDENT))
        return Text("\n").join(Text(" " * INDENT) + line for line in shown.split("\n", allow_blank=True))

    def line(self, text: str, most: int = 100) -> Text:
        """A text on one line, its beginning if it is long."""
        return self.cut(Text(printable(" ".join(text.split()))), most)

    def end(self, text: str, taken: int) -> Text:
        """How a text ends, on the line of which `taken` columns are taken."""
        whole, most = printable(" ".join(text.split())), max(20, self.console.width - taken)
        if self.piped or len(whole) <= most:
            return Text(whole)
        end = whole[2 - most :]
        return Text(f"… {end.partition(' ')[2] or end}")

    def go_on(self, *commands: str) -> Text:
        """Commands that lead on."""
        return Text(" · ".join(f"selfreward {command}{self.where}" for command in commands), style=DIM)

    def beside(self, left: Sequence[RenderableType], right: Sequence[RenderableType]) -> RenderableType:
        """Two columns of equal width, row by row."""
        table = Table.grid(expand=True, padding=(0, 2, 0, 0))
        table.add_column(ratio=1, overflow="fold")
        table.add_column(ratio=1, overflow="fold")
        for cells in zip(left, right, strict=True):
            table.add_row(*cells)
        return table


def sheet_on(full: bool = False, where: str = "") -> Sheet:
    """Standard output."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=PIPED_WIDTH)
    return Sheet(console=console, full=full, where=where)


def plain(text: str) -> Text:
    """What a model or a user wrote: no markup, no control characters."""
    return Text(printable(text), overflow="fold")


def heading(what: str, *told: str) -> Text:
    """What is shown, in bold, and a few words on it."""
    return Text.assemble(
        (printable(what), MARK), (printable("".join(f" · {part}" for part in told if part)), DIM)
    )


def facts(rows: Iterable[tuple[str, RenderableType | None]]) -> Table:
    """Labels and what belongs to them; None is left out."""
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(style=DIM, no_wrap=True)
    table.add_column(overflow="fold")
    for label, value in rows:
        if value is not None:
            table.add_row(label, value)
    return table


def columns(*heads: str, numbers: Sequence[str] = ()) -> Table:
    """A table with these columns, those of `numbers` to the right."""
    table = Table(box=None, pad_edge=False, header_style=DIM, padding=(0, 2, 0, 0))
    for head in heads:
        table.add_column(head, justify="right" if head in numbers else "left", overflow="fold")
    return table


def number(value: float | int | None, digits: int = 2) -> str:
    """A figure for people; – where there is none."""
    if value is None:
        return "–"
    return f"{value:,}" if isinstance(value, int) else f"{value:.{digits}f}"


def duration(seconds: float | None) -> str:
    """Seconds as a clock would say it; nothing where there are none."""
    if seconds is None:
        return ""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes = int(seconds) // 60
    return (
        f"{minutes // 60} h {minutes % 60:02} min"
        if minutes >= 60
        else f"{minutes} min {seconds % 60:02.0f} s"
    )


def moment(at: datetime | None) -> str:
    """A time, UTC."""
    return "" if at is None else f"{at:%Y-%m-%d %H:%M:%S}"


def marked(old: str, new: str) -> tuple[Text, Text]:
    """Both texts; words that only one has are marked: in the old one as bad, in the new one as good."""
    found = differences(printable(old), printable(new))
    if found.shared < LEAST_SHARED:
        return plain(old), plain(new)
    return _coloured(found.old, BAD), _coloured(found.new, GOOD)


def _coloured(pieces: Sequence[Piece], colour: str) -> Text:
    text = Text(overflow="fold")
    for piece in pieces:
        text.append(piece.text, None if piece.kind is Kind.KEPT else f"{MARK} {colour}")
    return text


def print_json(value: Any) -> None:
    """A row, or rows, for programs."""
    print(json_text(value, indent=2))


def json_text(value: Any, indent: int | None = None) -> str:
    """JSON in which no character stands that a terminal would obey."""
    text = json.dumps(value, ensure_ascii=False, indent=indent, default=_plain)
    return "".join(char if char.isprintable() or char == "\n" else json.dumps(char)[1:-1] for char in text)


def _plain(value: Any) -> Any:
    if is_dataclass(value):
        return {field.name: getattr(value, field.name) for field in fields(value)}
    return value.isoformat() if isinstance(value, datetime) else str(value)
