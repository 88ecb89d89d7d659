"""Commands in this process, through the door that the console script uses."""

import io
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass

import pytest

from selfreward.cli import main


@dataclass(frozen=True)
class Done:
    """What a command left."""

    returncode: int
    stdout: str
    stderr: str


def selfreward(*arguments: str) -> Done:
    """Run a command in this process: a new one would take most of these tests' time."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err), pytest.raises(SystemExit) as left:
        main(list(arguments))
    return Done(int(left.value.code or 0), out.getvalue(), err.getvalue())
