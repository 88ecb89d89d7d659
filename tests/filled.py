"""A run that is done: two iterations on the fake engine and the fake trainer, measured and with a fork.

What reads a run (pages, exports, `show`, saved queries) is tested on it. `make_filled` makes it once, in
seconds; tests copy the directory. One paired prompt of iteration 1 holds texts that no reader may execute.
"""

import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

from tests.crash.scenarios import make_model, seeds
from tests.integration.daemon_driver import Run

RUN, FORK = "main", "beta05"
ITERATIONS = 2

HTML = "<script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\"><b>bold</b>"
ANSI = "\x1b[31mred\x1b[0m \x1b]0;owned\x07 [bold red]markup[/]"
RIGHT_TO_LEFT = "user \u202egnp.exe\u202c \u2066isolated\u2069"
FORMULA = '=HYPERLINK("http://localhost/steal","click")'
HOSTILE = "\n".join((FORMULA, HTML, ANSI, RIGHT_TO_LEFT))
"""The prompt, all of its candidates, and the first judgement of each."""

SETTINGS = """
name = "main"
model = "{model}"
iterations = 2
[engine]
type = "fake"
concurrency = 8
[seeds]
files = ["seeds.jsonl"]
[self_instruct]
target = 12
max_attempts = 200
[evaluation]
prompts = 6
replies = 8
[gates]
pause = []
[train]
type = "fake"
batch_size = 2
micro_batch_size = 2
[daemon]
commit_rows = 16
commit_seconds = 0.1
backup_every_minutes = 0
"""


def make_filled(directory: Path) -> Path:
    """Run it in `directory`, which is to be empty; returns that directory."""
    model = make_model(directory / "model")
    run = Run(directory / RUN, model)
    run.settings.write_text(SETTINGS.format(model=model))
    shutil.copytree(model, run.directory / "models" / "M_1")
    (run.directory / "seeds.jsonl").write_text("\n".join(map(json.dumps, seeds())))
    for arguments in (
        ("start",),
        ("fork", "--from-iteration", "1", "--name", FORK, "--set", "train.beta=0.5", "--reuse", "judgements"),
        ("start", "--run", FORK, "--iterations", "1"),
    ):
        done = run.command(*arguments)
        assert done.returncode == 0, done.stderr
    _make_hostile(run.directory / "selfreward.db")
    return run.directory


def hostile_prompt(directory: Path) -> int:
    """The id of the prompt with the hostile texts."""
    with closing(sqlite3.connect(directory / "selfreward.db")) as connection:
        found: int = connection.execute("SELECT id FROM prompt WHERE text = ?", (HOSTILE,)).fetchone()[0]
        return found


def _make_hostile(database: Path) -> None:
    with closing(sqlite3.connect(database)) as connection, connection:
        (prompt,) = connection.execute(
            "SELECT min(prompt_id) FROM preference_pair WHERE iteration_id ="
            " (SELECT min(id) FROM iteration WHERE t = 1)"
        ).fetchone()
        connection.execute("UPDATE prompt SET text = ? WHERE id = ?", (HOSTILE, prompt))
        connection.execute(
            "UPDATE candidate SET text = ? || candidate_index WHERE prompt_id = ?", (HOSTILE, prompt)
        )
        connection.execute(
            "UPDATE judgement SET raw_text = ? || raw_text WHERE sample = 0 AND candidate_id IN"
            " (SELECT id FROM candidate WHERE prompt_id = ?)",
            (HOSTILE, prompt),
        )
