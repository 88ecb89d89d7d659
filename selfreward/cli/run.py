"""Commands that make a run, start its daemon and talk to it."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from selfreward.cli.fork import fork_again
from selfreward.cli.options import (
    RUN,
    Dir,
    Json,
    LogJson,
    LogLevel,
    RunName,
    Set,
    dir_option,
    find_run,
    log_options,
    open_store,
    settings_of,
)
from selfreward.errors import BadInput, NotRunning
from selfreward.resources import preset_comment, preset_lines

if TYPE_CHECKING:
    from selfreward.reporting import LogOptions

ACCEPT = "--accept-changed-settings"
Detach = Annotated[bool, typer.Option("--detach", help="Run in the background.")]
AcceptChanges = Annotated[
    bool,
    typer.Option(ACCEPT, help="Go on although settings differ from those that the run was made with so far."),
]

commands = typer.Typer()


def _presets() -> str:
    """The presets for --help, a line each."""
    return "**Presets:**\n\n" + "\n".join(f"- `{name}`: {line}" for name, line in preset_lines().items())


@commands.command(rich_help_panel=RUN, epilog=_presets())
def init(
    directory: Annotated[Path, typer.Argument(help="Where the run will live.")] = Path(),
    preset: Annotated[
        str, typer.Option(help="Settings to start from: one of those below, or `default`.")
    ] = "default",
    model: Annotated[
        str | None,
        typer.Option(
            help="M_0 or M_1: a directory, org/name, pkg:package/file.gguf. `demo`: the small one, and with "
            "a method's preset the demo's numbers too."
        ),
    ] = None,
    database: Annotated[
        str | None,
        typer.Option(metavar="URL", help="sqlite:///file.db or postgresql+psycopg://user@host/name."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a settings file that is there.")] = False,
) -> None:
    """Write a commented settings file.

    Examples:

        selfreward init --preset demo

        selfreward init runs/llama --preset paper --model meta-llama/Llama-3.2-1B-Instruct

        selfreward init runs/rrhf --preset rrhf --model demo

        selfreward init shared --preset demo --database postgresql+psycopg://me@db.example/selfreward
    """
    from selfreward.config import SETTINGS_FILE, load_preset, render_settings
    from selfreward.store.database import resolve_url

    values = {} if preset == "default" else load_preset(preset, on_demo=model == "demo")
    if model is not None:
        values["model"] = load_preset("demo")["model"] if model == "demo" else model
    if not values.get("model"):
        raise BadInput(
            f"preset {preset!r} names no model",
            "Say which: --model DIRECTORY, --model org/name, or --model demo for the small one.",
        )
    if database is not None:
        resolve_url(database, directory)  # its complaints come before anything is written
        values["database"] = {"url": database}
    path = directory / SETTINGS_FILE
    if path.exists() and not force:
        raise BadInput(f"{path} is there already", "Edit it, or replace it with --force.")
    directory.mkdir(parents=True, exist_ok=True)
    header = (
        f"Settings of one run, from the preset '{preset}'. Start it with: selfreward start\n"
        "Any of them can be overridden: --set train.beta=0.2, or SELFREWARD_TRAIN__BETA=0.2\n"
        f"\n{preset_comment(preset)}"
    )
    path.write_text(render_settings(values, header), encoding="utf-8")
    print(f"wrote {path}")
    if values.get("pair", {}).get("imported_share"):
        few = " --limit 24" if model == "demo" else ""
        print(f"next: selfreward import preferences builtin:ranked{few}{dir_option(directory)}")
        print("      (or a file of yours instead of what ships: see selfreward import preferences --help)")
    print(f"next: selfreward start{dir_option(directory)}")


@commands.command(rich_help_panel=RUN)
def start(
    directory: Dir = Path(),
    iterations: Annotated[
        int | None,
        typer.Option(min=0, help="Go on until this many iterations are done (done ones count); 0: no end."),
    ] = None,
    detach: Detach = False,
    accept_changes: AcceptChanges = False,
    overrides: Set = None,
    log_level: LogLevel = "info",
    log_json: LogJson = False,
    run_name: RunName = None,
) -> None:
    """Start the daemon. It goes on from whatever the directory holds.

    A run goes on under the settings it was made with so far: where others are given it says which, and
    how to accept them or to try them in a fork. How long, on what and how closely watched (`iterations`,
    `engine`, `daemon`, `database`, `evaluation`, `gates`, `notify`) may change at any time.

    Ctrl-C (or SIGTERM) finishes what is in flight and leaves; a second one leaves at once. Either
    way, and after kill -9 too, the next start goes on from the last committed row.

    On a terminal it shows bars; elsewhere it logs JSON lines, each with run, iteration and stage.

    Examples:

        selfreward start --dir runs/demo

        selfreward start --iterations 3 --set engine.concurrency=32

        selfreward start --run beta05

        selfreward start --detach && selfreward status --watch
    """
    extra = [] if iterations is None else [f"iterations={iterations}"]
    log = log_options(log_level, log_json)
    _start(directory, [*(overrides or []), *extra], detach, accept_changes, log)


@commands.command(rich_help_panel=RUN)
def status(
    directory: Dir = Path(),
    run_name: RunName = None,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Look again and again until Ctrl-C.")] = False,
    interval: Annotated[
        float | None,
        typer.Option(
            min=0.1,
            metavar="SECONDS",
            help="With --watch: between two looks.",
            show_default="1 on a terminal, else 10",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Where the run stands: what it does and why not, stages with rates and time left, scores, training.

    With --watch a live screen, which may stay open for days; without a terminal a line for each look that
    finds something new; with --json a line of JSON for each look. Times are UTC.

    Examples:

        selfreward status

        selfreward status --watch --interval 5

        selfreward status --json | jq '.stages[] | {name, done, total, rate, seconds_left}'

        selfreward status --watch > progress.log &
    """
    from selfreward.terminal import status as view

    settings, where = settings_of(directory), dir_option(directory)
    if watch:
        return view.watch(directory, settings, interval, as_json, where)
    show = view.show_json if as_json else view.show
    show(open_store(settings, directory), settings, where)


@commands.command(rich_help_panel=RUN)
def pause(directory: Dir = Path(), run_name: RunName = None) -> None:
    """Ask the running daemon to rest at the next item boundary. The engine's memory is freed."""
    _ask(directory, "pause")


@commands.command(rich_help_panel=RUN)
def resume(
    directory: Dir = Path(),
    from_iteration: Annotated[
        int | None,
        typer.Option(
            metavar="K", min=0, help="Go on from M_K instead, in a fork: what came after it stays as it is."
        ),
    ] = None,
    name: Annotated[str | None, typer.Option(help="The fork's name.", show_default="<run>-from-K")] = None,
    detach: Detach = False,
    accept_changes: AcceptChanges = False,
    log_level: LogLevel = "info",
    log_json: LogJson = False,
    run_name: RunName = None,
) -> None:
    """Go on: asks the resting daemon to; where none is running, starts one.

    With --from-iteration the run goes on from a stored iteration, as a fork with the same settings.
    The line as it was is kept, and can be gone on with as well.

    Examples:

        selfreward resume

        selfreward resume --from-iteration 2 --detach

        selfreward resume --from-iteration 1 --name again && selfreward runs
    """
    from selfreward.store import Store

    log = log_options(log_level, log_json)
    if from_iteration is not None:
        return _start(fork_again(directory, from_iteration, name), [], detach, accept_changes, log)
    if name is not None:
        raise BadInput("--name is the name of a fork", "Say from where: --from-iteration K.")
    settings = settings_of(directory)
    store = Store.open_or_create(settings.database.url, directory)
    run = store.runs.find(settings.name)
    if run is not None and store.leases.running(run.id, settings.daemon.lease_timeout_s):
        return _ask(directory, "resume")
    store.close()
    _start(directory, [], detach, accept_changes, log)


@commands.command(rich_help_panel=RUN)
def stop(directory: Dir = Path(), run_name: RunName = None) -> None:
    """Ask the running daemon to finish what is in flight and leave."""
    _ask(directory, "stop")


def _start(
    directory: Path, overrides: list[str], detach: bool, accept_changes: bool, log: "LogOptions"
) -> None:
    settings = settings_of(directory, overrides)
    if detach:
        from selfreward.background import detach as go

        arguments = [part for item in overrides for part in ("--set", item)]
        arguments += ["--log-level", log.level, *([ACCEPT] if accept_changes else [])]
        return go(directory, settings, arguments)
    from selfreward.foreground import run

    run(directory, settings, accept_changes, log)


def _ask(directory: Path, action: str) -> None:
    from selfreward.types import ControlAction

    settings = settings_of(directory)
    store = open_store(settings, directory)
    run = find_run(store, settings)
    if not store.leases.running(run.id, settings.daemon.lease_timeout_s):
        raise NotRunning(
            f"no daemon is running in {directory.resolve()}",
            f"Start one: selfreward start{dir_option(directory)}",
        )
    store.journal.ask(run.id, ControlAction(action))
    lease = store.leases.find(run.id)
    print(f"asked {lease.owner if lease else 'the daemon'} to {action}")
