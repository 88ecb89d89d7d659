"""Commands that keep what a run has made: copies, checks, and checkpoints that must stay."""

import json
from pathlib import Path
from typing import Annotated

import typer

from selfreward.cli.options import DATA, Dir, Json, RunName, find_run, open_store, settings_of
from selfreward.errors import BadInput, ExitCode

commands = typer.Typer()

Name = Annotated[str, typer.Argument(metavar="CHECKPOINT", help="Its name: M_2.")]


@commands.command(rich_help_panel=DATA)
def backup(
    file: Annotated[Path, typer.Argument(help="Where the copy goes.")],
    directory: Dir = Path(),
    run_name: RunName = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is there.")] = False,
) -> None:
    """Copy the database, all runs in it, into one file. A daemon may be at work meanwhile.

    The copy is of one moment, and is checked before it gets its name. It takes no model files: those of
    every checkpoint are in models/, and are never changed. A PostgreSQL database is backed up with
    PostgreSQL's own pg_dump: the command is told.

    Example:

        selfreward backup ~/backups/monday.db
    """
    from selfreward.store.backup import backup as copy

    database = open_store(settings_of(directory), directory).database
    copy(database, file, force=force)
    print(f"backed up into {file} ({file.stat().st_size / 2**20:,.1f} MiB)")


@commands.command(rich_help_panel=DATA)
def verify(
    directory: Dir = Path(),
    run_name: RunName = None,
    sums: Annotated[
        bool, typer.Option("--sums/--no-sums", help="Read every byte of every checkpoint, or only sizes.")
    ] = True,
    as_json: Json = False,
) -> None:
    """Check that everything is there and as it was written: database, counts, checkpoints.

    A daemon may be at work meanwhile: what is under way is no mistake. Exits 1 when something is wrong.

    Examples:

        selfreward verify

        selfreward verify --no-sums --json
    """
    from rich.console import Console

    from selfreward import checkup

    settings = settings_of(directory)
    store = open_store(settings, directory, check=False)
    found = checkup.look(store, settings.name, directory, sums, Console(stderr=True))
    if as_json:
        print(json.dumps(checkup.as_json(found), indent=2, ensure_ascii=False))
    else:
        checkup.show(found)
    if not checkup.is_whole(found):
        raise typer.Exit(int(ExitCode.FAILED))


@commands.command(rich_help_panel=DATA)
def pin(name: Name, directory: Dir = Path(), run_name: RunName = None) -> None:
    """Keep a checkpoint's files, whatever `daemon.keep_checkpoints` says.

    Example:

        selfreward pin M_2
    """
    _pin(directory, name, True)
    print(f"{name} is kept until you unpin it")


@commands.command(rich_help_panel=DATA)
def unpin(name: Name, directory: Dir = Path(), run_name: RunName = None) -> None:
    """Let a checkpoint's files go when `daemon.keep_checkpoints` says so."""
    _pin(directory, name, False)
    print(f"{name} is kept as long as daemon.keep_checkpoints says")


def _pin(directory: Path, name: str, pinned: bool) -> None:
    from selfreward.store.retention import pin as write

    settings = settings_of(directory)
    store = open_store(settings, directory)
    run = find_run(store, settings)
    checkpoint = store.runs.checkpoint_named(run.id, name)
    if checkpoint is None:
        known = ", ".join(row.name for row in store.runs.checkpoints(run.id)) or "none yet"
        raise BadInput(f"run {run.name!r} has no checkpoint {name!r}", f"There are: {known}.")
    write(store.database, checkpoint, pinned)
