"""A backup is whole, of one moment, and never takes the place of something else by accident."""

import sqlite3
import threading
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy.engine import make_url

from selfreward.errors import BadInput, DiskFull, StoreError
from selfreward.store import Store
from selfreward.store import backup as backups
from selfreward.store.backup import backup, pg_dump_command
from tests.conftest import Filled


@pytest.fixture
def filled(tmp_path: Path, sqlite_template: Path) -> Filled:
    """A run on SQLite."""
    (tmp_path / "selfreward.db").write_bytes(sqlite_template.read_bytes())
    filled = Filled(Store("sqlite:///selfreward.db", tmp_path))
    filled.prompt("Which is better?")
    return filled


def prompts(path: Path) -> int:
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        return int(connection.execute("SELECT count(*) FROM prompt").fetchone()[0])


def test_it_makes_its_directory_and_leaves_nothing_beside_it(filled: Filled, tmp_path: Path) -> None:
    backup(filled.store.database, tmp_path / "new" / "copy.db")
    assert prompts(tmp_path / "new" / "copy.db") == 1
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["copy.db"]


def test_what_is_there_is_only_replaced_when_asked_for(filled: Filled, tmp_path: Path) -> None:
    target = tmp_path / "copy.db"
    target.write_text("something else")
    with pytest.raises(BadInput, match="is there already") as caught:
        backup(filled.store.database, target)
    assert "--force" in caught.value.hint and target.read_text() == "something else"
    for suffix in ("-wal", "-shm", "-journal"):
        (tmp_path / f"copy.db{suffix}").write_text("of the file before")
    backup(filled.store.database, target, force=True)
    assert prompts(target) == 1
    assert sorted(path.name for path in tmp_path.glob("copy.db*")) == ["copy.db"]


@pytest.mark.parametrize("name", ["selfreward.db", "link.db", "."])
def test_the_database_itself_is_never_replaced(filled: Filled, tmp_path: Path, name: str) -> None:
    (tmp_path / "link.db").symlink_to(tmp_path / "selfreward.db")
    with pytest.raises(BadInput, match=r"is the database itself|is a directory"):
        backup(filled.store.database, tmp_path / name, force=True)
    assert prompts(tmp_path / "selfreward.db") == 1


def test_leftovers_of_a_backup_that_was_cut_short_do_no_harm(filled: Filled, tmp_path: Path) -> None:
    for suffix in ("", "-wal", "-shm", "-journal"):
        (tmp_path / f"copy.db.part{suffix}").write_text("half of it")
    backup(filled.store.database, tmp_path / "copy.db")
    assert sorted(path.name for path in tmp_path.glob("copy.db*")) == ["copy.db"]


def test_a_copy_that_is_not_sound_is_not_kept(filled: Filled, tmp_path: Path) -> None:
    for number in range(200):
        filled.prompt(f"Prompt number {number} here. " * 20, draw=number + 2)
    filled.store.close()
    source = tmp_path / "selfreward.db"
    content = bytearray(source.read_bytes())
    content[-40_000:-8_000] = bytes(32_000)
    source.write_bytes(content)
    with pytest.raises(StoreError, match=r"not sound|malformed"):
        backup(filled.store.database, tmp_path / "copy.db")
    assert list(tmp_path.glob("copy.db*")) == []


def test_no_space_is_told_and_leaves_nothing(
    filled: Filled, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: Path, partial: Path) -> None:
        partial.write_text("half")
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(backups, "_copy", full)
    with pytest.raises(DiskFull, match=r"copy\.db"):
        backup(filled.store.database, tmp_path / "copy.db")
    assert list(tmp_path.glob("copy.db*")) == []


def test_it_is_of_one_moment_while_rows_are_written(filled: Filled, tmp_path: Path) -> None:
    """A prompt is stored with its demonstration in one transaction: no copy has one without the other."""
    over, first = threading.Event(), filled.prompt("The one that is shown.", draw=2)

    def write() -> None:
        for number in range(3, 10_000):
            if over.is_set():
                return
            with filled.store.database.write() as connection:
                [key] = connection.exec_driver_sql(
                    "INSERT INTO prompt (run_id, source, text, text_hash, status, created_at)"
                    f" VALUES (1, 'self_instruct', 'x', {number}, 'accepted', '2025-01-01') RETURNING id"
                ).one()
                connection.exec_driver_sql(f"INSERT INTO prompt_demonstration VALUES ({key}, 0, {first})")

    writer = threading.Thread(target=write)
    writer.start()
    for number in range(5):
        backup(filled.store.database, tmp_path / f"{number}.db")
    over.set()
    writer.join()
    counts = [prompts(tmp_path / f"{number}.db") for number in range(5)]
    assert counts == sorted(counts)
    for number, count in enumerate(counts):
        with closing(sqlite3.connect(tmp_path / f"{number}.db")) as copy:
            assert copy.execute("SELECT count(*) FROM prompt_demonstration").fetchone() == (count - 2,)


@pytest.mark.parametrize(
    ("url", "named"),
    [
        ("postgresql+psycopg://me:secret@db:5433/runs", "postgresql://me@db:5433/runs"),
        (
            "postgresql+psycopg:///runs?host=/run/pg&password=secret&sslpassword=secret",
            "'postgresql:///runs?host=%2Frun%2Fpg'",
        ),
    ],
)
def test_postgresql_is_backed_up_with_a_command_that_is_told_without_its_password(
    url: str, named: str
) -> None:
    command = pg_dump_command(make_url(url), Path("my backup.dump"))
    assert command == f"pg_dump --format=custom --file='my backup.dump' --dbname={named}"
