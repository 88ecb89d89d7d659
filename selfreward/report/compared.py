"""Gathers what two runs have in common and where they differ, for a terminal, a program and a page."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from pydantic import ValidationError

from selfreward.comparing import (
    Agreement,
    Compared,
    FigureLine,
    SettingDifference,
    Side,
    agreement,
    ends,
    pair_changes,
)
from selfreward.config import Settings, changes, that_matter
from selfreward.config.changes import toml
from selfreward.errors import BadInput
from selfreward.report.data import ReportData, assistant_figures
from selfreward.report.metrics import JUDGE_FIGURES
from selfreward.report.table import Cell, sections
from selfreward.store import Store
from selfreward.store.browse_runs import UP
from selfreward.store.comparing import Comparing
from selfreward.store.exported import Source
from selfreward.store.exporting import Exporting
from selfreward.types import EvaluationRow, IterationRow, RunRow, StageName, Status

LOSS, MARGIN = "loss", "rewards/margins"
Shared = tuple[Source, Source]
"""The same iteration t of both runs, each their own, over the same candidates."""


def gather_comparison(store: Store, a: RunRow, b: RunRow, t: int | None = None) -> Compared:
    """Two runs compared in iteration `t`, the last that they share candidates in where it is not said.

    Raises BadInput when they share none, naming the fork that would.
    """
    first, second = _pick(store, a, b, t)
    comparing = Comparing(store.database)
    iterations = [_iteration(store, run, first.t) for run in (a, b)]
    sides = [_side(store, comparing, *each) for each in zip((a, b), (first, second), iterations, strict=True)]
    return Compared(
        t=first.t,
        a=sides[0],
        b=sides[1],
        candidates=comparing.candidates(first.data_iteration_id),
        agreement=_agreement(comparing, first, second),
        pairs=pair_changes(*(comparing.triples(source.iteration_id) for source in (first, second))),
        evaluation=_evaluation(store, (a, b), f"M_{first.t + 1}"),
        settings=_differences(*(store.runs.settings_of(iteration) for iteration in iterations)),
    )


def shared_iterations(store: Store, a: RunRow, b: RunRow) -> list[Shared]:
    """Iterations that both runs have of their own over the same candidates, by t."""
    exporting = Exporting(store.database)
    theirs = {source.t: source for source in exporting.sources(b.id)}
    return [
        (source, other)
        for source in exporting.sources(a.id)
        if (other := theirs.get(source.t)) is not None
        and source.iteration_id != other.iteration_id
        and source.data_iteration_id == other.data_iteration_id
    ]


def _pick(store: Store, a: RunRow, b: RunRow, t: int | None) -> Shared:
    if a.id == b.id:
        raise BadInput(f"run {a.name!r} is compared with itself", "Name two runs: selfreward runs")
    shared = shared_iterations(store, a, b)
    if not shared:
        raise _nothing_shared(store, a, b)
    found = [each for each in shared if t is None or each[0].t == t]
    if not found:
        known = ", ".join(str(first.t) for first, _ in shared)
        raise BadInput(
            f"runs {a.name!r} and {b.name!r} share no candidates in iteration {t}",
            f"They do in iteration {known}: --iteration {shared[-1][0].t}",
        )
    return found[-1]


def _nothing_shared(store: Store, a: RunRow, b: RunRow) -> BadInput:
    """Which fork would share candidates with the first run."""
    sampled = [source.t for source in Exporting(store.database).sources(a.id) if _sampled(store, source)]
    t, name = sampled[-1] if sampled else 1, f"{a.name[:55]}-other"
    return BadInput(
        f"runs {a.name!r} and {b.name!r} share no candidates: each has written its own, "
        "so there is nothing on which their judges or pairs could agree",
        "Fork one from the other with its candidates, and change judge, pair or train there:\n"
        f"  selfreward fork --run {a.name} --from-iteration {t} --reuse candidates --name {name} "
        "--set judge.type=pairwise\n"
        f"  selfreward start --run {name} && selfreward compare {a.name} {name}",
    )


def _sampled(store: Store, source: Source) -> bool:
    stage = store.runs.stage(source.iteration_id, StageName.SAMPLE)
    return stage is not None and stage.status is Status.DONE


def _iteration(store: Store, run: RunRow, t: int) -> IterationRow:
    found = store.runs.iteration_in_history(run.id, t)
    assert found is not None, "it is one of those that are shared"
    return found


def _side(store: Store, comparing: Comparing, run: RunRow, source: Source, iteration: IterationRow) -> Side:
    figures = comparing.pair_figures(source.iteration_id)
    outcomes = comparing.outcomes(source.iteration_id)
    settings = store.runs.settings_of(iteration)
    curve = store.progress.curve(source.iteration_id, StageName.TRAIN, (LOSS, MARGIN))
    decided = sum(outcomes.values())
    return Side(
        run=run.name,
        checkpoint=f"M_{source.t + 1}",
        trained=iteration.status is Status.DONE,
        objective=str(_setting(settings, "train", "objective", "dpo")),
        rule=str(_setting(settings, "pair", "rule", "best_worst")),
        judge=comparing.judge(source.judge_id),
        prompts=decided,
        outcomes=outcomes,
        pairs=figures.pairs,
        imported=figures.imported,
        yield_share=figures.prompts / decided if decided else None,
        mean_margin=figures.mean_margin,
        soft_label=figures.soft_label,
        soft_labels=figures.soft_labels,
        loss=ends(curve[LOSS]),
        margin=ends(curve[MARGIN]),
        steps=curve[LOSS][-1][0] if curve[LOSS] else 0,
        position_bias=comparing.position_bias(source.run, source.t, source.judge_id),
    )


def _setting(settings: Mapping[str, Any], section: str, key: str, default: str) -> Any:
    """Settings of an older version may lack what was made with the default."""
    return settings.get(section, {}).get(key, default)


def _agreement(comparing: Comparing, first: Source, second: Source) -> Agreement | None:
    if first.judge_id is None or second.judge_id is None:
        return None
    a = comparing.scores(first.data_iteration_id, first.judge_id)
    b = (
        a
        if second.judge_id == first.judge_id
        else comparing.scores(second.data_iteration_id, second.judge_id)
    )
    return agreement((a[prompt], b[prompt]) for prompt in sorted(a.keys() & b.keys()))


def _evaluation(store: Store, runs: Sequence[RunRow], name: str) -> tuple[FigureLine, ...]:
    """The report's lines on M_{t+1} of both; none where nothing was measured of either."""
    rows: list[EvaluationRow] = []
    checkpoints = []
    for run in runs:
        found = store.runs.checkpoint(run.id, int(name.removeprefix("M_")))
        measured = [row for row in store.evaluations.rows(run.id) if row.checkpoint == name]
        if found is not None:
            checkpoints.append(replace(found, name=run.name, parent_id=None))
            rows += (replace(row, checkpoint=run.name) for row in measured)
    if not rows:
        return ()
    return tuple(_lines(ReportData(run=name, rows=rows, checkpoints=checkpoints), runs))


def _lines(data: ReportData, runs: Sequence[RunRow]) -> Iterator[FigureLine]:
    places = {checkpoint.name: place for place, checkpoint in enumerate(data.checkpoints)}
    for section, described in zip(sections(data), (JUDGE_FIGURES, assistant_figures(data)), strict=False):
        for line, figure in zip(section.lines, described, strict=False):
            cells = [line.cells[places[run.name]] if run.name in places else Cell() for run in runs]
            found = [data.figure(run.name, figure) for run in runs]
            if any(found):
                yield FigureLine(
                    section=section.title,
                    label=line.label,
                    unit=line.unit,
                    a=found[0],
                    b=found[1],
                    shown=(_texts(cells[0]), _texts(cells[1])),
                )


def _texts(cell: Cell) -> tuple[str, str, str]:
    return cell.value, cell.n, cell.interval


def _differences(a: Mapping[str, Any], b: Mapping[str, Any]) -> tuple[SettingDifference, ...]:
    """Settings that change what a run makes and are not the same; none where B's are of another version."""
    try:
        after = Settings.model_validate(b)
    except ValidationError:
        return ()
    return tuple(
        SettingDifference(key=change.key, a=toml(change.old), b=toml(change.new))
        for change in that_matter(changes(a, after))
        if change.key != "name" and _from_root(change.old) != _from_root(change.new)
    )


def _from_root(value: Any) -> Any:
    """A setting without the way from a fork's directory up to that of the root run, as a list for a tuple."""
    if isinstance(value, list | tuple):
        return [_from_root(part) for part in value]
    return value.replace(UP, "") if isinstance(value, str) else value
