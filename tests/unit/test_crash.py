"""Crash points: the list of them is the truth, and a process dies at the one that the environment names."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import selfreward
from selfreward.crash import POINTS, PUMPS, VARIABLE
from selfreward.resources import shipped_dir

CALL = re.compile(r"\bcrash_point\(([^()]*)\)")
LITERAL = re.compile(r'"([a-z_]+:[a-z_]+)"')
PUMP = re.compile(r'f"\{self\._work\.name\}:([a-z_]+)"')
PASS_THRICE = """
from selfreward.crash import crash_point
for number in range(3):
    print(number, flush=True)
    crash_point("sample:asked")
    crash_point("sample:stored")
"""


def calls() -> list[str]:
    """What crash_point is called with, everywhere in the package and its migrations."""
    roots = (Path(selfreward.__file__).parent, shipped_dir("migrations"))
    texts = (path.read_text() for root in roots for path in root.rglob("*.py") if path.name != "crash.py")
    return [argument for text in texts for argument in CALL.findall(text)]


def test_the_places_in_the_code_are_those_in_the_list() -> None:
    found = set()
    for argument in calls():
        literal, pump = LITERAL.fullmatch(argument), PUMP.fullmatch(argument)
        assert literal or pump, f"the harness cannot know what this is: crash_point({argument})"
        found |= {literal[1]} if literal else {f"{name}:{pump[1]}" for name in PUMPS if pump}
    assert found == POINTS


def passed(value: str) -> subprocess.CompletedProcess[str]:
    environ = {**os.environ, VARIABLE: value}
    argv = [sys.executable, "-c", PASS_THRICE]
    return subprocess.run(argv, env=environ, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize(
    ("value", "printed", "status"),
    [
        ("sample:stored", "0\n", -signal.SIGKILL),
        ("sample:stored:2", "0\n1\n", -signal.SIGKILL),
        ("sample:asked:3:TERM", "0\n1\n2\n", -signal.SIGTERM),
        ("sample:stored:4", "0\n1\n2\n", 0),
        ("judge:stored", "0\n1\n2\n", 0),
        ("", "0\n1\n2\n", 0),
    ],
)
def test_a_process_dies_at_the_place_that_it_is_told(value: str, printed: str, status: int) -> None:
    ended = passed(value)
    assert (ended.stdout, ended.returncode) == (printed, status), ended.stderr
