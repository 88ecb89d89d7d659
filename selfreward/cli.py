"""The commands: they parse and check, then import what they need. `selfreward --help` loads no model code."""

import errno
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.text import Text

from selfreward import __version__
from selfreward.errors import BadInput, ExitCode, NotRunning, SelfRewardError
from selfreward.text import printable

if TYPE_CHECKING:
    from selfreward.config import Settings
    from selfreward.store import Store
    from selfreward.types import RunRow

app = typer.Typer(
    name="selfreward",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="""Self-Rewarding Language Models as a daemon.

A model writes prompts, answers each N times, judges its own answers 0–5 and is trained by DPO on the
best and the worst: M_1 → M_2 → M_3 … Every prompt, candidate, judgement, pair and checkpoint is a row
in a SQL database.

**Begin:** `selfreward init myrun --preset demo && selfreward start --dir myrun`
""",
)
db_app = typer.Typer(help="The database's schema.", no_args_is_help=True)
app.add_typer(db_app, name="db")

PLACES_AT_FAULT = {
    errno.EACCES: "Check whom it belongs to and its permissions.",
    errno.EPERM: "Check whom it belongs to and its permissions.",
    errno.EROFS: "Choose a directory on a file system that can be written to.",
    errno.ENOTDIR: "A part of the path is a file.",
    errno.EISDIR: "A file is needed there.",
    errno.ENOSPC: "Free some disk and start again: everything up to the last commit is there.",
    errno.EDQUOT: "Free some disk and start again: everything up to the last commit is there.",
}

Dir = Annotated[Path, typer.Option("--dir", "-d", help="The run's directory.", show_default="here")]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override a setting: --set train.beta=0.2 (repeatable)."),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]


def main(arguments: list[str] | None = None) -> None:
    """Entry point: a user's mistake is a message and an exit code, never a traceback."""
    try:
        app(args=arguments)
    except SelfRewardError as error:
        _fail(error.message, error.hint)
        sys.exit(int(error.exit_code))
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(int(ExitCode.OK))
    except OSError as error:
        if error.errno not in PLACES_AT_FAULT:
            raise
        _fail(f"{error.filename or 'the disk'}: {error.strerror}", PLACES_AT_FAULT[error.errno])
        sys.exit(int(ExitCode.FAILED))


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[bool, typer.Option("--version", help="Print the version and leave.")] = False,
) -> None:
    if version:
        print(f"selfreward {__version__}")
        raise typer.Exit


@app.command()
def init(
    directory: Annotated[Path, typer.Argument(help="Where the run will live.")] = Path(),
    preset: Annotated[str, typer.Option(help="Settings to start from: demo, paper or default.")] = "default",
    model: Annotated[
        str | None,
        typer.Option(help="M_1: a directory, org/name, pkg:package/file.gguf, or `demo`."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a settings file that is there.")] = False,
) -> None:
    """Write a commented settings file.

    Examples:

        selfreward init --preset demo

        selfreward init runs/llama --preset paper --model meta-llama/Llama-3.2-1B-Instruct
    """
    from selfreward.config import SETTINGS_FILE, load_preset, render_settings

    values = {} if preset == "default" else load_preset(preset)
    if model is not None:
        values["model"] = load_preset("demo")["model"] if model == "demo" else model
    if not values.get("model"):
        raise BadInput(
            f"preset {preset!r} names no model",
            "Say which: --model DIRECTORY, --model org/name, or --model demo for the small one.",
        )
    path = directory / SETTINGS_FILE
    if path.exists() and not force:
        raise BadInput(f"{path} is there already", "Edit it, or replace it with --force.")
    directory.mkdir(parents=True, exist_ok=True)
    header = (
        f"Settings of one run, from the preset '{preset}'. Start it with: selfreward start\n"
        "Any of them can be overridden: --set train.beta=0.2, or SELFREWARD_TRAIN__BETA=0.2"
    )
    path.write_text(render_settings(values, header), encoding="utf-8")
    print(f"wrote {path}")
    print(f"next: selfreward start{_dir_option(directory)}")


@app.command()
def start(
    directory: Dir = Path(),
    iterations: Annotated[
        int | None,
        typer.Option(min=0, help="Go on until this many iterations are done (done ones count); 0: no end."),
    ] = None,
    detach: Annotated[bool, typer.Option("--detach", help="Run in the background.")] = False,
    overrides: Set = None,
) -> None:
    """Start the daemon. It goes on from whatever the directory holds.

    Ctrl-C (or SIGTERM) finishes what is in flight and leaves; a second one leaves at once. Either
    way, and after kill -9 too, the next start goes on from the last committed row.

    Examples:

        selfreward start --dir runs/demo

        selfreward start --iterations 3 --set train.beta=0.2

        selfreward start --detach && selfreward status --watch
    """
    extra = [] if iterations is None else [f"iterations={iterations}"]
    settings = _settings(directory, [*(overrides or []), *extra])
    if detach:
        from selfreward.background import detach as go

        return go(directory, settings, [*(overrides or []), *extra])
    from selfreward.foreground import run

    run(directory, settings)


@app.command()
def status(
    directory: Dir = Path(),
    watch: Annotated[bool, typer.Option("--watch", help="Keep it on the screen until Ctrl-C.")] = False,
    as_json: Json = False,
) -> None:
    """Where the run stands: owner, iteration, stages, checkpoints, last events."""
    from selfreward import status as view

    settings = _settings(directory)
    store = _store(settings, directory)
    if watch and not as_json:
        view.watch(store, settings)
    elif as_json:
        print(json.dumps(view.as_json(view.gather(store, settings)), indent=2, ensure_ascii=False))
    else:
        view.show(view.gather(store, settings))


@app.command()
def pause(directory: Dir = Path()) -> None:
    """Ask the running daemon to rest at the next item boundary. The engine's memory is freed."""
    _ask(directory, "pause")


@app.command()
def resume(directory: Dir = Path()) -> None:
    """Ask the resting daemon to go on."""
    _ask(directory, "resume")


@app.command()
def stop(directory: Dir = Path()) -> None:
    """Ask the running daemon to finish what is in flight and leave."""
    _ask(directory, "stop")


@app.command()
def query(
    sql: Annotated[str | None, typer.Argument(help="One SELECT.")] = None,
    directory: Dir = Path(),
    as_json: Json = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,
    tables: Annotated[bool, typer.Option("--tables", help="List the tables and views.")] = False,
    limit: Annotated[int, typer.Option(min=1, help="Most rows to print.")] = 1000,
    timeout: Annotated[float, typer.Option(min=0.1, help="Most seconds the query may take.")] = 30,
) -> None:
    """Run one SQL query on the run's database. It can read everything and change nothing.

    Examples:

        selfreward query "select t, prompts, pairs from iteration_summary"

        selfreward query --csv "select score, count(*) from judgement group by score" > scores.csv
    """
    from selfreward import tabular
    from selfreward.store.readonly import QueryResult, relations, run_query

    settings = _settings(directory)
    store = _store(settings, directory)
    if tables or sql is None:
        rows = tuple(relations(store.database))
        result = QueryResult(columns=("name", "kind"), rows=rows, truncated=False)
    else:
        result = run_query(store.database, sql, max_rows=limit, timeout_s=timeout)
    printer = tabular.print_json if as_json else tabular.print_csv if as_csv else tabular.print_table
    printer(result)
    if result.truncated:
        print(f"only the first {limit} rows are shown: give --limit for more", file=sys.stderr)


@app.command()
def doctor(
    directory: Dir = Path(),
    as_json: Json = False,
) -> None:
    """What is installed and there, what will be used, and what is missing with the command that helps."""
    from selfreward import doctor as check

    findings = check.examine(directory)
    if as_json:
        print(json.dumps([check.as_json(finding) for finding in findings], indent=2, ensure_ascii=False))
    else:
        check.show(findings)
    if any(finding.level == "missing" for finding in findings):
        raise typer.Exit(int(ExitCode.FAILED))


@db_app.command("upgrade")
def db_upgrade(directory: Dir = Path()) -> None:
    """Make the database, or bring it to the schema of this version."""
    from selfreward.store.migrate import current_revision, upgrade

    store = _store(_settings(directory), directory, check=False)
    before = current_revision(store.database)
    upgrade(store.database)
    print(f"revision {before or 'none'} → {current_revision(store.database)}")


@db_app.command("current")
def db_current(directory: Dir = Path()) -> None:
    """The database's revision, and the one this version needs."""
    from selfreward.store.migrate import current_revision, head_revision

    store = _store(_settings(directory), directory, check=False)
    print(f"revision {current_revision(store.database) or 'none'}, this version needs {head_revision()}")


def _settings(directory: Path, overrides: list[str] | None = None) -> "Settings":
    from selfreward.config import load_settings

    return load_settings(directory, overrides or ())


def _store(settings: "Settings", directory: Path, check: bool = True) -> "Store":
    from selfreward.store import Store

    open_store = Store.open if check else Store
    return open_store(settings.database.url, directory)


def _run(store: "Store", settings: "Settings") -> "RunRow":
    run = store.runs.find(settings.name)
    if run is None:
        known = ", ".join(store.runs.names()) or "none yet"
        raise BadInput(f"there is no run {settings.name!r} in this database", f"Runs: {known}.")
    return run


def _ask(directory: Path, action: str) -> None:
    from selfreward.types import ControlAction

    settings = _settings(directory)
    store = _store(settings, directory)
    run = _run(store, settings)
    if not store.leases.running(run.id, settings.daemon.lease_timeout_s):
        raise NotRunning(
            f"no daemon is running in {directory.resolve()}",
            f"Start one: selfreward start{_dir_option(directory)}",
        )
    store.journal.ask(run.id, ControlAction(action))
    lease = store.leases.find(run.id)
    print(f"asked {lease.owner if lease else 'the daemon'} to {action}")


def _dir_option(directory: Path) -> str:
    return "" if directory == Path() else f" --dir {directory}"


def _fail(message: str, hint: str) -> None:
    """On a terminal in colour; elsewhere plain. Never markup: messages can hold anything."""
    console = Console(stderr=True, soft_wrap=True)
    console.print(Text.assemble(("error: ", "bold red"), printable(message)))
    if hint:
        console.print(Text(printable(hint)))
