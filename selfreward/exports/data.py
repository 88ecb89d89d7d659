"""Data sets out of the database: the wanted rows into files, and a card that says what they are."""

import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from pathlib import Path

from selfreward.errors import BadInput
from selfreward.exports.data_card import data_card
from selfreward.exports.facts import counted
from selfreward.exports.kinds import ROWS, Format, Kind, Wanted, expected, rows_of
from selfreward.exports.placing import CARD, placed, placed_file, refuse_existing
from selfreward.exports.progress import shown
from selfreward.exports.writing import WRITERS, Write, require_datasets, write_parquet
from selfreward.store import Store
from selfreward.store.exported import Exported, ExportedCandidate, ExportedExample, ExportedJudgement, Source
from selfreward.store.exporting import Exporting
from selfreward.types import RunRow, Status

FILES = {".parquet": Format.PARQUET, ".jsonl": Format.JSONL}
"""A destination that ends so is the file itself, without a card."""


@dataclass(frozen=True, kw_only=True)
class Written:
    """What an export made."""

    destination: Path
    rows: int
    iterations: tuple[int, ...]
    """Those that had rows."""
    format: Format


@dataclass
class Tally:
    """What has passed on its way into the files."""

    rows: Counter[int] = field(default_factory=Counter)
    """By iteration."""
    states: Counter[tuple[int, str]] = field(default_factory=Counter)
    """By iteration and status, where the rows have one."""

    def counting(self, rows: Iterator[Exported]) -> Iterator[Exported]:
        """The rows as they are, counted while they pass."""
        for row in rows:
            self.rows[row.iteration] += 1
            if isinstance(row, ExportedCandidate | ExportedJudgement):
                self.states[row.iteration, row.status] += 1
            elif isinstance(row, ExportedExample):
                self.states[row.iteration, row.source] += 1
            yield row


def export_data(
    store: Store, run: RunRow, wanted: Wanted, form: Format, destination: Path, force: bool = False
) -> Written:
    """Write the wanted rows to `destination`, which appears whole or not at all.

    Raises BadInput when there is no such iteration, when it has no such rows, when something is in the
    way, and when `hf` is wanted and `datasets` is not installed.
    """
    as_file = FILES.get(destination.suffix) is form
    refuse_existing(destination, force, as_file=as_file)
    if form is Format.HF:
        require_datasets()
    exporting = Exporting(store.database)
    sources, tally = _sources(exporting, run, wanted), Tally()
    rows = _not_empty(store, run, wanted, sources, _rows(store, run, exporting, wanted, sources))
    passing = tally.counting(shown(rows, wanted.kind, _total(exporting, wanted, sources)))
    with (placed_file if as_file else placed)(destination, force) as directory:
        _writer(form, as_file)(passing, ROWS[wanted.kind], directory, wanted.stem)
        if not as_file:
            used = [source for source in sources if tally.rows[source.t]]
            of = {source.t: _of(store, wanted, source, tally) for source in used}
            card = data_card(store, run, wanted, form, used, dict(tally.rows), of)
            (directory / CARD).write_text(card, encoding="utf-8")
    return Written(
        destination=destination,
        rows=tally.rows.total(),
        iterations=tuple(sorted(tally.rows)),
        format=form,
    )


def _sources(exporting: Exporting, run: RunRow, wanted: Wanted) -> list[Source]:
    found = exporting.sources(run.id)
    if wanted.iteration is None and found:
        return found
    chosen = [source for source in found if source.t == wanted.iteration]
    if not chosen:
        known = ", ".join(str(source.t) for source in found) or "none yet"
        which = "iterations" if wanted.iteration is None else f"iteration {wanted.iteration}"
        raise BadInput(f"run {run.name!r} has no {which}", f"Iterations: {known}.")
    return chosen


def _rows(
    store: Store, run: RunRow, exporting: Exporting, wanted: Wanted, sources: Sequence[Source]
) -> Iterator[Exported]:
    for source in sources:
        yield from rows_of(exporting, wanted, source, _min_scores(store, run, source))


def _min_scores(store: Store, run: RunRow, source: Source) -> int:
    """Readable judgements that a candidate needed to be paired: no fewer make an answer the best one."""
    row = store.runs.iteration_in_history(run.id, source.t)
    settings = {} if row is None else store.runs.settings_of(row)
    return int(settings.get("pair", {}).get("min_scores", 1))


def _not_empty(
    store: Store, run: RunRow, wanted: Wanted, sources: Sequence[Source], rows: Iterator[Exported]
) -> Iterator[Exported]:
    first = next(rows, None)
    if first is None:
        raise _nothing(store, run, wanted, sources)
    return chain((first,), rows)


def _nothing(store: Store, run: RunRow, wanted: Wanted, sources: Sequence[Source]) -> BadInput:
    """Why there is nothing to export, as far as the database tells."""
    what = "examples" if wanted.kind is Kind.SFT else str(wanted.kind)
    if wanted.iteration is None:
        return BadInput(f"no iteration of run {run.name!r} has {what} yet", "Let it run: selfreward start")
    [source] = sources
    row = store.runs.iteration_in_history(run.id, source.t)
    message = f"iteration {source.t} of run {run.name!r} has no {what}"
    if row is not None and row.status is Status.PENDING:
        return BadInput(message, "Only its model was measured so far.")
    if wanted.kind is Kind.PAIRS and (outcomes := store.pairs.outcomes(source.iteration_id)):
        hint = " --with-excluded exports those that were too long." if "pair_too_long" in outcomes else ""
        return BadInput(f"{message} to train on: of its prompts {counted(outcomes)}", hint.strip())
    if wanted.kind is Kind.PAIRS and source.t == 0:
        return BadInput(message, "It is the bootstrap, which trains on examples: selfreward export sft")
    least = f" with a mean score of at least {wanted.least_score:g}" if wanted.least_score else ""
    return BadInput(message + least, "`selfreward status` says how far it is.")


def _total(exporting: Exporting, wanted: Wanted, sources: Sequence[Source]) -> int | None:
    counts = [expected(exporting, wanted, source) for source in sources]
    return None if None in counts else sum(count or 0 for count in counts)


def _writer(form: Format, as_file: bool) -> Write:
    """One file must hold all where the user named it."""
    whole = as_file and form is Format.PARQUET
    return partial(write_parquet, shard_bytes=sys.maxsize) if whole else WRITERS[form]


def _of(store: Store, wanted: Wanted, source: Source, tally: Tally) -> str:
    """What the rows of an iteration were taken from, in words."""
    if wanted.kind is Kind.PAIRS:
        return f"prompts: {counted(store.pairs.outcomes(source.iteration_id))}"
    if wanted.kind is Kind.SFT and source.t == 0:
        found = store.examples.counts(source.iteration_id)
        return counted(
            (f"{kind} {'kept' if reason is None else reason}", n) for (kind, reason), n in found.items()
        )
    return counted({state: n for (t, state), n in tally.states.items() if t == source.t})
