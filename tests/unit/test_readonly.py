"""The user's SQL can read everything and change nothing, on both databases."""

import re
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest

from selfreward.errors import BadInput
from selfreward.store import Store
from selfreward.store.backup import backup, rotate
from selfreward.store.readonly import relations, run_query
from tests.conftest import Filled


def test_it_reads_tables_and_views(filled: Filled) -> None:
    filled.candidates(filled.prompt("Which is better?"), ["good", "bad"])
    result = run_query(filled.store.database, "SELECT t, prompts, candidates FROM iteration_summary;")
    assert (result.columns, result.rows, result.truncated) == (
        ("t", "prompts", "candidates"),
        ((1, 1, 2),),
        False,
    )


def test_it_sees_the_tables(store: Store) -> None:
    found = dict(relations(store.database))
    assert found["judgement"] == "table" and found["iteration_summary"] == "view"


README = Path(__file__).parents[2] / "README.md"
README_QUERIES = re.findall(r'selfreward query(?: --?\w+)* "([^"]+)"', README.read_text(encoding="utf-8"))


@pytest.mark.parametrize("sql", README_QUERIES, ids=range(len(README_QUERIES)))
def test_the_readmes_queries_run(filled: Filled, sql: str) -> None:
    assert len(README_QUERIES) >= 3
    assert run_query(filled.store.database, sql).columns


COMMON_ATTACKS = [
    "DELETE FROM run",
    "UPDATE run SET name = 'x'",
    "INSERT INTO run (name) VALUES ('x')",
    "DROP TABLE run",
    "CREATE TABLE x (y INTEGER)",
    "SELECT 1; DELETE FROM run",
    "WITH x AS (SELECT 1) DELETE FROM run",
]
SQLITE_ATTACKS = [
    "ATTACH '{path}/attached.db' AS other",
    "PRAGMA query_only=0",
    "PRAGMA journal_mode=DELETE",
    "PRAGMA writable_schema=1",
    "VACUUM",
    "VACUUM INTO '{path}/vacuumed.db'",
    "BEGIN IMMEDIATE",
    "SELECT load_extension('x')",
    "CREATE TEMP TABLE x (y INTEGER)",
    "REINDEX",
    "ANALYZE",
]
POSTGRESQL_ATTACKS = [
    "SET TRANSACTION READ WRITE",
    "COMMIT",
    "COPY run TO '/dev/null'",
    "WITH x AS (DELETE FROM run RETURNING 1) SELECT * FROM x",
    "SELECT set_config('transaction_read_only', 'off', false)",
    "SELECT nextval('run_id_seq')",
    "VACUUM",
]


def test_nothing_can_be_written(filled: Filled, tmp_path: Path) -> None:
    database = filled.store.database
    before = sorted(path.name for path in tmp_path.iterdir())
    own = SQLITE_ATTACKS if database.is_sqlite else POSTGRESQL_ATTACKS
    for attack in [*COMMON_ATTACKS, *own]:
        with pytest.raises(BadInput):
            run_query(database, attack.format(path=tmp_path))
    assert run_query(database, "SELECT name FROM run").rows == (("main",),)
    assert sorted(path.name for path in tmp_path.iterdir()) == before
    filled.prompt("The store itself can still write.")


def test_a_query_cannot_run_forever(store: Store) -> None:
    endless = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT count(*) FROM c"
    began = time.monotonic()
    with pytest.raises(BadInput, match=r"longer than 0\.5 s"):
        run_query(store.database, endless, timeout_s=0.5)
    assert time.monotonic() - began < 10


def test_rows_are_capped_with_a_notice(store: Store) -> None:
    many = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c WHERE x < 5000000) SELECT x FROM c"
    if not store.database.is_sqlite:
        many = "SELECT x FROM generate_series(1, 5000000) AS x"
    result = run_query(store.database, many, max_rows=10)
    assert result.rows[-1] == (10,) and len(result.rows) == 10 and result.truncated


@pytest.mark.parametrize("sql", ["SELEC 1", "SELECT * FROM nope", "", "-- nothing"])
def test_a_mistake_is_a_message(store: Store, sql: str) -> None:
    with pytest.raises(BadInput) as caught:
        run_query(store.database, sql)
    assert caught.value.message


def test_it_reads_while_the_daemon_holds_the_write_lock(filled: Filled) -> None:
    with filled.store.database.write():
        assert run_query(filled.store.database, "SELECT count(*) FROM run").rows == ((1,),)


def test_backup_holds_every_row_and_old_ones_go(tmp_path: Path, sqlite_template: Path) -> None:
    store = Store(f"sqlite:///{tmp_path / 'selfreward.db'}", tmp_path)
    from selfreward.store.migrate import upgrade

    upgrade(store.database)
    filled = Filled(store)
    filled.prompt("This one must be in the copy.")
    with store.database.write():  # a backup does not wait for a writer
        backup(store.database, tmp_path / "copy.db")
    with closing(sqlite3.connect(tmp_path / "copy.db")) as copy:
        assert copy.execute("SELECT text FROM prompt").fetchall() == [("This one must be in the copy.",)]
        assert copy.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    made = [rotate(store.database, tmp_path / "backups", keep=2) for _ in range(4)]
    assert sorted((tmp_path / "backups").iterdir()) == sorted(made[-2:])
