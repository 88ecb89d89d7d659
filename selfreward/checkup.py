"""`selfreward verify`: whether a run is whole, in the database and on the disk, for people or as JSON."""

import hashlib
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from selfreward.places import FORKS, root_of
from selfreward.stages.evaluate import INDEPENDENT
from selfreward.stages.workplace import MODELS
from selfreward.store import Store
from selfreward.store.verify import Check, examine, told
from selfreward.text import printable
from selfreward.training.checkpoint import DAMAGED, STALE, read_manifest
from selfreward.training.checkpoint import verify as shallow
from selfreward.types import CheckpointRow

CHUNK = 2**24

Advance = Callable[[int], None]


@dataclass(frozen=True, kw_only=True)
class Looked:
    """A check and how long it took."""

    check: Check
    seconds: float


def look(store: Store, run: str, directory: Path, sums: bool, console: Console) -> list[Looked]:
    """Look at the whole database, and at the files of a run, its forks and what it was forked from.

    With `sums` every byte of every checkpoint is read; `console` shows how far it is."""
    found, began = [], time.monotonic()
    with Progress(*_COLUMNS, console=console, transient=True, disable=not console.is_terminal) as progress:
        for check in _checks(store, run, root_of(directory), sums, progress):
            found.append(Looked(check=check, seconds=time.monotonic() - began))
            began = time.monotonic()
    return found


def is_whole(found: list[Looked]) -> bool:
    """Whether nothing is wrong."""
    return not any(looked.check.problems for looked in found)


def as_json(found: list[Looked]) -> dict[str, Any]:
    """The same for programs."""
    checks = [{**asdict(looked.check), "seconds": round(looked.seconds, 3)} for looked in found]
    return {"ok": is_whole(found), "checks": checks}


def show(found: list[Looked]) -> None:
    """Print what was looked at as a table, and below each check what is wrong."""
    table = Table(box=None, pad_edge=False, show_header=False)
    for looked in found:
        check = looked.check
        mark = Text("✗", style="red") if check.problems else Text("✓", style="green")
        table.add_row(mark, Text(check.name, style="bold"), Text(check.looked_at), f"{looked.seconds:.1f} s")
        for problem in check.problems:
            table.add_row("", "", Text(f"→ {printable(problem)}", style="red"))
        for note in check.notes:
            table.add_row("", "", Text(f"• {printable(note)}", style="yellow"))
    Console(soft_wrap=not sys.stdout.isatty()).print(table)


_COLUMNS = (
    TextColumn("{task.description}", markup=False),
    BarColumn(),
    DownloadColumn(),
    TimeRemainingColumn(),
)


def _checks(store: Store, run: str, root: Path, sums: bool, progress: Progress) -> Iterator[Check]:
    task = progress.add_task("the database", total=None)
    is_known = True
    for check in examine(store.database):
        is_known &= check.name != "schema" or not check.problems
        yield check
    if is_known:
        rows = _family(store, run)
        total = sum(map(_bytes, {root / row.path for row in rows if not row.removed}))
        progress.update(task, description="checkpoints", total=total if sums else None)
        yield _files(store, root, rows, (lambda size: progress.advance(task, size)) if sums else None)
        yield _directories(root, rows)


def _family(store: Store, run: str) -> list[CheckpointRow]:
    """The checkpoints of all runs whose paths begin where those of `run` do: the whole tree it is in."""
    tree, found = store.runs.tree(), store.runs.find(run)

    def first(run_id: int) -> int:
        above = tree[run_id].parent_id
        return run_id if above is None else first(above)

    runs = [] if found is None else [run_id for run_id in tree if first(run_id) == first(found.id)]
    rows = {row.id: row for run_id in runs for row in store.runs.checkpoints(run_id)}
    return [rows[key] for key in sorted(rows)]


def _files(store: Store, root: Path, rows: list[CheckpointRow], advance: Advance | None) -> Check:
    """Every checkpoint that was not removed is there, and is what was recorded."""
    present = [row for row in rows if not row.removed]
    problems = []
    for row in present:
        found = _file_problems(root / row.path, row, advance)
        if found and _is_current(store, row):  # a daemon may have removed or replaced it meanwhile
            problems.append(f"{row.name} at {row.path}: {'; '.join(found)}")
    how = "names and sizes" if advance is None else "every byte"
    removed = len(rows) - len(present)
    gone = f", {removed} removed by retention or lost" if removed else ""
    return told("checkpoints", f"{len(present)} checkpoints, {how}{gone}", problems)


def _file_problems(path: Path, row: CheckpointRow, advance: Advance | None) -> list[str]:
    if not path.is_dir():
        return ["it is not there"]
    problems, manifest = shallow(path), read_manifest(path)
    if manifest is not None and manifest.digest != row.digest:
        problems.append(f"it is {manifest.digest[:12]}, and {row.digest[:12]} was recorded")
    if advance is None or manifest is None:
        return problems
    return problems + [
        f"{name} has other content than was written"
        for name, entry in manifest.files.items()
        if (path / name).is_file() and _sum(path / name, advance) != entry.sha256
    ]


def _sum(path: Path, advance: Advance) -> str:
    """sha256 of a file, as hex."""
    total = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            total.update(chunk)
            advance(len(chunk))
    return total.hexdigest()


def _is_current(store: Store, row: CheckpointRow) -> bool:
    now = store.runs.checkpoint_by_id(row.id)
    return not now.removed and (now.path, now.digest) == (row.path, row.digest)


def _bytes(path: Path) -> int:
    manifest = read_manifest(path)
    return 0 if manifest is None else sum(entry.size for entry in manifest.files.values())


def _directories(root: Path, rows: list[CheckpointRow]) -> Check:
    """What lies beside the checkpoints. Nothing of it is wrong: a training may be under way."""
    places = [root / MODELS, *sorted((root / FORKS).glob(f"*/{MODELS}"))]
    found = [entry for place in places for entry in sorted(place.glob("*")) if entry.is_dir()]
    kept = {root / row.path for row in rows if not row.removed}
    gone = {root / row.path for row in rows if row.removed}
    notes = [
        f"{entry.relative_to(root)}: {_explain(entry, gone)}"
        for entry in found
        if entry not in kept and entry.name != INDEPENDENT
    ]
    looked_at = f"{len(found)} directories"
    return Check(name="directories", looked_at=looked_at, notes=tuple(notes))


def _explain(entry: Path, gone: set[Path]) -> str:
    """Why a directory may be there that is no checkpoint."""
    marks = {
        ".tmp-": "a training that is under way, or was cut short: the next start collects it",
        f".{STALE}-": "a finished checkpoint that belongs to something else: set aside",
        f".{DAMAGED}-": "set aside because it was damaged: remove it when you do not need it",
    }
    for mark, reason in marks.items():
        if mark in entry.name:
            return reason
    if entry in gone:
        return "a checkpoint that retention has removed: the next pass finishes it"
    return "no row names it: a checkpoint whose training is just being recorded, or something of yours"
