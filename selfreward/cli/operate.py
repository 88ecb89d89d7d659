"""Commands for those who run it beside other programs."""

from pathlib import Path
from typing import Annotated

import typer

from selfreward.cli.options import DATA, Dir, RunName, open_store, settings_of

DIRECTORY = "datasette"

commands = typer.Typer()


@commands.command(rich_help_panel=DATA)
def datasette(
    out: Annotated[
        Path | None,
        typer.Argument(
            metavar="[OUT]",
            help="Directory to write metadata.json into.",
            show_default=f"{DIRECTORY}/ in the run's directory",
        ),
    ] = None,
    directory: Dir = Path(),
    run_name: RunName = None,
) -> None:
    """Write what datasette needs to show the database with words, and say how to open it.

    Tables and columns are described as in docs/schema.md, and the saved queries are there as pages. A
    daemon may be at work meanwhile. Datasette itself is not installed with selfreward: pip install datasette.

    Examples:

        selfreward datasette

        selfreward datasette --dir runs/demo ~/public
    """
    from selfreward import datasette as made

    database = open_store(settings_of(directory), directory).database
    described = made.write(database, out or directory / DIRECTORY)
    file = _shortest(made.database_file(database))
    print(f"wrote {described}")
    print(f"open it:       {made.command(file, described)}")
    print(f"or a copy:     selfreward backup --dir {directory} {described.parent / file.name}")
    print(f"               {made.command(described.parent / file.name, described, immutable=True)}")


def _shortest(path: Path) -> Path:
    """Relative to here where it lies below."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
