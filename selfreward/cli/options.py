"""What the commands share: their common options, and the way from a directory to settings, store and run."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from selfreward.errors import BadInput
from selfreward.places import SETTINGS_FILE, fork_directory, fork_names, root_of, run_option

if TYPE_CHECKING:
    from selfreward.config import Settings
    from selfreward.reporting import LogOptions
    from selfreward.store import Store
    from selfreward.types import RunRow

RUNS = Path("runs")

# The groups in which --help lists the commands.
RUN, MEASURE, DATA = "Run", "Measure", "Data"


def _chosen(context: typer.Context, directory: Path) -> Path:
    """The directory of the run that --dir and --run name."""
    name = context.params.get("run_name")
    place = _place(context, directory)
    return place if name is None or context.resilient_parsing else _of_run(place, name)


def _place(context: typer.Context, directory: Path) -> Path:
    """The directory that was named; else this one, or the only one in runs/ when this is none."""
    source = context.get_parameter_source("directory")
    named = source is not None and source.name != "DEFAULT"
    if named or context.resilient_parsing or (directory / SETTINGS_FILE).is_file():
        return directory
    found = sorted(path.parent for path in RUNS.glob(f"*/{SETTINGS_FILE}"))
    if len(found) > 1:
        raise BadInput(
            f"no {SETTINGS_FILE} here, and several runs in {RUNS}/",
            "Say which:" + "".join(f"\n{dir_option(path)}" for path in found),
        )
    if found:
        print(f"using {found[0]}", file=sys.stderr)
    return found[0] if found else directory


def _of_run(directory: Path, name: str) -> Path:
    """The directory of the root run or of a fork. Raises BadInput with the names that are there."""
    root = root_of(directory)
    first = settings_of(root).name
    if name == first:
        return directory if directory.resolve() == root else root
    forks = fork_names(root)
    if name not in forks:
        raise BadInput(f"there is no run {name!r} in {root}", f"Runs: {', '.join((first, *forks))}.")
    return fork_directory(directory if directory.resolve() == root else root, name)


Dir = Annotated[
    Path,
    typer.Option(
        "--dir",
        "-d",
        callback=_chosen,
        help="The run's directory.",
        show_default="this one, or the only one in runs/",
    ),
]
RunName = Annotated[
    str | None,
    typer.Option(
        "--run",
        metavar="NAME",
        is_eager=True,
        help="A fork by its name, or the run that all come from.",
        show_default="the run in that directory",
    ),
]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override a setting: --set train.beta=0.2 (repeatable)."),
]
Levels = Literal["debug", "info", "warning", "error"]
LogLevel = Annotated[
    Levels,
    typer.Option("--log-level", envvar="SELFREWARD_LOG_LEVEL", help="Least that is worth a line."),
]
LogJson = Annotated[
    bool,
    typer.Option("--log-json", envvar="SELFREWARD_LOG_JSON", help="Log JSON lines on a terminal too."),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]


def settings_of(directory: Path, overrides: list[str] | None = None) -> "Settings":
    """The settings of the run in `directory`. Raises BadInput with file and line of what cannot be used."""
    from selfreward.config import load_settings

    return load_settings(directory, overrides or ())


def open_store(settings: "Settings", directory: Path, check: bool = True) -> "Store":
    """The run's database; with `check`, refused unless its schema is the one that this version knows."""
    from selfreward.store import Store

    door = Store.open if check else Store
    return door(settings.database.url, directory)


def log_options(level: Levels, as_json: bool) -> "LogOptions":
    """What --log-level and --log-json have asked for."""
    from selfreward.reporting import LogOptions

    return LogOptions(level=level, as_json=as_json)


def find_run(store: "Store", settings: "Settings") -> "RunRow":
    """The run that the settings name. Raises BadInput with the names that are there."""
    run = store.runs.find(settings.name)
    if run is None:
        known = ", ".join(store.runs.names()) or "none yet"
        raise BadInput(f"there is no run {settings.name!r} in this database", f"Runs: {known}.")
    return run


def dir_option(directory: Path) -> str:
    """How a command for the user to type names the run's directory: not at all where it is this one."""
    return run_option(directory)
