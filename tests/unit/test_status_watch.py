"""`selfreward status --watch`: looks again and again, whatever becomes of the database meanwhile."""

import io
import json
import os
import pty
import select
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from rich.console import Console

from selfreward.config import load_settings
from selfreward.errors import SelfRewardError, StoreError
from selfreward.progress import RunStatus
from selfreward.store import Store
from selfreward.terminal.displays import JsonLines, Plain, live_screen
from selfreward.terminal.status import keep_looking
from selfreward.terminal.watched import Watched
from tests.commands import selfreward
from tests.conftest import Filled

Between = Callable[[], None]


@pytest.fixture
def run_dir(tmp_path: Path, sqlite_template: Path) -> Path:
    """A directory with settings and a database that holds one iteration."""
    (tmp_path / "selfreward.toml").write_text('name = "main"\nmodel = "org/name"\n')
    fill(tmp_path, sqlite_template)
    return tmp_path


def fill(directory: Path, template: Path) -> None:
    shutil.copy(template, directory / "selfreward.db")
    store = Store(f"sqlite:///{directory / 'selfreward.db'}", directory)
    filled = Filled(store)
    filled.candidates(filled.prompt("Which is better?"), ["good", "bad"])
    filled.judgements(1, [5.0, None])
    store.journal.event(filled.run.id, "note", "first \x1b[31mred")
    store.close()


class Seen:
    """A display that remembers."""

    def __init__(self) -> None:
        self.looks: list[RunStatus] = []
        self.troubles: list[str] = []

    def show(self, status: RunStatus) -> None:
        self.looks.append(status)

    def trouble(self, error: SelfRewardError) -> None:
        self.troubles.append(str(error))


def waiting(*between: Between) -> Callable[[float], None]:
    """A wait that lets something happen after each look, and then is interrupted as by Ctrl-C."""
    events: Iterator[Between] = iter(between)

    def wait(seconds: float) -> None:
        assert seconds == 2.5
        happens = next(events, None)
        if happens is None:
            raise KeyboardInterrupt
        happens()

    return wait


def watched(run_dir: Path, *between: Between) -> Seen:
    seen = Seen()
    with Watched(run_dir, load_settings(run_dir)) as run:
        keep_looking(run.look, seen, 2.5, waiting(*between))
    return seen


def execute(run_dir: Path, sql: str) -> None:
    with closing(sqlite3.connect(run_dir / "selfreward.db", isolation_level=None)) as connection:
        connection.execute(sql)


def nothing() -> None:
    """Nothing happens between two looks."""


def test_each_look_sees_what_is_new(run_dir: Path) -> None:
    seen = watched(run_dir, lambda: execute(run_dir, "UPDATE event SET message = 'changed'"), nothing)
    assert [look.events[-1].message[:7] for look in seen.looks] == ["first \ufffd", "changed", "changed"]
    assert not seen.troubles


def test_a_missing_database_is_waited_for_and_not_made(run_dir: Path, sqlite_template: Path) -> None:
    database = run_dir / "selfreward.db"

    def away() -> None:
        for file in run_dir.glob("selfreward.db*"):
            file.unlink()

    seen = watched(run_dir, away, lambda: None if not database.exists() else pytest.fail("it was made"),
                   lambda: fill(run_dir, sqlite_template))  # fmt: skip
    assert len(seen.looks) == 2 and len(seen.troubles) == 2
    assert "is not there" in seen.troubles[0] and "selfreward start" in seen.troubles[0]


def test_a_database_that_was_replaced_is_read_anew(run_dir: Path) -> None:
    """As `selfreward restore` would: another file under the same name."""

    def replace() -> None:
        other = run_dir / "other.db"
        with (
            closing(sqlite3.connect(run_dir / "selfreward.db")) as old,
            closing(sqlite3.connect(other)) as new,
        ):
            old.backup(new)
            new.execute("UPDATE event SET message = 'of the other'")
            new.commit()
        other.replace(run_dir / "selfreward.db")

    seen = watched(run_dir, replace)
    assert seen.looks[-1].events[-1].message == "of the other" and not seen.troubles


@pytest.mark.parametrize(
    ("statement", "told"),
    [
        ("UPDATE alembic_version SET version_num = '9999'", ""),
        ("ALTER TABLE stage RENAME TO step", "cannot be used"),
        ("UPDATE stage SET name = 'a stage of a later version' WHERE id = 1", "expects"),
        ("DELETE FROM run", "has not been started yet"),
    ],
    ids=["migrated", "other tables", "other words", "no run"],
)
def test_what_another_version_has_done_is_no_traceback(run_dir: Path, statement: str, told: str) -> None:
    with closing(sqlite3.connect(run_dir / "selfreward.db", isolation_level=None)) as connection:
        connection.execute("PRAGMA foreign_keys=OFF")
        seen = watched(run_dir, lambda: connection.execute(statement) and None, nothing)
    assert len(seen.looks) + len(seen.troubles) == 3
    if told:
        assert told in seen.troubles[0], seen.troubles


def test_a_revision_of_a_later_version_is_told(run_dir: Path) -> None:
    execute(run_dir, "UPDATE alembic_version SET version_num = '9999'")
    seen = watched(run_dir)
    assert "newer selfreward" in seen.troubles[0]


def test_a_lock_is_not_waited_for(run_dir: Path) -> None:
    """A reader is kept out only by a lock that is exclusive."""
    with closing(sqlite3.connect(run_dir / "selfreward.db", isolation_level=None)) as other:
        other.execute("PRAGMA journal_mode=DELETE")
        other.execute("BEGIN EXCLUSIVE")
        seen = watched(run_dir, lambda: other.execute("COMMIT") and None)
    assert len(seen.troubles) == 1 and "locked" in seen.troubles[0]
    assert len(seen.looks) == 1


def test_a_file_that_is_no_database_is_told(run_dir: Path) -> None:
    for file in run_dir.glob("selfreward.db*"):
        file.unlink()
    (run_dir / "selfreward.db").write_bytes(b"no database at all" * 300)
    assert "damaged" in watched(run_dir).troubles[0]


def test_lines_tell_what_is_new_once(run_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def add() -> None:
        store = Store(f"sqlite:///{run_dir / 'selfreward.db'}", run_dir)
        store.journal.event(1, "note", "second\nline \u202etext")
        store.close()

    with Watched(run_dir, load_settings(run_dir)) as run:
        keep_looking(run.look, Plain(), 2.5, waiting(nothing, add, nothing))
    first, *others = capsys.readouterr().out.splitlines()
    assert "main new" in first
    assert "iteration 1 running" in first and "self_instruct 1/" in first
    assert len(others) == 1 and others[0].endswith("note: second line \\x202etext")


def test_trouble_is_told_once_and_its_end_too(capsys: pytest.CaptureFixture[str]) -> None:
    def look() -> RunStatus:
        raise StoreError("the database is not there", "wait")

    keep_looking(look, Plain(), 2.5, waiting(nothing, nothing))
    assert capsys.readouterr().out.splitlines() == ["the database is not there wait"]


def test_json_is_a_line_for_each_look(run_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Watched(run_dir, load_settings(run_dir)) as run:
        keep_looking(run.look, JsonLines(), 2.5, waiting(nothing, (run_dir / "selfreward.db").unlink))
    *looks, trouble = map(json.loads, capsys.readouterr().out.splitlines())
    assert len(looks) == 2 and looks[0]["iteration"]["t"] == 1
    assert trouble.keys() == {"error", "hint"}


def test_the_live_screen_keeps_what_it_saw_while_there_is_trouble(run_dir: Path) -> None:
    shown = io.StringIO()
    console = Console(file=shown, width=80, height=30, force_terminal=True)
    with Watched(run_dir, load_settings(run_dir)) as run, live_screen(console, 1.0) as screen:
        screen.trouble(StoreError("not there yet"))
        screen.show(run.look())
        shown.truncate(0)
        screen.trouble(StoreError("the database has gone"))
    text = shown.getvalue()
    assert "the database has gone" in text and "iteration" in text and "Ctrl-C leaves" in text


def test_an_interval_that_is_none_is_refused(run_dir: Path) -> None:
    done = selfreward("status", "--watch", "--interval", "0", "--dir", str(run_dir))
    assert done.returncode == 2 and "0.1" in done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_on_a_terminal_it_draws_is_resized_and_leaves_with_0(run_dir: Path, number: signal.Signals) -> None:
    """The real command on a real terminal: the alternate screen is left, and the last look stays."""
    ours, theirs = pty.openpty()
    command = [
        sys.executable,
        "-m",
        "selfreward",
        "status",
        "--watch",
        "--interval",
        "60",
        "--dir",
        str(run_dir),
    ]
    environ = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "80", "LINES": "24"}
    process = subprocess.Popen(
        command, stdin=theirs, stdout=theirs, stderr=theirs, env=environ, preexec_fn=_heed_interrupts
    )
    os.close(theirs)
    try:
        sent = _until(ours, b"Ctrl-C leaves")
        assert b"\x1b[?1049h" in sent and b"iteration" in sent
        process.send_signal(signal.SIGWINCH)
        _until(ours, b"Ctrl-C leaves")
        process.send_signal(number)
        last = _until(ours, b"\x1b[?1049l") + _rest(ours)
        assert process.wait(20) == 0
    finally:
        process.kill()
        os.close(ours)
    left = last.partition(b"\x1b[?1049l")[2]
    assert b"Traceback" not in last and b"iteration" in left


def _heed_interrupts() -> None:
    """Tests in the background of a shell have SIGINT ignored, and hand that down."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _until(terminal: int, mark: bytes) -> bytes:
    found = b""
    while mark not in found:
        ready, _, _ = select.select([terminal], [], [], 60)
        assert ready, found
        found += os.read(terminal, 65536)
    return found


def _rest(terminal: int) -> bytes:
    found = b""
    while True:
        try:
            more = os.read(terminal, 65536)
        except OSError:  # the other side is closed
            return found
        if not more:
            return found
        found += more
