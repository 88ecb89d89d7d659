"""The methods' presets on the demo model, one after the other, with real vLLM and real TRL: `make methods`.

    python -m tests.methods [rrhf irpo …] [--keep] [--json] [--directory runs/methods]

Each runs one iteration, from the seeds to the next checkpoint, in a directory of its own that is made anew,
as a user would: `selfreward init --preset NAME --model demo`, `selfreward start`. The figures are read from
its database, but for the margins, which a process of their own measures under both models (margins.py). A
preset that fails is a line of the table, and the exit status is 1. Models are removed when they are
measured, unless --keep is given; database, settings and logs stay.
"""

import argparse
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from selfreward.config import method_names
from tests.methods.figures import Outcome, read, table

DIRECTORY = Path("runs/methods")
PREFERENCES = ("import", "preferences", "builtin:ranked", "--limit", "24")
"""What the preset for human preferences is given: few, since the whole run is to take minutes."""
SLOWEST_S = 1200
"""A preset that takes longer than this has failed."""
TAIL = 12
"""Lines of a failed command's output that are shown."""


class Failed(Exception):
    """A command of a preset did not end well; the message is the end of what it said."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run what `argv` asks for; returns the exit status."""
    arguments = _parser().parse_args(argv)
    outcomes = []
    for name in arguments.names or method_names():
        print(f"{name} …", file=sys.stderr, flush=True)
        outcomes.append(_try(name, arguments.directory / name, arguments.keep))
        print(table(outcomes[-1:], heading=False), file=sys.stderr, flush=True)
    if arguments.json:
        print(json.dumps([asdict(outcome) for outcome in outcomes], indent=2))
    else:
        print(table(outcomes))
    return 1 if any(outcome.error for outcome in outcomes) else 0


def _try(name: str, directory: Path, keep: bool) -> Outcome:
    began = time.monotonic()
    try:
        _run(name, directory)
        seconds = time.monotonic() - began
        outcome = read(name, directory, seconds, _margins(directory))
    except (Failed, OSError, subprocess.TimeoutExpired) as error:
        print(error, file=sys.stderr)
        return Outcome(preset=name, seconds=time.monotonic() - began, error=str(error).splitlines()[0])
    if not keep:
        shutil.rmtree(directory / "models")
    return outcome


def _run(name: str, directory: Path) -> None:
    """From nothing to the next checkpoint."""
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    _command(directory, "selfreward", "init", str(directory), "--preset", name, "--model", "demo")
    if name == "rlhf":
        _command(directory, "selfreward", *PREFERENCES, "--dir", str(directory))
    _command(directory, "selfreward", "start", "--dir", str(directory), "--iterations", "1")


def _margins(directory: Path) -> tuple[float, float] | None:
    """Before and after; None where there is no pair to measure."""
    said = _command(directory, "tests.methods.margins", str(directory))
    before, after = json.loads(said.splitlines()[-1])
    return None if before is None else (before, after)


def _command(directory: Path, module: str, *arguments: str) -> str:
    """What a command printed. What it said besides is added to output.log in the run's directory."""
    with (directory / "output.log").open("a+", encoding="utf-8") as log:
        done = subprocess.run(
            [sys.executable, "-m", module, *arguments],
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            timeout=SLOWEST_S,
            check=False,
        )
        if done.returncode:
            log.seek(0)
            lines = [*log.read().splitlines(), *done.stdout.splitlines()]
            last = "\n".join(lines[-TAIL:])
            raise Failed(f"{module} {arguments[0]} ended with {done.returncode}: {log.name}\n{last}")
    return done.stdout


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.methods", description="Run the methods' presets.")
    parser.add_argument("names", nargs="*", metavar="PRESET", type=_name, help=f"{', '.join(method_names())}")
    parser.add_argument("--keep", action="store_true", help="keep the models")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--directory", type=Path, default=DIRECTORY, help=f"where they run ({DIRECTORY})")
    return parser


def _name(text: str) -> str:
    """A preset's name. (`choices` would refuse an empty list.)"""
    if text not in method_names():
        raise argparse.ArgumentTypeError(f"there is no method {text!r}: {', '.join(method_names())}")
    return text


if __name__ == "__main__":
    sys.exit(main())
