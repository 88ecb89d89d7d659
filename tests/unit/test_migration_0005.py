"""A database of before keeps its rows, views and search, and takes what the neighbouring methods store."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import inspect, text
from sqlalchemy.exc import IntegrityError

from selfreward.store import Store
from selfreward.store.migrate import upgrade
from tests.unit.test_migration_0004 import at_0003, to_revision
from tests.unit.test_migrations import AT, rows_of
from tests.unit.test_views import execute, found_by, rows

__all__ = ["at_0003"]
VIEWS = ("iteration_summary", "length_by_iteration", "lineage", "throughput", "judge_health")
SECOND_PAIR = f"""INSERT INTO preference_pair (iteration_id, prompt_id, judge_id, chosen_id, rejected_id,
    chosen_score, rejected_score, margin, created_at) VALUES (2, 5, 2, 3, %s, 2.5, 0.0, 2.5, {AT})"""
COMPARED = f"""INSERT INTO candidate_comparison (iteration_id, judge_id, first_id, second_id, status,
    probability_first, lost_mass, raw_text, token_count, created_at)
    VALUES (2, 2, %s, %s, '%s', %s, 0.01, '', 1, {AT})"""


@pytest.fixture
def at_0004(at_0003: Store, tmp_path: Path) -> Iterator[Store]:
    """A store at revision 0004 with two iterations in it."""
    to_revision(at_0003, "0004")
    yield at_0003


@pytest.fixture
def upgraded(at_0004: Store) -> Store:
    upgrade(at_0004.database)
    return at_0004


def test_every_row_and_every_view_stays_as_it_was(at_0004: Store) -> None:
    def seen() -> list[list[dict[str, object]]]:
        return [rows(at_0004, f"SELECT * FROM {view} ORDER BY 1, 2, 3, 4") for view in VIEWS]

    before, views = rows_of(at_0004), seen()
    upgrade(at_0004.database)
    assert rows_of(at_0004, before) == before
    assert seen() == views
    assert rows(at_0004, "SELECT DISTINCT origin FROM preference_pair") == [{"origin": "ai"}]
    assert rows(at_0004, "SELECT * FROM position_bias") == []


def test_copied_tables_keep_their_indexes_and_the_search_its_triggers(at_0004: Store) -> None:
    def indexes(table: str) -> set[str | None]:
        with at_0004.database.read() as connection:
            return {index["name"] for index in inspect(connection).get_indexes(table)}

    of_pairs, of_candidates = indexes("preference_pair"), indexes("candidate")
    upgrade(at_0004.database)
    one, several = (
        f"uq_preference_pair_iteration_id_prompt_id{rest}" for rest in ("", "_chosen_id_rejected_id")
    )
    assert indexes("preference_pair") - {several} == of_pairs - {one}
    assert indexes("candidate") == of_candidates | {"ix_candidate_anchor"}
    execute(at_0004, "UPDATE prompt SET text = 'Name a bird of passage.' WHERE id = 5")
    assert found_by(at_0004, "passage") == [5] and found_by(at_0004, "prey") == []


def test_a_prompt_takes_several_pairs_but_none_twice(upgraded: Store) -> None:
    execute(upgraded, SECOND_PAIR % 6, SECOND_PAIR % 4)
    with pytest.raises(IntegrityError):
        execute(upgraded, SECOND_PAIR % 6)


@pytest.mark.parametrize(
    "change",
    [
        "chosen_id = rejected_id",
        "chosen_score = rejected_score",
        "chosen_id = 99",
        "judge_id = 99",
        "origin = NULL",
    ],
)
def test_pairs_are_held_to_what_they_were_before(upgraded: Store, change: str) -> None:
    with pytest.raises(IntegrityError):
        execute(upgraded, f"UPDATE preference_pair SET {change}")


def test_an_imported_pair_has_no_judge_no_scores_and_no_iteration_that_wrote_it(upgraded: Store) -> None:
    execute(
        upgraded,
        f"""INSERT INTO prompt (id, run_id, source, origin, text, text_hash, status, created_at)
            VALUES (90, 1, 'imported', 'people.jsonl', 'Name a star.', 'h90', 'accepted', {AT})""",
        f"""INSERT INTO candidate (id, prompt_id, candidate_index, text, status, finish_reason, token_count,
            created_at) VALUES (90, 90, 0, 'Vega.', 'ok', 'imported', 0, {AT}),
                               (91, 90, 1, 'Mars.', 'ok', 'imported', 0, {AT})""",
        f"""INSERT INTO imported_preference (run_id, prompt_id, chosen_id, rejected_id, origin, created_at)
            VALUES (1, 90, 90, 91, 'people.jsonl', {AT})""",
        f"""INSERT INTO preference_pair (iteration_id, prompt_id, chosen_id, rejected_id, origin, created_at)
            VALUES (2, 90, 90, 91, 'people.jsonl', {AT})""",
    )
    query = (
        "SELECT role, judge_id, score, written_by, judged_by FROM lineage WHERE prompt_id = 90 ORDER BY role"
    )
    found = rows(upgraded, query)
    assert [tuple(row.values()) for row in found] == [
        ("chosen", None, None, None, None), ("rejected", None, None, None, None),
    ]  # fmt: skip
    with pytest.raises(IntegrityError):
        execute(
            upgraded,
            f"""INSERT INTO prompt (run_id, source, origin, text, text_hash, status, created_at)
                VALUES (1, 'imported', 'others.jsonl', 'Name a star.', 'h90', 'accepted', {AT})""",
        )


def test_an_anchor_is_known_by_the_model_that_wrote_it(upgraded: Store) -> None:
    execute(
        upgraded,
        f"""INSERT INTO candidate (id, iteration_id, checkpoint_id, prompt_id, candidate_index, text, status,
            finish_reason, token_count, created_at)
            VALUES (90, 2, 1, 5, 4, 'A bird.', 'ok', 'stop', 3, {AT})""",
        SECOND_PAIR % 90,
    )
    query = "SELECT written_by FROM lineage WHERE candidate_id = 90"
    assert rows(upgraded, query) == [{"written_by": "M_1"}]
    anchors = "SELECT items, tokens FROM throughput WHERE stage = 'anchor'"
    execute(
        upgraded,
        """INSERT INTO stage (iteration_id, name, status, attempts, cursor, detail)
           VALUES (2, 'anchor', 'done', 1, 0, '')""",
    )
    assert rows(upgraded, anchors) == [{"items": 1, "tokens": 3}]


def test_position_bias_is_the_mean_and_the_share_of_turned_verdicts(upgraded: Store) -> None:
    """Two couples in both orders, one of them turned; a third in one order; one that was not read."""
    execute(
        upgraded,
        *(
            COMPARED % shown
            for shown in (
                (3, 4, "read", 0.9), (4, 3, "read", 0.6), (3, 6, "read", 0.8), (6, 3, "read", 0.2),
                (4, 6, "read", 1.0), (6, 4, "unreadable", "NULL"),
            )
        ),
    )  # fmt: skip
    (found,) = rows(upgraded, "SELECT * FROM position_bias")
    assert found == {
        "run": "main", "t": 2, "judge_id": 2, "comparisons": 5, "first_share": pytest.approx(0.7),
        "flipped_share": 0.5,
    }  # fmt: skip


@pytest.mark.parametrize(
    "shown", [(3, 3, "read", 0.5), (3, 4, "read", "NULL"), (3, 4, "failed", 0.5), (3, 4, "read", 1.5)]
)
def test_a_comparison_that_says_nothing_sound_is_refused(upgraded: Store, shown: tuple[object, ...]) -> None:
    with pytest.raises(IntegrityError):
        execute(upgraded, COMPARED % shown)


def test_sums_and_references_are_whole_after_the_copying(upgraded: Store) -> None:
    if not upgraded.database.is_sqlite:
        pytest.skip("PostgreSQL copies nothing")
    with upgraded.database.read() as connection:
        assert connection.execute(text("PRAGMA foreign_key_check")).all() == []
        assert connection.execute(text("PRAGMA integrity_check")).scalars().all() == ["ok"]
