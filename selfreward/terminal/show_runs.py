"""`selfreward show iteration|checkpoint`: what was made, in which steps, how well, and with what settings."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from rich.console import RenderableType
from rich.text import Text

from selfreward.config.changes import toml
from selfreward.store.browsed import (
    CheckpointDetail,
    CheckpointRef,
    IterationDetail,
    IterationRef,
    JudgeDetail,
    SessionDetail,
    StageDetail,
)
from selfreward.terminal.blocks import (
    BAD,
    DIM,
    GOOD,
    MARK,
    Sheet,
    columns,
    duration,
    facts,
    heading,
    moment,
    number,
    plain,
)
from selfreward.terminal.log import event_line
from selfreward.text import printable
from selfreward.types import CheckpointKind, EvaluationRow, GateResult, GateState, Status

BAR = 24
"""Characters of the longest bar."""
STATUSES = {
    Status.DONE: GOOD,
    Status.RUNNING: MARK,
    Status.PENDING: DIM,
    Status.HALTED: "yellow",
    Status.FAILED: BAD,
}
GATES = {
    GateState.OK: GOOD,
    GateState.WARN: "yellow",
    GateState.PAUSE: BAD,
    GateState.ACCEPTED: "yellow",
    GateState.SKIPPED: DIM,
}


def show_iteration(detail: IterationDetail, sheet: Sheet) -> None:
    """An iteration: figures, stages, scores, outcomes, gates, settings, events."""
    sheet.show(_iteration(detail, sheet))


def show_checkpoint(detail: CheckpointDetail, sheet: Sheet) -> None:
    """A checkpoint: where it comes from, what it was trained on, what it is worth."""
    sheet.show(_checkpoint(detail, sheet))


def _iteration(detail: IterationDetail, sheet: Sheet) -> Iterator[RenderableType]:
    made = detail.trained.name if detail.trained else f"M_{detail.t + 1}"
    yield heading(
        f"iteration {detail.t}", f"run {detail.run}", f"{detail.checkpoint.name} → {made}", detail.status
    )
    yield facts(_figures(detail))
    yield from _section("stages", _stages(detail.stages, sheet) if detail.stages else None)
    yield from _section("scores", _bars({f"{score:g}": count for score, count in detail.scores.items()}))
    yield from _section(
        "pairs by outcome", _bars({str(key): count for key, count in detail.outcomes.items()})
    )
    yield from _section(
        "rejected prompts", _bars({str(key): count for key, count in detail.rejected.items()})
    )
    yield from _section("gates", _gates(detail.gates) if detail.gates else None)
    yield from _section(f"figures of {detail.checkpoint.name}", _evaluations(detail.evaluations))
    yield from _section("engine sessions", _sessions(detail.sessions) if detail.sessions else None)
    yield from _section("settings that changed", _changes(detail))
    if detail.events:
        yield from _section("events", Text("\n").join(event_line(event) for event in detail.events))
    yield Text()
    yield sheet.go_on(f"show checkpoint {made if detail.trained else detail.checkpoint.name}", "log")


def _section(title: str, body: RenderableType | None) -> Iterator[RenderableType]:
    """A title and what is below it; nothing where that is None."""
    if body is not None:
        yield Text()
        yield Text(title, MARK)
        yield body


def _figures(detail: IterationDetail) -> Iterator[tuple[str, RenderableType | None]]:
    counts = detail.counts
    yield "started", Text(f"{moment(detail.started_at)} UTC")
    if detail.finished_at:
        took = (detail.finished_at - detail.started_at).total_seconds()
        yield "finished", Text(f"{moment(detail.finished_at)} UTC, after {duration(took)}")
    yield "reuses", _reused(detail.reused)
    if counts["prompts"] is None:
        yield "work", Text("none: only its checkpoint is measured", DIM)
        return
    yield "prompts", Text(f"{number(counts['prompts'])}, and {number(counts['rejected_prompts'])} rejected")
    yield "candidates", Text(number(counts["candidates"]))
    yield "judgements", _judgements(counts)
    yield "pairs", _pairs(counts)
    yield "judge", _judge(detail.judge) if detail.judge else None


def _reused(ref: IterationRef | None) -> Text | None:
    return None if ref is None else plain(f"prompts and candidates of iteration {ref.t} of {ref.run}")


def _judgements(counts: Mapping[str, float | int | None]) -> Text:
    made, readable = counts["judgements"], counts["readable"]
    if not made or readable is None:
        return Text("none yet", DIM)
    return Text(f"{number(made)}, {readable / made:.1%} readable, mean score {number(counts['mean_score'])}")


def _pairs(counts: Mapping[str, float | int | None]) -> Text:
    if not counts["pairs"]:
        return Text("none yet", DIM)
    steps = f", {number(counts['steps'])} training steps" if counts["steps"] else ""
    return Text(f"{number(counts['pairs'])}, mean margin {number(counts['mean_margin'])}{steps}")


def _judge(judge: JudgeDetail) -> Text:
    parameters = ", ".join(f"{key} {toml(value)}" for key, value in judge.parameters.items())
    return Text.assemble(plain(f"{judge.judged_by} by {judge.template}"), (f": {printable(parameters)}", DIM))


def _stages(stages: Sequence[StageDetail], sheet: Sheet) -> RenderableType:
    """A line each; beneath, why one failed, and with --full the versions it ran under."""
    table = columns("stage", "status", "took", "how it ended", numbers=("took",))
    for stage in stages:
        told = stage.error or stage.detail
        table.add_row(
            stage.name,
            Text(stage.status, STATUSES[stage.status]),
            duration(stage.seconds),
            sheet.cut(plain(told), 200),
        )
        if sheet.full and stage.versions:
            versions = ", ".join(f"{name} {version}" for name, version in stage.versions.items())
            table.add_row("", "", "", Text(printable(versions), DIM))
    return table


def _bars(counts: Mapping[str, int]) -> RenderableType | None:
    """A bar for each; None where there is nothing."""
    total, most = sum(counts.values()), max(counts.values(), default=0)
    if not total:
        return None
    table = columns("", "", "", "", numbers=())
    table.show_header = False
    for label, count in counts.items():
        bar = "█" * max(1, round(BAR * count / most)) if count else ""
        table.add_row(plain(label), Text(bar, "cyan"), number(count), Text(f"{count / total:.0%}", DIM))
    return table


def _gates(gates: Sequence[GateResult]) -> RenderableType:
    table = columns("gate", "state", "finding")
    for gate in gates:
        table.add_row(gate.gate, Text(gate.state, GATES[gate.state]), plain(gate.message))
    return table


def _evaluations(rows: Sequence[EvaluationRow]) -> RenderableType | None:
    if not rows:
        return None
    table = columns("suite", "metric", "value", "95% interval", "n", numbers=("value", "n"))
    for row in rows:
        interval = "" if row.low is None or row.high is None else f"{row.low:.3g} to {row.high:.3g}"
        value = "–" if row.value is None else f"{row.value:.3g}"
        table.add_row(row.suite, row.metric, value, Text(interval, DIM), number(row.n))
    return table


def _sessions(sessions: Sequence[SessionDetail]) -> RenderableType:
    numbers = ("id", "took", "tokens read", "written", "per second")
    table = columns("id", "engine", "model", "took", "tokens read", "written", "per second", numbers=numbers)
    for row in sessions:
        speed = row.generated_tokens / row.seconds if row.generated_tokens and row.seconds else None
        table.add_row(
            str(row.id),
            plain(row.engine),
            plain(row.checkpoint),
            duration(row.seconds),
            number(row.prompt_tokens),
            number(row.generated_tokens),
            number(None if speed is None else round(speed)),
        )
    return table


def _changes(detail: IterationDetail) -> RenderableType | None:
    lines = [f"{change.key}: {toml(change.old)} → {toml(change.new)}" for change in detail.changed]
    return Text("\n").join(plain(line) for line in lines) if lines else None


def _checkpoint(detail: CheckpointDetail, sheet: Sheet) -> Iterator[RenderableType]:
    yield heading(f"checkpoint {detail.name}", f"run {detail.run}", detail.kind)
    yield facts(_about(detail))
    yield from _section("figures", _evaluations(detail.evaluations))
    yield Text()
    made = [f"show iteration {detail.trained_in.t}"] if detail.trained_in else []
    parent = [f"diff {detail.ancestors[0].name} {detail.name}"] if detail.ancestors else []
    if detail.kind is CheckpointKind.REWARD:  # which answers nothing
        yield sheet.go_on(*made, f"export model {detail.name} {detail.name.lower()}")
    else:
        yield sheet.go_on(*made, *parent, f"export answers {detail.name} answers.json")


def _about(detail: CheckpointDetail) -> Iterator[tuple[str, RenderableType | None]]:
    yield "made", Text(f"{moment(detail.created_at)} UTC")
    yield "comes from", _line(detail.ancestors, " ← ") if detail.ancestors else None
    yield "trained", _training(detail)
    yield "led to", _line(detail.children, ", ") if detail.children else None
    works = [f"iteration {ref.t} of {ref.run}" for ref in detail.works_in]
    yield "works in", plain(", ".join(works)) if works else None
    yield "files", _files(detail)
    yield "digest", Text(detail.digest)


def _line(refs: Iterable[CheckpointRef], between: str) -> Text:
    return plain(between.join(f"{ref.name} ({ref.run}, {ref.kind})" for ref in refs))


def _training(detail: CheckpointDetail) -> Text | None:
    if detail.trained_in is None:
        return None
    parts = [(detail.pairs, "pairs"), (detail.examples, "examples"), (detail.steps or 0, "steps")]
    told = ", ".join(f"{number(count)} {what}" for count, what in parts if count)
    return plain(f"in iteration {detail.trained_in.t} of {detail.trained_in.run}: {told or 'nothing stored'}")


def _files(detail: CheckpointDetail) -> Text:
    if detail.removed_at is not None:
        return plain(f"{detail.path}, removed {moment(detail.removed_at)} UTC")
    if detail.size_bytes is None:
        return Text.assemble(plain(detail.path), (" not there", BAD))
    pinned = ", pinned" if detail.pinned else ""
    return plain(f"{detail.path}, {_size(detail.size_bytes)}{pinned}")


def _size(size: int) -> str:
    """Bytes in the unit that suits them."""
    for unit, below in (("bytes", 2**10), ("KiB", 2**20), ("MiB", 2**30)):
        if size < below:
            return f"{size} bytes" if unit == "bytes" else f"{size / (below / 2**10):.1f} {unit}"
    return f"{size / 2**30:.2f} GiB"
