"""The user's SQL can read everything and change nothing, on both databases."""

import re
import shutil
import sqlite3
import time
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest

from selfreward.errors import BadInput, StoreError
from selfreward.store import Store, sqlite_reader
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
    assert len(README_QUERIES) >= 2
    assert run_query(filled.store.database, sql).columns


COMMON_ATTACKS = [
    "DELETE FROM run",
    "UPDATE run SET name = 'x'",
    "UPDATE run SET name = 'x' RETURNING name",
    "INSERT INTO run (name) VALUES ('x')",
    "DROP TABLE run",
    "DROP VIEW iteration_summary",
    "ALTER TABLE run RENAME TO walk",
    "CREATE TABLE x (y INTEGER)",
    "CREATE TEMP TABLE x (y INTEGER)",
    "CREATE VIEW x AS SELECT 1",
    "SELECT 1; DELETE FROM run",
    "SELECT 1; COMMIT; DELETE FROM run",
    "SELECT 1) AS x; COMMIT; DELETE FROM run; --",
    "WITH x AS (SELECT 1) DELETE FROM run",
    "BEGIN",
    "COMMIT",
    "ROLLBACK",
    "SAVEPOINT x",
    "VACUUM",
    "ANALYZE",
    "REINDEX",
]
SQLITE_ATTACKS = [
    "ATTACH '{path}/attached.db' AS other",
    "ATTACH ':memory:' AS other",
    "DETACH main",
    "PRAGMA query_only=0",
    "PRAGMA journal_mode=DELETE",
    "PRAGMA writable_schema=1",
    "PRAGMA data_version=2",
    "PRAGMA hard_heap_limit=1",
    "PRAGMA table_info(run)",
    "SELECT * FROM pragma_table_info('run')",
    "SELECT * FROM pragma_journal_mode('delete')",
    "VACUUM INTO '{path}/vacuumed.db'",
    "BEGIN IMMEDIATE",
    "SELECT load_extension('x')",
    "SELECT writefile('{path}/written', 'x')",
    "SELECT readfile('/etc/passwd')",
    "SELECT fts3_tokenizer('simple')",
    "REPLACE INTO run (id, name) VALUES (1, 'x')",
    "UPDATE sqlite_master SET sql = ''",
    "DELETE FROM sqlite_master",
    "INSERT INTO prompt_search (prompt_search) VALUES ('rebuild')",
    "CREATE VIRTUAL TABLE x USING fts5(y)",
    "CREATE VIRTUAL TABLE temp.x USING fts5vocab(main, prompt_search, row)",
    "CREATE TRIGGER x AFTER INSERT ON run BEGIN SELECT 1; END",
    "EXPLAIN DELETE FROM run",
]
POSTGRESQL_ATTACKS = [
    "SET TRANSACTION READ WRITE",
    "SET statement_timeout = 0",
    "RESET ALL",
    "COPY run TO '{path}/copied'",
    "COPY run TO PROGRAM 'touch {path}/copied'",
    "COPY run FROM PROGRAM 'true'",
    "WITH x AS (DELETE FROM run RETURNING 1) SELECT * FROM x",
    "SELECT set_config('transaction_read_only', 'off', false)",
    "SELECT set_config('statement_timeout', '0', false)",
    "SELECT nextval('run_id_seq')",
    "SELECT setval('run_id_seq', 99)",
    "SELECT pg_read_file('/etc/passwd')",
    "SELECT pg_catalog.pg_read_file('/etc/passwd')",
    "SELECT \"pg_read_file\"('/etc/passwd')",
    "SELECT * FROM PG_LS_DIR('.')",
    "SELECT pg_stat_file('base')",
    "SELECT lo_export(1, '{path}/exported')",
    "SELECT lo_import('/etc/passwd')",
    "SELECT lo_create(0)",
    "SELECT pg_sleep(60)",
    "SELECT (60::float8).pg_sleep",
    "SELECT/**/pg_sleep(60)",
    "/* /* */ ' */ SELECT pg_sleep(60) /* ' */",
    "SELECT E'\\'', pg_sleep(60), '\\''",
    "SELECT E'' --\n'\\', pg_sleep(60), '\\'",
    "SELECT $a$ $a$, pg_sleep(60), $a$ $a$",
    'SELECT U&"pg\\005fsleep"(60)',
    "SELECT query_to_xml('SELECT pg_sleep(60)', true, true, '')",
    "SELECT * FROM ts_stat('SELECT pg_sleep(60)')",
    "SELECT pg_advisory_lock(1)",
    "SELECT pg_try_advisory_lock_shared(1)",
    "SELECT pg_terminate_backend(pg_backend_pid())",
    "SELECT pg_cancel_backend(1)",
    "SELECT pg_reload_conf()",
    "SELECT pg_switch_wal()",
    "SELECT pg_notify('x', 'y')",
    "SELECT pg_stat_reset()",
    "SELECT pg_export_snapshot()",
    "SELECT dblink('dbname=postgres', 'SELECT 1')",
    "SELECT rolpassword FROM pg_authid",
    "SELECT * FROM pg_shadow",
    "SELECT 1 AS x INTO y",
    "SELECT * FROM run FOR UPDATE",
    "TRUNCATE run CASCADE",
    "LOCK TABLE run",
    "DO $$ BEGIN DELETE FROM run; END $$",
    "PREPARE x AS DELETE FROM run",
    "LISTEN x",
    "EXPLAIN ANALYZE DELETE FROM run",
    "SELECT 1) AS x OFFSET 0) AS y",
]


def test_nothing_can_be_written(filled: Filled, tmp_path: Path) -> None:
    database = filled.store.database
    before = sorted(path.name for path in tmp_path.iterdir())
    own = SQLITE_ATTACKS if database.is_sqlite else POSTGRESQL_ATTACKS
    got_through = []
    for attack in [*COMMON_ATTACKS, *own]:
        with suppress(BadInput):
            run_query(database, attack.replace("{path}", str(tmp_path)), timeout_s=5)
            got_through.append(attack)
    assert not got_through
    assert run_query(database, "SELECT name FROM run").rows == (("main",),)
    assert sorted(path.name for path in tmp_path.iterdir()) == before
    filled.prompt("The store itself can still write.")


ENDLESS = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT count(*) FROM c"
TWENTY = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c WHERE x < 20)"
CARTESIAN = f"{TWENTY} SELECT count(*) FROM {', '.join(f'c AS c{n}' for n in range(12))}"
# One call of a function, which SQLite cannot interrupt: 16 million times 16 million comparisons.
LONG = "replace(hex(zeroblob({bytes})), '0', 'a')"
A_LONG_CALL = f"SELECT instr({LONG.format(bytes=16_000_000)}, {LONG.format(bytes=8_000_000)} || 'b')"


@pytest.mark.parametrize("sql", [ENDLESS, CARTESIAN, A_LONG_CALL], ids=["recursion", "join", "call"])
def test_a_query_cannot_run_forever(store: Store, sql: str) -> None:
    if sql == A_LONG_CALL and not store.database.is_sqlite:
        pytest.skip("PostgreSQL has no such function")
    began = time.monotonic()
    with pytest.raises(BadInput, match=r"longer than 0\.5 s"):
        run_query(store.database, sql, timeout_s=0.5)
    assert time.monotonic() - began < 5


def test_rows_are_capped_with_a_notice(store: Store) -> None:
    many = (
        "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c WHERE x < 10000000) SELECT x FROM c"
    )
    if not store.database.is_sqlite:
        many = "SELECT x FROM generate_series(1, 10000000) AS x"
    result = run_query(store.database, many, max_rows=10)
    assert result.rows[-1] == (10,) and len(result.rows) == 10 and result.truncated


def test_a_value_has_a_largest_size(store: Store) -> None:
    large = "zeroblob(1000000000)" if store.database.is_sqlite else "repeat('x', 70000000)"
    with pytest.raises(BadInput, match="too large"):
        run_query(store.database, f"SELECT {large}")
    small = "zeroblob(2000)" if store.database.is_sqlite else "repeat('x', 2000)"
    with pytest.raises(BadInput, match="too large"):
        run_query(store.database, f"SELECT 1 AS a, {small} AS a", max_bytes=1000)


def test_what_comes_back_has_a_largest_size(store: Store) -> None:
    rows = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c WHERE x < 10000)"
    value = "hex(zeroblob(5000))" if store.database.is_sqlite else "repeat('x', 10000)"
    result = run_query(store.database, f"{rows} SELECT x, {value} FROM c", max_rows=10_000, max_bytes=100_000)
    assert result.truncated and 5 <= len(result.rows) <= 10
    assert [row[0] for row in result.rows] == list(range(1, len(result.rows) + 1))


def test_a_hog_of_memory_is_stopped(tmp_path: Path, sqlite_template: Path) -> None:
    shutil.copy(sqlite_template, tmp_path / "selfreward.db")
    store = Store("sqlite:///selfreward.db", tmp_path)
    values = ", ".join(f"hex(zeroblob({30_000_000 + n})) AS v{n}" for n in range(20))
    names = " || ".join(f"length(v{n})" for n in range(20))
    with pytest.raises(BadInput, match="memory"):
        run_query(store.database, f"SELECT {names} FROM (SELECT {values} LIMIT 1 OFFSET 0)")


def test_a_hog_of_disk_is_stopped(
    tmp_path: Path, sqlite_template: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(sqlite_template, tmp_path / "selfreward.db")
    strict = tmp_path / "reader.py"
    strict.write_text(Path(sqlite_reader.__file__).read_text().replace("= 2**30", "= 2**22"))
    monkeypatch.setattr(sqlite_reader, "__file__", str(strict))
    store = Store("sqlite:///selfreward.db", tmp_path)
    with pytest.raises(BadInput, match="disk"):
        run_query(store.database, f"{TWENTY} SELECT zeroblob(1000000) FROM c ORDER BY -x")


@pytest.mark.parametrize("value", [3, -1.5, "it's; DROP TABLE run --", "%s %(x)s", None])
def test_parameters_are_bound_and_never_part_of_the_sql(filled: Filled, value: object) -> None:
    sql = "SELECT ':x' AS text, '%' AS percent, :x AS x, name FROM run -- :nothing"
    parameters: dict[str, Any] = {"x": value, "unused": 1}
    result = run_query(filled.store.database, sql, parameters=parameters)
    assert result.rows == ((":x", "%", value, "main"),)


def test_a_parameter_without_a_value_is_named(store: Store) -> None:
    with pytest.raises(BadInput) as caught:
        run_query(store.database, "SELECT * FROM run WHERE id = :id")
    assert caught.value.message == "the query needs a value for :id" and "--param id=" in caught.value.hint


def test_prompts_can_be_searched_for_their_words(filled: Filled) -> None:
    filled.prompt("Which planet is the largest?")
    sql = "SELECT rowid FROM prompt_search WHERE prompt_search MATCH 'planet' ORDER BY rank"
    if not filled.store.database.is_sqlite:
        sql = "SELECT id FROM prompt WHERE to_tsvector('simple', text) @@ plainto_tsquery('simple', 'planet')"
    assert len(run_query(filled.store.database, sql).rows) == 1


USUAL = [
    "SELECT count(*) FILTER (WHERE status = 'ok'), max(text) FROM candidate",
    "SELECT row_number() OVER (ORDER BY id), coalesce(name, '') FROM run -- newest first",
    "(SELECT 1 AS a UNION SELECT 2) ORDER BY a DESC LIMIT 1",
    "VALUES (1), (2)",
    "SELECT 'pg_sleep(1)' AS system, random() AS random, '/* '",
]


@pytest.mark.parametrize("sql", USUAL)
def test_what_only_reads_is_let_through(filled: Filled, sql: str) -> None:
    if sql.startswith("(") and filled.store.database.is_sqlite:
        sql = "SELECT 1 AS a UNION SELECT 2 ORDER BY a DESC LIMIT 1"
    assert run_query(filled.store.database, sql).columns


def test_no_column_of_ours_is_taken_for_a_function(filled: Filled) -> None:
    database = filled.store.database
    if database.is_sqlite:
        pytest.skip("SQLite is asked by a function's name")
    for name, _ in relations(database):
        columns = run_query(database, f'SELECT * FROM "{name}"', max_rows=1).columns
        run_query(database, f'SELECT {", ".join(columns)} FROM "{name}"', max_rows=1)


def test_the_order_of_a_query_is_kept(store: Store) -> None:
    rows = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c WHERE x < 2000)"
    result = run_query(store.database, f"{rows} SELECT x, x AS x FROM c ORDER BY -x", max_rows=2000)
    assert result.columns == ("x", "x") and [row[0] for row in result.rows] == list(range(2000, 0, -1))


def test_a_connection_is_as_good_as_before(store: Store) -> None:
    for sql in ("SELECT pg_sleep(1)", "SELECT 1/0 FROM run WHERE false", "SELECT nope"):
        with suppress(BadInput):
            run_query(store.database, sql)
    with store.database.write() as connection:
        connection.exec_driver_sql("SELECT 1")
    assert run_query(store.database, "SELECT 1 AS one").rows == ((1,),)


@pytest.mark.parametrize("sql", ["SELECT '\x00'", "SELECT '\ud800'", "SELECT ?"])
def test_text_that_no_database_takes_is_a_message(store: Store, sql: str) -> None:
    with pytest.raises(BadInput):
        run_query(store.database, sql)


def test_a_database_that_is_not_there_is_told(tmp_path: Path) -> None:
    store = Store("sqlite:///nothing.db", tmp_path)
    with pytest.raises(StoreError, match="unable to open"):
        run_query(store.database, "SELECT 1 FROM run")
    assert not list(tmp_path.iterdir())


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
