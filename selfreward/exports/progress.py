"""How far an export is: a bar on a terminal, nothing elsewhere."""

from collections.abc import Iterable, Iterator
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

Item = TypeVar("Item")


def shown(items: Iterable[Item], what: str, total: int | None) -> Iterator[Item]:
    """The items as they are, counted on stderr while they pass; `total` None where nobody knows."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield from items
        return
    with Progress(*_COLUMNS, console=console, transient=True) as progress:
        yield from progress.track(items, total=total, description=what)


_COLUMNS = (
    TextColumn("{task.description}", markup=False),
    BarColumn(),
    MofNCompleteColumn(),
    TimeRemainingColumn(),
)
