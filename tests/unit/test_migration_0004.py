"""What was stored before tallies, best and worst scores and the search has them after the upgrade."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from alembic import command
from sqlalchemy import inspect, text

from selfreward.store import Store
from selfreward.store import migrate as migration
from selfreward.store.migrate import current_revision, upgrade
from selfreward.store.recount import wrong_tallies
from tests.unit.test_migrations import AT, ROWS_AT_0001, _count_on, rows_of
from tests.unit.test_views import Rows, found_by, rows

# Iteration 2 takes no truncated candidates, and none with fewer than two scores. One of its candidates was
# judged by the judge of iteration 1 too.
ROWS_AT_0003 = (
    "UPDATE iteration SET judge_id = 1",
    f"""INSERT INTO setting (hash, body, created_at) VALUES
        ('bb', '{{"pair": {{"use_truncated": false, "min_scores": 2}}}}', {AT})""",
    f"""INSERT INTO iteration (id, run_id, t, checkpoint_id, setting_hash, data_iteration_id, status,
        started_at)
        VALUES (2, 1, 2, 2, 'bb', 2, 'running', {AT})""",
    f"""INSERT INTO judge (id, type, checkpoint_id, template, template_digest, parameters, digest, created_at)
        VALUES (2, 'rubric', 2, 'judge.jinja', 'td', '{{}}', 'jd', {AT})""",
    "UPDATE iteration SET judge_id = 2 WHERE id = 2",
    f"""INSERT INTO prompt (id, run_id, iteration_id, source, draw, draw_index, text, text_hash, status,
        created_at) VALUES
        (5, 1, 2, 'self_instruct', 1, 0, 'Name a bird of prey.', 'h5', 'accepted', {AT}),
        (6, 1, 2, 'self_instruct', 2, 0, 'Name a prime.', 'h6', 'accepted', {AT}),
        (7, 1, 2, 'self_instruct', 3, 0, 'Name a river.', 'h7', 'accepted', {AT})""",
    f"""INSERT INTO candidate (id, iteration_id, prompt_id, candidate_index, text, status, finish_reason,
        token_count, created_at) VALUES
        (3, 2, 5, 0, 'Owl.', 'ok', 'stop', 2, {AT}), (4, 2, 5, 1, 'Hawk.', 'ok', 'stop', 2, {AT}),
        (5, 2, 5, 2, 'A very', 'truncated', 'length', 9, {AT}), (6, 2, 5, 3, 'Eagle.', 'ok', 'stop', 2, {AT}),
        (7, 2, 6, 0, 'Two.', 'ok', 'stop', 2, {AT}), (8, 2, 6, 1, '', 'empty', 'stop', 0, {AT}),
        (9, 2, 7, 0, 'Nile.', 'ok', 'stop', 2, {AT}), (10, 2, 7, 1, 'Nile', 'ok', 'stop', 2, {AT})""",
    f"""INSERT INTO judgement (candidate_id, judge_id, sample, raw_text, status, score, token_count,
        finish_reason, created_at) VALUES
        (3, 2, 0, '', 'read', 2.55, 1, 'stop', {AT}), (3, 2, 1, '', 'read', 2.45, 1, 'stop', {AT}),
        (4, 2, 0, '', 'read', 2.25, 1, 'stop', {AT}), (4, 2, 1, '', 'read', 2.5, 1, 'stop', {AT}),
        (5, 2, 0, '', 'read', 5, 1, 'stop', {AT}), (5, 2, 1, '', 'read', 5, 1, 'stop', {AT}),
        (6, 2, 0, '', 'read', 0, 1, 'stop', {AT}), (6, 2, 1, '', 'unreadable', NULL, 1, 'stop', {AT}),
        (7, 2, 0, '', 'read', 4, 1, 'stop', {AT}), (7, 2, 1, '', 'read', 4, 1, 'stop', {AT}),
        (9, 2, 0, '', 'read', 3, 1, 'stop', {AT}), (9, 2, 1, '', 'read', 3, 1, 'stop', {AT}),
        (10, 2, 0, '', 'read', 3, 1, 'stop', {AT}), (10, 2, 1, '', 'read', 3, 1, 'stop', {AT}),
        (3, 1, 0, '', 'read', 5, 1, 'stop', {AT})""",
    """INSERT INTO pair_decision (iteration_id, prompt_id, outcome) VALUES
        (2, 5, 'below_margin'), (2, 6, 'unscored'), (2, 7, 'tie')""",
)


@pytest.fixture
def at_0003(empty_url: str, tmp_path: Path) -> Iterator[Store]:
    """A store at revision 0003 with two iterations in it."""
    store = Store(empty_url, tmp_path)
    to_revision(store, "0003")
    for statements in (ROWS_AT_0001, ROWS_AT_0003):
        with store.database.write() as connection:
            for statement in statements:
                connection.exec_driver_sql(statement)
            if not store.database.is_sqlite:
                for table in inspect(connection).get_table_names():
                    _count_on(connection, table)
    yield store
    store.close()


def to_revision(store: Store, revision: str) -> None:
    with store.database.migrate() as connection:
        go = command.downgrade if revision < (current(store) or "") else command.upgrade
        go(migration._config(connection), revision)


def current(store: Store) -> str | None:
    return current_revision(store.database)


def test_tallies_are_counted_from_the_rows(at_0003: Store) -> None:
    upgrade(at_0003.database)
    with at_0003.database.read() as connection:
        total, problems = wrong_tallies(connection)
    assert problems == [] and total == 17
    found = rows(at_0003, "SELECT * FROM candidate_tally ORDER BY iteration_id, status")
    assert [tuple(row.values()) for row in found] == [
        (1, "ok", 1, 2), (1, "truncated", 1, 2), (2, "empty", 1, 0), (2, "ok", 6, 12), (2, "truncated", 1, 9),
    ]  # fmt: skip
    tenths = "SELECT tenth, judgements, score_sum FROM judgement_tally WHERE judge_id = 2 AND status = 'read'"
    assert [tuple(row.values()) for row in rows(at_0003, f"{tenths} ORDER BY tenth")] == [
        (0, 1, 0.0), (23, 1, 2.25), (25, 2, 4.95), (26, 1, 2.55), (30, 4, 12.0), (40, 2, 8.0), (50, 2, 10.0),
    ]  # fmt: skip


def test_scores_of_decisions_are_those_of_the_candidates_that_took_part(at_0003: Store) -> None:
    upgrade(at_0003.database)
    query = "SELECT prompt_id, best_score, worst_score FROM pair_decision ORDER BY prompt_id"
    assert [tuple(row.values()) for row in rows(at_0003, query)] == [
        (3, 5.0, 1.0), (5, 2.5, 2.375), (6, None, None), (7, 3.0, 3.0),
    ]  # fmt: skip


def test_prompts_of_before_are_found(at_0003: Store) -> None:
    upgrade(at_0003.database)
    assert found_by(at_0003, "bird") == [5]
    assert found_by(at_0003, "fish") == [2, 4]


def test_what_is_stored_afterwards_is_added(at_0003: Store) -> None:
    upgrade(at_0003.database)
    assert at_0003.candidates.judged(2, 2) == (14, 13, pytest.approx(39.75 / 13))
    assert at_0003.candidates.statuses(2) == {"ok": 6, "empty": 1, "truncated": 1}


def test_a_downgrade_leaves_what_there_was(at_0003: Store) -> None:
    def state() -> tuple[object, list[str], Rows]:
        with at_0003.database.read() as connection:
            views = sorted(inspect(connection).get_view_names())
        return rows_of(at_0003), views, rows(at_0003, "SELECT * FROM iteration_summary ORDER BY t")

    before = state()
    to_revision(at_0003, "0004")
    assert state()[2] == before[2], "the summary is the same from the tallies"
    to_revision(at_0003, "0003")
    assert state() == before
    assert current(at_0003) == "0003"
    with at_0003.database.write() as connection:
        connection.execute(text("UPDATE prompt SET text = 'No trigger is left.' WHERE id = 5"))
    upgrade(at_0003.database)
    assert found_by(at_0003, "trigger") == [5]
