"""`selfreward log`: what the daemon did and why, a line each; with --follow as it happens."""

import time
from collections.abc import Iterator, Sequence

from rich.text import Text

from selfreward.store.browse import Browse
from selfreward.store.browsed import EventDetail
from selfreward.terminal.blocks import DIM, MARK, Sheet, json_text, moment
from selfreward.text import printable

POLL_S = 1.0
STYLES = {
    "failed": "bold red",
    "halted": "bold red",
    "paused": "bold yellow",
    "gate": "yellow",
    "iteration_done": "bold green",
    "evaluated": "green",
}


def newest(browse: Browse, run_id: int, limit: int, kinds: Sequence[str]) -> tuple[EventDetail, ...]:
    """The last events, oldest first."""
    return browse.events(run_id, limit=limit, kinds=kinds).rows


def following(browse: Browse, run_id: int, after: int, kinds: Sequence[str]) -> Iterator[EventDetail]:
    """Events above `after` as they come, without end."""
    while True:
        for event in browse.events(run_id, after=after, kinds=kinds).rows:
            yield event
            after = event.id
        time.sleep(POLL_S)


def show_event(event: EventDetail, sheet: Sheet) -> None:
    """Print one."""
    sheet.show([event_line(event)])


def print_event(event: EventDetail) -> None:
    """Print one as JSON on a line of its own."""
    print(json_text(event), flush=True)


def event_line(event: EventDetail) -> Text:
    """When, in which iteration, what kind, and the sentence."""
    where = "" if event.t is None else f" t={event.t}"
    return Text.assemble(
        (moment(event.at), DIM),
        (where, DIM),
        " ",
        (printable(event.kind), STYLES.get(event.kind, MARK)),
        f" {printable(' '.join(event.message.split()))}",
        overflow="fold",
    )
