"""A checkpoint as a directory for others: its files as they were written, and a model card."""

import errno
import os
import shutil
from itertools import groupby
from pathlib import Path
from typing import Any

from selfreward.errors import BadInput, SelfRewardError
from selfreward.exports.cards import render
from selfreward.exports.facts import (
    base_model,
    counted,
    figures,
    lineage,
    raised_gates,
    settings_text,
)
from selfreward.exports.placing import CARD, placed
from selfreward.exports.progress import shown
from selfreward.places import root_of
from selfreward.store import Store
from selfreward.store.exported import Source
from selfreward.store.exporting import Exporting
from selfreward.training.checkpoint import MANIFEST, read_manifest, verify
from selfreward.training.manifest import listing
from selfreward.training.sources import HUB_ID
from selfreward.types import CheckpointKind, CheckpointRow, EvaluationRow, Metric, RunRow, Suite

BASE_CARD = "README.base.md"
"""What a card is called that came with the base model."""
UNLINKABLE = (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP)
SECTIONS: dict[CheckpointKind, tuple[str, ...]] = {
    CheckpointKind.BASE: (),
    CheckpointKind.SFT: ("bootstrap",),
}
"""Settings that decide what a checkpoint becomes; of every other kind those in `TRAINED`."""
TRAINED = ("pair", "train")


def find_checkpoint(store: Store, run: RunRow, name: str) -> CheckpointRow:
    """A checkpoint of a run by its name. Raises BadInput with the names that are there."""
    checkpoints = {checkpoint.name: checkpoint for checkpoint in store.runs.checkpoints(run.id)}
    if name not in checkpoints:
        known = ", ".join(checkpoints) or "none yet"
        raise BadInput(f"run {run.name!r} has no checkpoint {name!r}", f"Checkpoints: {known}.")
    return checkpoints[name]


def export_model(
    store: Store,
    run: RunRow,
    directory: Path,
    name: str,
    destination: Path,
    *,
    force: bool = False,
    link: bool = False,
    hub_name: str = "",
) -> None:
    """Write checkpoint `name` with its card to `destination`, which appears whole or not at all.

    The files are copied and every byte of the copy is held against the manifest. With `link` the weights
    are hard links where the file system allows it: whoever changes one then changes the run's own model.
    `hub_name` is what the card calls the model in its example. Raises BadInput when there is no such
    checkpoint or something is in the way, SelfRewardError when its files are not what was written.
    """
    row = find_checkpoint(store, run, name)
    files = root_of(directory) / row.path
    if row.removed:
        raise BadInput(
            f"the files of {name} were removed by retention", "Its row stays, its weights are gone."
        )
    _refuse_damage(row, files, deep=False)
    card = model_card(store, run, row, hub_name or destination.name)
    with placed(destination, force) as scratch:
        _bring(files, scratch, link)
        _refuse_damage(row, scratch, deep=True)
        if (scratch / CARD).exists():
            (scratch / CARD).rename(scratch / BASE_CARD)
        (scratch / CARD).write_text(card, encoding="utf-8")


def _refuse_damage(row: CheckpointRow, files: Path, deep: bool) -> None:
    problems = verify(files, deep) if files.is_dir() else [f"{files} is not there"]
    found = read_manifest(files)
    if found is not None and found.digest != row.digest:
        problems.append(f"it is {found.digest[:12]}, and {row.digest[:12]} was recorded")
    if problems:
        raise SelfRewardError(
            f"{row.name} is not what was written: {'; '.join(problems)}",
            "`selfreward verify` looks at every checkpoint.",
        )


def _bring(files: Path, scratch: Path, link: bool) -> None:
    names = [*listing(files), MANIFEST]
    for name in shown(names, "files", len(names)):
        target = scratch / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if not (link and name.endswith(".safetensors") and _linked(files / name, target)):
            shutil.copyfile(files / name, target)


def _linked(file: Path, target: Path) -> bool:
    try:
        os.link(file.resolve(), target)
    except OSError as error:
        if error.errno not in UNLINKABLE:
            raise
        return False
    return True


def model_card(store: Store, run: RunRow, row: CheckpointRow, place: str) -> str:
    """The README.md of a checkpoint. `place` is what its example loads."""
    ancestors = lineage(store, run.id, {row.name})
    exporting = Exporting(store.database)
    before = [source for source in exporting.sources(run.id) if source.t <= _made_in(row)]
    worked = [source for source in before if source.t >= 1 and row.kind not in SECTIONS]
    base = base_model(store, run.id)
    names = {one.name for one in ancestors}
    return render(
        "model.md.jinja",
        checkpoint=row,
        run=run.name,
        place=place,
        parent=ancestors[-1].parent,
        base_model=base or "not recorded",
        hub_model=base if HUB_ID.fullmatch(base) else "",
        lineage=ancestors,
        data=[facts for source in worked if (facts := exporting.facts(source)) is not None],
        examples=_examples(store, before),
        settings=_settings(store, run, row),
        versions=_versions(exporting, row, before),
        measured=[one.name for one in ancestors],
        figures=_lines(figures(store, run.id, names), [one.name for one in ancestors]),
        gates=raised_gates(store, run.id, {source.t for source in worked}),
        command=f"selfreward export model {row.name} DIR --run {run.name}",
    )


def _settings(store: Store, run: RunRow, row: CheckpointRow) -> str:
    sections = SECTIONS.get(row.kind, TRAINED)
    return settings_text(store, run.id, _made_in(row), sections) if sections else ""


def _made_in(row: CheckpointRow) -> int:
    """The iteration that trained it: R_t stands beside M_t."""
    return row.version if row.kind is CheckpointKind.REWARD else row.version - 1


def _versions(exporting: Exporting, row: CheckpointRow, before: list[Source]) -> dict[str, str]:
    made_by = [source for source in before if source.t == _made_in(row)]
    return exporting.trained_with(made_by[0]) if made_by and row.kind is not CheckpointKind.BASE else {}


def _examples(store: Store, before: list[Source]) -> str:
    found = [store.examples.counts(source.iteration_id) for source in before if source.t == 0]
    return counted(
        (f"{kind} {'kept' if reason is None else f'left out ({reason})'}", n)
        for counts in found
        for (kind, reason), n in counts.items()
    )


def _lines(rows: list[EvaluationRow], names: list[str]) -> list[dict[str, Any]]:
    """One line a metric, with a figure for each checkpoint or None."""
    suites, metrics = list(Suite), list(Metric)
    ordered = sorted(rows, key=lambda row: (suites.index(row.suite), metrics.index(row.metric)))
    return [
        {"suite": suite, "metric": metric, "rows": _by_name(list(group), names)}
        for (suite, metric), group in groupby(ordered, key=lambda row: (row.suite, row.metric))
    ]


def _by_name(rows: list[EvaluationRow], names: list[str]) -> list[EvaluationRow | None]:
    found = {row.checkpoint: row for row in rows}
    return [found.get(name) for name in names]
