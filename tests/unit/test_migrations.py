"""The migrated schema is the defined one, a wrong revision is refused, half a migration is none.

And what a run of an earlier version has stored is still there afterwards, every row of it.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, TextClause, inspect, text
from sqlalchemy.exc import IntegrityError

from selfreward.errors import StoreError
from selfreward.store import Store
from selfreward.store import migrate as migration
from selfreward.store.migrate import current_revision, head_revision, upgrade
from selfreward.store.schema import Table, is_compared
from selfreward.types import MetricPoint, RankedReply, Seed, Split, StageName

COMPARED = {"compare_type": True, "include_object": is_compared}
AT = "'2025-03-04 05:06:07'"
# What one finished iteration leaves at revision 0001: at least a row in every table there was.
ROWS_AT_0001 = (
    f"INSERT INTO run (id, name, created_at) VALUES (1, 'main', {AT})",
    f"INSERT INTO run (id, name, parent_run_id, parent_iteration, created_at) VALUES (2, 'fork', 1, 1, {AT})",
    f"""INSERT INTO setting (hash, body, created_at) VALUES ('aa', '{{"seed": 7}}', {AT})""",
    f"""INSERT INTO checkpoint (id, run_id, version, name, kind, path, digest, parent_id, created_at) VALUES
        (1, 1, 1, 'M_1', 'base', 'models/M_1', 'd1', NULL, {AT}),
        (2, 1, 2, 'M_2', 'dpo', 'models/M_2', 'd2', 1, {AT})""",
    f"""INSERT INTO control_request (id, run_id, action, requested_at, handled_at) VALUES
        (1, 1, 'pause', {AT}, {AT}), (2, 1, 'stop', {AT}, NULL)""",
    f"""INSERT INTO lease (run_id, owner, boot_id, pid, pid_started, fence, heartbeat_at, heartbeat_monotonic,
        released_at) VALUES (1, 'host:42', 'boot', 42, 9000000000, 3, {AT}, 12.5, NULL)""",
    f"""INSERT INTO iteration (id, run_id, t, checkpoint_id, setting_hash, data_iteration_id, status,
        started_at, finished_at) VALUES (1, 1, 1, 1, 'aa', 1, 'done', {AT}, {AT})""",
    f"""INSERT INTO judge (id, type, checkpoint_id, template, template_digest, parameters, digest, created_at)
        VALUES (1, 'rubric', 1, 'judge.jinja', 'td', '{{"guided": false}}', 'jd', {AT})""",
    f"""INSERT INTO engine_session (id, iteration_id, checkpoint_id, engine, seed, started_at, ready_at,
        finished_at, prompt_tokens, generated_tokens)
        VALUES (1, 1, 1, 'fake', 9, {AT}, {AT}, {AT}, 10, 20)""",
    f"""INSERT INTO event (id, run_id, iteration_id, at, kind, message, data) VALUES
        (1, 1, NULL, {AT}, 'started', 'Started.', '{{}}'),
        (2, 1, 1, {AT}, 'stage_done', 'Done.', '{{"n": 2}}')""",
    f"""INSERT INTO prompt (id, run_id, source, origin, text, text_hash, reference, status, created_at) VALUES
        (1, 1, 'seed', 'ours.jsonl', 'Name a colour.', 'h1', 'Blue.', 'accepted', {AT}),
        (2, 1, 'seed', NULL, 'Name a fish.', 'h2', NULL, 'accepted', {AT})""",
    f"""INSERT INTO prompt (id, run_id, iteration_id, source, draw, draw_index, text, text_hash, status,
        reject_reason, nearest_prompt_id, nearest_rouge_l, created_at) VALUES
        (3, 1, 1, 'self_instruct', 1, 0, 'Name a tree.', 'h3', 'accepted', NULL, 2, 0.5, {AT}),
        (4, 1, 1, 'self_instruct', 2, 0, 'Name a fish!', 'h4', 'rejected', 'similar', 2, 0.9, {AT})""",
    f"""INSERT INTO stage (id, iteration_id, name, status, attempts, cursor, detail, error, started_at,
        finished_at) VALUES (1, 1, 'sample', 'done', 2, 3, '2 answers', NULL, {AT}, {AT})""",
    """INSERT INTO training_metric (iteration_id, attempt, step, name, value) VALUES
        (1, 1, 1, 'loss', 0.7), (1, 2, 1, 'loss', 0.6), (1, 2, 2, 'loss', 0.5)""",
    f"""INSERT INTO candidate (id, iteration_id, prompt_id, candidate_index, session_id, text, status,
        finish_reason, token_count, mean_logprob, created_at) VALUES
        (1, 1, 3, 0, 1, 'Oak.', 'ok', 'stop', 2, -0.5, {AT}),
        (2, 1, 3, 1, NULL, 'A stone', 'truncated', 'length', 2, NULL, {AT})""",
    "INSERT INTO item_failure (stage_id, item_id, attempts, last_error) VALUES (1, 3, 1, 'timeout')",
    "INSERT INTO pair_decision (iteration_id, prompt_id, outcome) VALUES (1, 3, 'paired')",
    "INSERT INTO prompt_demonstration (prompt_id, position, demonstration_id) VALUES (3, 0, 1), (3, 1, 2)",
    f"""INSERT INTO judgement (id, candidate_id, judge_id, sample, session_id, raw_text, status, score,
        token_count, finish_reason, created_at) VALUES
        (1, 1, 1, 0, 1, 'Score: 5', 'read', 5, 3, 'stop', {AT}),
        (2, 2, 1, 0, 1, 'Score: 1', 'read', 1, 3, 'stop', {AT}),
        (3, 2, 1, 1, 1, 'No idea', 'unreadable', NULL, 3, 'stop', {AT})""",
    f"""INSERT INTO preference_pair (id, iteration_id, prompt_id, judge_id, chosen_id, rejected_id,
        chosen_score, rejected_score, margin, created_at) VALUES (1, 1, 3, 1, 1, 2, 5, 1, 4, {AT})""",
)

Rows = dict[str, tuple[list[str], list[tuple[object, ...]]]]


@pytest.fixture
def at_0001(empty_url: str, tmp_path: Path) -> Iterator[Store]:
    """A store at the first revision, with the rows of one iteration in it."""
    store = Store(empty_url, tmp_path)
    with store.database.migrate() as connection:
        command.upgrade(migration._config(connection), "0001")
    with store.database.write() as connection:
        for statement in ROWS_AT_0001:
            connection.exec_driver_sql(statement)
        if not store.database.is_sqlite:
            for table in inspect(connection).get_table_names():
                _count_on(connection, table)
    yield store
    store.close()


def rows_of(store: Store, columns_of: Rows | None = None) -> Rows:
    """Table → (its columns, its rows); with `columns_of`, only the tables and columns named there."""
    with store.database.read() as connection:
        looked_at = inspect(connection)
        wanted = columns_of or {
            table: ([column["name"] for column in looked_at.get_columns(table)], [])
            for table in looked_at.get_table_names()
            if table != "alembic_version"
        }
        return {
            table: (columns, sorted(map(tuple, connection.execute(_select(table, columns))), key=repr))
            for table, (columns, _) in wanted.items()
        }


def _count_on(connection: Connection, table: str) -> None:
    """Ids written by hand do not move PostgreSQL's sequences."""
    columns = {column["name"] for column in inspect(connection).get_columns(table)}
    if "id" in columns:
        last = f"(SELECT max(id) FROM {table})"
        connection.execute(text(f"SELECT setval(pg_get_serial_sequence('{table}', 'id'), {last})"))


def _select(table: str, columns: list[str]) -> TextClause:
    return text(f"SELECT {', '.join(columns)} FROM {table}")


def test_models_and_migrations_agree(store: Store) -> None:
    with store.database.read() as connection:
        context = MigrationContext.configure(connection, opts=COMPARED)
        assert compare_metadata(context, Table.metadata) == []


def test_every_table_and_column_is_explained() -> None:
    for table in Table.metadata.sorted_tables:
        assert table.comment, table.name
        missing = [column.name for column in table.columns if not column.comment and column.name != "id"]
        assert not missing, (table.name, missing)


def test_upgrade_is_idempotent(empty_url: str, tmp_path: Path) -> None:
    store = Store(empty_url, tmp_path)
    assert current_revision(store.database) is None
    for _ in range(2):
        upgrade(store.database)
        assert current_revision(store.database) == head_revision()


def test_an_empty_database_is_refused_with_the_command(empty_url: str, tmp_path: Path) -> None:
    with pytest.raises(StoreError) as caught:
        Store.open(empty_url, tmp_path)
    assert "selfreward db upgrade" in caught.value.hint


def test_a_database_of_a_newer_version_is_refused(database_url: str, tmp_path: Path) -> None:
    store = Store(database_url, tmp_path)
    with store.database.write() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(StoreError, match="does not know"):
        Store.open(database_url, tmp_path)


def test_a_migration_that_fails_midway_leaves_nothing(
    empty_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(empty_url, tmp_path)
    real = migration._config

    def failing(connection: object = None) -> object:
        """Stands in the way of the last statements: a table of the same name as a view is there."""
        if connection is not None:
            connection.execute(text("CREATE TABLE training_curve (x INTEGER)"))  # type: ignore[attr-defined]
        return real(connection)  # type: ignore[arg-type]

    monkeypatch.setattr(migration, "_config", failing)
    with pytest.raises(Exception, match="training_curve"):
        upgrade(store.database)
    with store.database.read() as connection:
        assert inspect(connection).get_table_names() == []
    monkeypatch.undo()
    upgrade(store.database)
    assert current_revision(store.database) == head_revision()


def test_an_upgrade_keeps_every_row(at_0001: Store) -> None:
    before = rows_of(at_0001)
    assert all(rows for _, rows in before.values()), "a table of revision 0001 without a row proves nothing"
    upgrade(at_0001.database)
    assert rows_of(at_0001, before) == before


def test_an_upgraded_database_has_the_schema_of_a_fresh_one(at_0001: Store) -> None:
    upgrade(at_0001.database)
    with at_0001.database.read() as connection:
        context = MigrationContext.configure(connection, opts=COMPARED)
        assert compare_metadata(context, Table.metadata) == []
        for view in inspect(connection).get_view_names():
            connection.execute(text(f"SELECT * FROM {view}")).all()


def test_seeds_of_before_may_be_trained_on(at_0001: Store) -> None:
    upgrade(at_0001.database)
    assert [row.id for row in at_0001.prompts.seeds(1)] == [1, 2]
    assert at_0001.prompts.seeds(1, Split.HELD_OUT) == []
    with at_0001.database.read() as connection:
        written = connection.execute(text("SELECT split FROM prompt WHERE source = 'self_instruct'"))
        assert set(written.scalars()) == {None}


def test_training_metrics_of_before_are_the_train_stages(at_0001: Store) -> None:
    upgrade(at_0001.database)
    at_0001.journal.add_metrics(1, StageName.BASELINE, 2, [MetricPoint(step=1, name="loss", value=9.0)])
    with at_0001.database.read() as connection:
        query = "SELECT stage, attempt, step, value FROM training_metric ORDER BY stage, attempt, step"
        assert connection.execute(text(query)).all() == [
            ("baseline", 2, 1, 9.0), ("train", 1, 1, 0.7), ("train", 2, 1, 0.6), ("train", 2, 2, 0.5),
        ]  # fmt: skip


def test_judgements_of_before_were_sampled(at_0001: Store) -> None:
    upgrade(at_0001.database)
    with at_0001.database.read() as connection:
        query = "SELECT count(*) FROM judgement WHERE probabilities IS NULL AND lost_mass IS NULL"
        assert connection.execute(text(query)).scalar_one() == 3


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE judgement SET judge_id = 99",
        "DELETE FROM judge",
        "UPDATE training_metric SET iteration_id = 99",
        "UPDATE judge SET checkpoint_id = 99",
        "UPDATE judgement SET score = 7 WHERE id = 1",
        "INSERT INTO judge SELECT 2, type, checkpoint_id, template, template_digest, parameters, digest,"
        " created_at FROM judge",
    ],
)
def test_constraints_hold_after_the_upgrade(at_0001: Store, statement: str) -> None:
    upgrade(at_0001.database)
    with pytest.raises(IntegrityError), at_0001.database.write() as connection:
        connection.execute(text(statement))


def test_sqlite_enforces_references_again_after_the_upgrade(at_0001: Store) -> None:
    if not at_0001.database.is_sqlite:
        pytest.skip("PostgreSQL never stops to enforce them")
    upgrade(at_0001.database)
    with at_0001.database.read() as first, at_0001.database.read() as second:
        for connection in (first, second):
            assert connection.exec_driver_sql("PRAGMA foreign_keys").scalar_one() == 1
        assert first.exec_driver_sql("PRAGMA foreign_key_check").all() == []


def test_an_upgrade_that_leaves_a_broken_reference_is_refused(at_0001: Store) -> None:
    """Here that of a judgement, and with it that of its tally."""
    if not at_0001.database.is_sqlite:
        pytest.skip("PostgreSQL holds no broken reference")
    with closing(sqlite3.connect(str(at_0001.database.url.database))) as careless, careless:
        careless.execute("UPDATE judgement SET judge_id = 99 WHERE id = 1")
    with pytest.raises(StoreError, match="break 2 references"):
        upgrade(at_0001.database)
    assert current_revision(at_0001.database) == "0001"


def test_what_is_new_can_be_stored_after_the_upgrade(at_0001: Store) -> None:
    upgrade(at_0001.database)
    independent = at_0001.candidates.judge(None, "pairwise", "compare.jinja", "td", {"model": "other"})
    assert independent not in (1, at_0001.candidates.judge(1, "rubric", "judge.jinja", "td", {}))
    replies = (RankedReply(text="Trout.", rank=0), RankedReply(text="A chair.", rank=1))
    at_0001.prompts.add_seeds(1, [Seed(instruction="Name a river fish.", replies=replies)])
    assert len(at_0001.replies.prompts(1, Split.TRAIN)) == 1
