"""`selfreward compare`: two runs that began with the same candidates."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from selfreward.cli.completing import run_names
from selfreward.cli.options import MEASURE, Dir, Json, open_store, settings_of
from selfreward.errors import BadInput
from selfreward.places import run_option

if TYPE_CHECKING:
    from selfreward.store import Store
    from selfreward.types import RunRow

commands = typer.Typer()


@commands.command(rich_help_panel=MEASURE)
def compare(
    run_a: Annotated[
        str, typer.Argument(metavar="RUN_A", help="One run, by its name.", autocompletion=run_names)
    ],
    run_b: Annotated[
        str, typer.Argument(metavar="RUN_B", help="The other: a fork of it.", autocompletion=run_names)
    ],
    iteration: Annotated[
        int | None,
        typer.Option(
            "--iteration",
            "-t",
            min=0,
            max=2**31 - 1,
            help="Which iteration.",
            show_default="the last one whose candidates both used",
        ),
    ] = None,
    directory: Dir = Path(),
    as_json: Json = False,
) -> None:
    """Two runs over the same candidates: what another judge, pair rule or objective has changed.

    How far the judges agree (Kendall τ over prompts, Cohen κ over couples of candidates), which pairs are
    the same, swapped or gone, loss and yield of both, the figures of M_{t+1} side by side with their 95%
    intervals, and the settings that differ. The runs share candidates when one is forked from the other, or
    both from a third, with --reuse candidates or judgements.

    Examples:

        selfreward fork --from-iteration 1 --reuse candidates --set judge.type=pairwise --name pairwise

        selfreward start --run pairwise && selfreward compare main pairwise

        selfreward compare main pairwise --json | jq .agreement.kendall
    """
    from selfreward.report.compared import gather_comparison
    from selfreward.terminal.blocks import print_json, sheet_on
    from selfreward.terminal.compare import show_comparison

    settings = settings_of(directory)
    store = open_store(settings, directory)
    found = gather_comparison(store, _run(store, run_a), _run(store, run_b), iteration)
    print_json(found) if as_json else show_comparison(found, sheet_on(where=_where(directory)))


def _run(store: "Store", name: str) -> "RunRow":
    run = store.runs.find(name)
    if run is None:
        known = ", ".join(store.runs.names()) or "none yet"
        raise BadInput(f"there is no run {name!r} in this database", f"Runs: {known}.")
    return run


def _where(directory: Path) -> str:
    """How a command that names a run itself finds the database; nothing here."""
    option = run_option(directory)
    return option if option.startswith(" --dir") else ""
