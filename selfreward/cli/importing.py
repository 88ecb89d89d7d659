"""`selfreward import`: preferences of people, or of other models, beside those of the model itself."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from selfreward.cli.options import DATA, Dir, Json, RunName, settings_of
from selfreward.errors import BadInput

if TYPE_CHECKING:
    from selfreward.importing.taking import Taken
    from selfreward.store import Store
    from selfreward.types import RunRow

commands = typer.Typer()
imports = typer.Typer(
    help="Bring in what others have made: preferences to train on.",
    no_args_is_help=True,
)
commands.add_typer(imports, name="import", rich_help_panel=DATA)


@imports.command("preferences")
def import_preferences(
    files: Annotated[
        list[str],
        typer.Argument(metavar="FILE", help="Files, `hub:org/name` or `builtin:ranked`."),
    ],
    directory: Dir = Path(),
    run_name: RunName = None,
    name: Annotated[
        str | None,
        typer.Option(
            metavar="ORIGIN",
            help="What they are called in the rows: preference_pair.origin.",
            show_default="the file's name",
        ),
    ] = None,
    form: Annotated[
        Literal["trl", "hh", "oasst"] | None,
        typer.Option("--format", help="How they are written.", show_default="as each record's keys say"),
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Most preferences of each file.", show_default="all")
    ] = None,
    as_json: Json = False,
) -> None:
    """Read preferences and store them: which of two answers to a prompt is the better one.

    Takes TRL's format (`prompt`, `chosen`, `rejected` as texts or turns, the prompt explicit or implicit),
    which is what `selfreward export pairs` writes; hh-rlhf's transcripts; OpenAssistant trees, of which
    every two replies of different rank are a pair. JSONL, gzipped or not, and Parquet. A prompt is one turn
    of the user: longer dialogues are left out, and all that is left out is counted by reason.

    What is read is stored a few hundred at a time, beside a daemon too. The same again adds nothing, so
    after a broken line: mend it and import once more. How many of them are trained on, pair.imported_share
    says.

    Examples:

        selfreward import preferences helpful-base.jsonl.gz --name hh --limit 5000

        selfreward import preferences hub:trl-lib/ultrafeedback_binarized

        selfreward import preferences trees.jsonl.gz && selfreward start --set pair.imported_share=0.5

        selfreward export pairs --all pairs.jsonl && selfreward import preferences pairs.jsonl --run other
    """
    if name is not None and len(files) > 1:
        raise BadInput("--name is for one file", "Import them one by one, each with its name.")
    store, run = _opened(directory)
    taken = [_take(store, run, file, name, form, limit) for file in files]
    (_print_json if as_json else _print)(run.name, taken)


def _opened(directory: Path) -> "tuple[Store, RunRow]":
    """The run, made if it is not there: preferences may come before the first start."""
    from selfreward.continuity import require_made
    from selfreward.store import Store

    settings = settings_of(directory)
    store = Store.open_or_create(settings.database.url, directory)
    require_made(store, settings, directory)
    return store, store.runs.ensure(settings.name)


def _take(
    store: "Store", run: "RunRow", file: str, name: str | None, form: str | None, limit: int | None
) -> "Taken":
    from selfreward.importing.progress import shown
    from selfreward.importing.reader import PreferenceFormat, read_preferences
    from selfreward.importing.taking import check_origin, origin_of, take

    origin = check_origin(name or origin_of(file))
    found = read_preferences(file, Path(), PreferenceFormat(form) if form else None)
    return take(store, run, origin, shown(found, f"reading {origin}"), limit)


def _print(run: str, taken: "Sequence[Taken]") -> None:
    from selfreward.store.readonly import QueryResult
    from selfreward.terminal.tabular import print_table

    print(
        f"run {run}: {sum(one.read for one in taken)} preferences read, {sum(one.new for one in taken)} new\n"
    )
    rows = tuple((one.origin, one.read, one.new, sum(one.left_out.values())) for one in taken)
    columns = ("origin", "preferences", "new", "left out")
    print_table(QueryResult(columns=columns, rows=rows, truncated=False))
    reasons = tuple((one.origin, reason, n) for one in taken for reason, n in one.left_out.items())
    if reasons:
        print()
        print_table(QueryResult(columns=("origin", "left out", "times"), rows=reasons, truncated=False))


def _print_json(run: str, taken: "Sequence[Taken]") -> None:
    told = [
        {"origin": one.origin, "read": one.read, "new": one.new, "left_out": dict(one.left_out)}
        for one in taken
    ]
    print(json.dumps({"run": run, "files": told}, indent=2))
