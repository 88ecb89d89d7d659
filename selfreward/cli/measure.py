"""Commands that measure: evaluate a checkpoint, report on all of them, export answers for other judges."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from selfreward.cli.options import MEASURE, Dir, Json, RunName, Set, find_run, open_store, settings_of
from selfreward.errors import BadInput
from selfreward.types import Split

if TYPE_CHECKING:
    from selfreward.config import Settings
    from selfreward.report.showing import ReportData
    from selfreward.store import Store
    from selfreward.types import CheckpointRow, RunRow

REPORT_DIR = "report"
DATASET = "selfreward_held_out"

commands = typer.Typer()
exports = typer.Typer(help="Write what the run holds in other programs' formats.", no_args_is_help=True)
commands.add_typer(exports, name="export", rich_help_panel=MEASURE)


@commands.command("eval", rich_help_panel=MEASURE)
def evaluate(
    checkpoint: Annotated[
        str | None, typer.Option(help="Only this one, as M_2.", show_default="all: M_0, M_1, …")
    ] = None,
    directory: Dir = Path(),
    run_name: RunName = None,
    overrides: Set = None,
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
    run_evaluation(directory, settings, checkpoint)
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


@exports.command("answers")
def export_answers(
    checkpoint: Annotated[str, typer.Argument(help="Whose answers, as M_2.")],
    file: Annotated[Path, typer.Argument(help="The file to write.")],
    directory: Dir = Path(),
    run_name: RunName = None,
) -> None:
    """A checkpoint's answers to the held-out prompts, as AlpacaEval's `model_outputs.json`.

    Examples:

        selfreward export answers M_2 model_outputs.json

        alpaca_eval --model_outputs model_outputs.json
    """
    from selfreward.exports.alpaca import alpaca_outputs, write_outputs

    settings = settings_of(directory)
    store = open_store(settings, directory)
    run = find_run(store, settings)
    held_out = {row.id for row in store.prompts.seeds(run.id, Split.HELD_OUT)}
    answers = store.answers.of(_find_checkpoint(store, run, checkpoint).id)
    texts = [(answer.prompt, answer.text) for answer in answers if answer.prompt_id in held_out]
    outputs = alpaca_outputs(texts, f"selfreward-{run.name}-{checkpoint}", DATASET)
    write_outputs(file, outputs)
    print(f"wrote {len(outputs)} answers of {checkpoint} to {file}")


def _gathered(settings: "Settings", directory: Path) -> "ReportData":
    from selfreward.report.gathering import gather_report

    store = open_store(settings, directory)
    return gather_report(store, find_run(store, settings))


def _write(data: "ReportData", directory: Path) -> None:
    from selfreward.report.showing import write_report

    page, *plots = write_report(data, directory)
    typer.echo(f"wrote {page} and {len(plots)} plots beside it", err=True)


def _find_checkpoint(store: "Store", run: "RunRow", name: str) -> "CheckpointRow":
    checkpoints = {checkpoint.name: checkpoint for checkpoint in store.runs.checkpoints(run.id)}
    if name not in checkpoints:
        known = ", ".join(checkpoints) or "none yet"
        raise BadInput(f"run {run.name!r} has no checkpoint {name!r}", f"Checkpoints: {known}.")
    return checkpoints[name]
