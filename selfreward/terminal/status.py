"""`selfreward status`: where a run stands, once or live, for people or as JSON."""

import time

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from selfreward.config import Settings
from selfreward.progress import Meter, RunStatus, gather
from selfreward.progress import as_json as as_json
from selfreward.store import Store
from selfreward.text import printable
from selfreward.types import CheckpointRow

REFRESH_S = 1.0


def show(status: RunStatus) -> None:
    """Print it once."""
    Console().print(_render(status))


def watch(store: Store, settings: Settings) -> None:
    """Keep it on the screen until Ctrl-C."""
    meter = Meter()
    with Live(_render(gather(store, settings, meter)), screen=False, auto_refresh=False) as live:
        try:
            while True:
                live.update(_render(gather(store, settings, meter)), refresh=True)
                time.sleep(REFRESH_S)
        except KeyboardInterrupt:
            return


def _render(status: RunStatus) -> RenderableType:
    owner = status.lease.owner if status.lease else "nobody"
    word, style = ("running", "bold green") if status.running else ("not running", "bold yellow")
    head = Text.assemble(("run ", "dim"), (status.run, "bold"), "  ", (word, style))
    if status.running:
        head.append(f" as {owner}", style="dim")
    if status.forked_from is not None:
        head.append(f"  fork of {status.forked_from} from iteration {status.from_iteration}", style="dim")
    parts: list[RenderableType] = [head]
    if status.iteration is not None:
        t = status.iteration.t
        parts.append(Text(f"iteration {t} (M_{t} → M_{t + 1}): {status.iteration.status}"))
        parts.append(_stage_table(status))
    parts.append(_checkpoint_table(status.checkpoints))
    parts += [
        Text.assemble((f"{event.at:%m-%d %H:%M:%S} ", "dim"), f"{event.kind}: {_first_line(event.message)}")
        for event in status.events
    ]
    return Group(*parts)


def _stage_table(status: RunStatus) -> Table:
    table = Table(box=None, pad_edge=False, show_header=False)
    for stage in status.stages:
        bar = ProgressBar(total=stage.total or max(stage.done, 1), completed=stage.done, width=20)
        figures = f"{stage.done}/{stage.total}" if stage.total is not None else f"{stage.done}"
        told = _first_line(stage.error or stage.detail)
        table.add_row(Text(stage.name), bar, Text(figures), Text(stage.status), Text(told, style="dim"))
    return table


def _checkpoint_table(checkpoints: tuple[CheckpointRow, ...]) -> Table:
    table = Table(box=None, pad_edge=False, show_header=False)
    for checkpoint in checkpoints:
        table.add_row(
            Text(checkpoint.name, style="bold"), checkpoint.kind, checkpoint.path, checkpoint.digest[:12]
        )
    return table


def _first_line(text: str) -> str:
    return printable(text.partition("\n")[0])
