"""`selfreward status`: where a run stands, once or live, for people or as JSON."""

import math
import time
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from selfreward.config import Settings
from selfreward.errors import BadInput
from selfreward.store import Store
from selfreward.text import printable
from selfreward.types import (
    CheckpointRow,
    EventRow,
    IterationRow,
    LeaseRow,
    PairOutcome,
    StageName,
    StageProgress,
    StageRow,
    Status,
)

REFRESH_S = 1.0


@dataclass(frozen=True, kw_only=True)
class RunStatus:
    """Everything that `status` shows."""

    run: str
    forked_from: str | None
    """The run it goes on from, …"""
    from_iteration: int | None
    """… with iteration K, on M_K."""
    running: bool
    lease: LeaseRow | None
    iteration: IterationRow | None
    stages: tuple[StageProgress, ...]
    details: tuple[str, ...]
    checkpoints: tuple[CheckpointRow, ...]
    events: tuple[EventRow, ...]


def gather(store: Store, settings: Settings) -> RunStatus:
    """Read it all. Raises BadInput when the run has not been started yet."""
    run = store.runs.find(settings.name)
    if run is None:
        raise BadInput(f"run {settings.name!r} has not been started yet", "Start it: selfreward start")
    iteration = store.runs.latest_iteration(run.id)
    stages = [] if iteration is None else store.runs.stages(iteration.id)
    tree = store.runs.tree()
    node = tree[run.id]
    return RunStatus(
        run=run.name,
        forked_from=None if node.parent_id is None else tree[node.parent_id].name,
        from_iteration=node.parent_iteration,
        running=store.leases.running(run.id, settings.daemon.lease_timeout_s),
        lease=store.leases.find(run.id),
        iteration=iteration,
        stages=() if iteration is None else _progress(store, settings, iteration, stages),
        details=tuple(f"{stage.name}: {stage.error or stage.detail}" for stage in stages),
        checkpoints=tuple(store.runs.checkpoints(run.id)),
        events=tuple(store.journal.events(run.id, 8)),
    )


def as_json(status: RunStatus) -> dict[str, Any]:
    """The same for programs."""
    plain = asdict(status)
    for event in plain["events"]:
        event["at"] = event["at"].isoformat()
    if plain["lease"]:
        plain["lease"]["heartbeat_at"] = plain["lease"]["heartbeat_at"].isoformat()
    return plain


def show(status: RunStatus) -> None:
    """Print it once."""
    Console().print(_render(status))


def watch(store: Store, settings: Settings) -> None:
    """Keep it on the screen until Ctrl-C."""
    with Live(_render(gather(store, settings)), screen=False, auto_refresh=False) as live:
        try:
            while True:
                live.update(_render(gather(store, settings)), refresh=True)
                time.sleep(REFRESH_S)
        except KeyboardInterrupt:
            return


def _progress(
    store: Store, settings: Settings, iteration: IterationRow, stages: list[StageRow]
) -> tuple[StageProgress, ...]:
    counts = store.journal.counts(iteration)
    prompts = settings.self_instruct.target
    pairs = store.pairs.outcomes(iteration.id).get(PairOutcome.PAIRED, 0)
    totals = {
        StageName.SELF_INSTRUCT: prompts,
        StageName.SAMPLE: prompts * settings.sample.candidates,
        StageName.JUDGE: prompts * settings.sample.candidates * settings.judge.wanted,
        StageName.PAIR: prompts,
        StageName.TRAIN: math.ceil(pairs / settings.train.batch_size) * settings.train.epochs,
    }
    return tuple(
        StageProgress(
            name=stage.name,
            status=stage.status,
            done=counts.get(stage.name, 0),
            total=counts.get(stage.name, 0) if stage.status is Status.DONE else totals.get(stage.name),
        )
        for stage in stages
    )


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
    for stage, detail in zip(status.stages, status.details, strict=True):
        bar = ProgressBar(total=stage.total or max(stage.done, 1), completed=stage.done, width=20)
        figures = f"{stage.done}/{stage.total}" if stage.total is not None else f"{stage.done}"
        told = _first_line(detail.partition(": ")[2])
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
