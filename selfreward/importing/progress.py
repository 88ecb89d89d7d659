"""How far an import is: a count that moves on a terminal, nothing elsewhere."""

from collections.abc import Iterable, Iterator
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

Item = TypeVar("Item")


def shown(items: Iterable[Item], what: str) -> Iterator[Item]:
    """The items as they are, counted on stderr while they pass: nobody knows how many will come."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield from items
        return
    with Progress(*_COLUMNS, console=console, transient=True) as progress:
        yield from progress.track(items, total=None, description=what)


_COLUMNS = (
    TextColumn("{task.description}", markup=False),
    BarColumn(),
    TextColumn("{task.completed:,.0f}"),
    TimeElapsedColumn(),
)
