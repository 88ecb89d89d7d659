"""The commands: they parse and check, then import what they need. `selfreward --help` loads no model code."""

import errno
import os
import sys
from contextvars import copy_context
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from selfreward import __version__
from selfreward.cli import (
    compare,
    export,
    fork,
    importing,
    inspect,
    keep,
    look,
    measure,
    operate,
    run,
    schema,
    seeds,
    serve,
)
from selfreward.cli.options import DATA
from selfreward.errors import ExitCode, SelfRewardError
from selfreward.text import printable

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

**Try something else from a stored iteration:** `selfreward fork --from-iteration 1 --name beta05 --set
train.beta=0.5 --reuse judgements && selfreward start --run beta05`
""",
)
app.add_typer(run.commands)
app.add_typer(fork.commands)
app.add_typer(measure.commands)
app.add_typer(compare.commands)
app.add_typer(export.commands)
app.add_typer(importing.commands)
app.add_typer(seeds.commands, name="seeds", rich_help_panel=DATA)
app.add_typer(inspect.commands)
app.add_typer(schema.commands, name="db", rich_help_panel=DATA)
app.add_typer(look.commands)
app.add_typer(keep.commands)
app.add_typer(serve.commands)
app.add_typer(operate.commands)

PLACES_AT_FAULT = {
    errno.EACCES: "Check whom it belongs to and its permissions.",
    errno.EPERM: "Check whom it belongs to and its permissions.",
    errno.EROFS: "Choose a directory on a file system that can be written to.",
    errno.ENOTDIR: "A part of the path is a file.",
    errno.EISDIR: "A file is needed there.",
    errno.ENOSPC: "Free some disk and start again: everything up to the last commit is there.",
    errno.EDQUOT: "Free some disk and start again: everything up to the last commit is there.",
}


def main(arguments: list[str] | None = None) -> None:
    """Entry point: a user's mistake is a message and an exit code, never a traceback."""
    copy_context().run(_run, arguments)  # where a daemon was at work is forgotten with it


def _run(arguments: list[str] | None) -> None:
    try:
        app(args=arguments)
    except SelfRewardError as error:
        if not _logged(error):
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


def _logged(error: SelfRewardError) -> bool:
    """Whether it went into a daemon's log, where every line is JSON."""
    if "selfreward.reporting" not in sys.modules:
        return False
    from selfreward.reporting import tell_failure

    return tell_failure(error.message, error.hint)


def _fail(message: str, hint: str) -> None:
    """On a terminal in colour; elsewhere plain. Never markup: messages can hold anything."""
    console = Console(stderr=True, soft_wrap=True)
    console.print(Text.assemble(("error: ", "bold red"), printable(message)))
    if hint:
        console.print(Text(printable(hint)))
