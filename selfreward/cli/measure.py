"""Commands that measure: evaluate a checkpoint, report on all of them."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from selfreward.cli.options import (
    MEASURE,
    Dir,
    Json,
    LogJson,
    LogLevel,
    RunName,
    Set,
    find_run,
    log_options,
    open_store,
    settings_of,
)

if TYPE_CHECKING:
    from selfreward.config import Settings
    from selfreward.report.showing import ReportData

REPORT_DIR = "report"

commands = typer.Typer()


@commands.command("eval", rich_help_panel=MEASURE)
def evaluate(
    checkpoint: Annotated[
        str | None, typer.Option(help="Only this one, as M_2.", show_default="all: M_0, M_1, …")
    ] = None,
    directory: Dir = Path(),
    run_name: RunName = None,
    overrides: Set = None,
    log_level: LogLevel = "info",
    log_json: LogJson = False,
) -> None:
    """Measure checkpoints on held-out seeds, as judges and as assistants, and print the report.

    The daemon does the same with every checkpoint it makes. Answers and judgements that are there are
    not asked for again: this adds what came with more seeds or other settings, or was interrupted.

    Examples:

        selfreward eval --checkpoint M_1

        selfreward eval --set evaluation.prompts=100 --set evaluation.replies=400
    """
    from selfreward.foreground import evaluate as run_evaluation
    from selfreward.report.showing import print_report

    settings = settings_of(directory, overrides)
    run_evaluation(directory, settings, checkpoint, log_options(log_level, log_json))
    print_report(_gathered(settings, directory))


@commands.command(rich_help_panel=MEASURE)
def report(
    directory: Dir = Path(),
    run_name: RunName = None,
    as_json: Json = False,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Where report.md and its plots go. With --json nothing is written unless this is given.",
            show_default=f"{REPORT_DIR}/ in the run's directory",
        ),
    ] = None,
) -> None:
    """Every checkpoint as a judge and as an assistant, with 95% intervals: here, as Markdown and as plots.

    Examples:

        selfreward report

        selfreward report --json | jq '.checkpoints[] | {name, readable: .judge.readable_share.value}'

        selfreward report --out ../docs/report
    """
    from selfreward.report.showing import as_json as plain
    from selfreward.report.showing import print_report

    data = _gathered(settings_of(directory), directory)
    if as_json:
        print(json.dumps(plain(data), indent=2, ensure_ascii=False))
    else:
        print_report(data)
    if out is not None or not as_json:
        _write(data, out or directory / REPORT_DIR)


def _gathered(settings: "Settings", directory: Path) -> "ReportData":
    from selfreward.report.gathering import gather_report

    store = open_store(settings, directory)
    return gather_report(store, find_run(store, settings))


def _write(data: "ReportData", directory: Path) -> None:
    from selfreward.report.showing import write_report

    page, *plots = write_report(data, directory)
    typer.echo(f"wrote {page} and {len(plots)} plots beside it", err=True)
