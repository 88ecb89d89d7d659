"""Saved queries: each answers on both databases, and the page that explains them is made from them."""

import re
import shutil
from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from selfreward.cookbook import SavedQuery, as_markdown, guessed, saved_queries, saved_query
from selfreward.errors import BadInput
from selfreward.store import Store
from selfreward.store.readonly import QueryResult, run_query
from tests.conftest import new_database
from tests.copied import copy_rows

PAGE = Path(__file__).parents[2] / "docs" / "queries.md"
QUERIES = saved_queries()
NAMES = [query.name for query in QUERIES]
# What a run without troubles has none of.
TROUBLES = (
    "UPDATE gate_check SET state = 'warn', message = 'Many ties.' WHERE gate = 'tie_share'",
    "UPDATE stage SET attempts = 2, error = 'the server died' WHERE name = 'sample'",
    "INSERT INTO item_failure (stage_id, item_id, attempts, last_error) SELECT id, 93, 3, 'no answer'"
    " FROM stage WHERE name = 'judge'",
    "INSERT INTO sft_example (iteration_id, kind, prompt_id, position, input, completion, kept, created_at)"
    " SELECT iteration.id, 'ift', prompt.id, 0, 'in', 'out', true, prompt.created_at FROM prompt, iteration"
    " WHERE prompt.source = 'seed' AND iteration.t = 1",
    *(
        "INSERT INTO candidate_comparison (iteration_id, judge_id, first_id, second_id, status,"
        " probability_first, raw_text, token_count, created_at)"
        f" SELECT min(iteration_id), judge_id, {order}, 'read', 0.75, '', 1, min(created_at)"
        " FROM preference_pair GROUP BY judge_id, chosen_id, rejected_id"
        for order in ("chosen_id, rejected_id", "rejected_id, chosen_id")
    ),
    "UPDATE prompt SET reject_reason = 'similar', nearest_rouge_l = 0.8, nearest_prompt_id ="
    " (SELECT min(id) FROM prompt) WHERE id = (SELECT max(id) FROM prompt WHERE status = 'rejected')",
)


@pytest.fixture(scope="module")
def troubled(done_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """A run that is done and had its troubles, on SQLite."""
    directory = tmp_path_factory.mktemp("troubled")
    shutil.copy(done_run / "selfreward.db", directory)
    store = Store("sqlite:///selfreward.db", directory)
    with store.database.write() as connection:
        for statement in TROUBLES:
            connection.execute(text(statement))
    yield store
    store.close()


@pytest.fixture(scope="module")
def troubled_postgresql(troubled: Store, postgres_uri: str, postgres_template: str) -> Iterator[Store]:
    """The same rows on PostgreSQL."""
    store = Store(new_database(postgres_uri, postgres_template), Path())
    copy_rows(troubled, store)
    yield store
    store.close()


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def asked(request: pytest.FixtureRequest) -> Store:
    """The run on each database."""
    name = "troubled" if request.param == "sqlite" else "troubled_postgresql"
    store: Store = request.getfixturevalue(name)
    return store


def run(store: Store, query: SavedQuery, **given: str) -> QueryResult:
    """What a saved query returns."""
    sql = query.statement(sqlite=store.database.is_sqlite)
    return run_query(store.database, sql, parameters=query.values(given))


@pytest.mark.parametrize("name", NAMES)
def test_every_query_returns_rows_with_the_columns_that_it_explains(asked: Store, name: str) -> None:
    query = saved_query(name)
    result = run(asked, query)
    assert result.columns == tuple(column for column, _ in query.columns)
    assert result.rows


def facts(result: QueryResult) -> Counter[tuple[str, ...]]:
    """What both databases must say alike: everything but times, and numbers that were rounded.

    The hostile texts were put into SQLite past the store, which cleans what PostgreSQL does not take.
    """
    rows = (row for row in result.rows if "HYPERLINK" not in str(row))
    return Counter(tuple(str(value) for value in row if not _differs(value)) for row in rows)


def _differs(value: Any) -> bool:
    is_time = isinstance(value, datetime) or bool(re.match(r"\d{4}-\d\d-\d\d[ T]", str(value)))
    return is_time or isinstance(value, float)


ALIKE = [name for name in NAMES if name not in ("settings_changed", "versions")]


@pytest.mark.parametrize("name", ALIKE)
def test_both_databases_answer_alike(troubled: Store, troubled_postgresql: Store, name: str) -> None:
    query = saved_query(name)
    assert facts(run(troubled, query)) == facts(run(troubled_postgresql, query))


def test_settings_that_differ_are_named(asked: Store) -> None:
    rows = run(asked, saved_query("settings_changed"), run="beta05").rows
    changed = {row[4]: row[5:] for row in rows if row[:4] == ("beta05", 1, "main", 1)}
    assert {name: tuple(map(float, values)) for name, values in changed.items() if name == "train.beta"} == {
        "train.beta": (0.1, 0.5)
    }
    assert "train.learning_rate" not in changed


@pytest.mark.parametrize("name", [query.name for query in QUERIES if "t" in dict(query.columns)])
def test_a_query_can_be_restricted_to_a_run_and_an_iteration(asked: Store, name: str) -> None:
    query = saved_query(name)
    known = {parameter.name for parameter in query.parameters}
    given = {key: value for key, value in {"run": "main", "t": "2"}.items() if key in known}
    result = run(asked, query, **given)
    places = {key: result.columns.index(key) for key in given}
    expected = {"run": "main", "t": 2}
    assert all(row[place] == expected[key] for row in result.rows for key, place in places.items())


@pytest.mark.parametrize("name", NAMES)
def test_parameters_are_those_of_the_sql(name: str) -> None:
    query = saved_query(name)
    declared = {parameter.name for parameter in query.parameters}
    for sql in (query.sql, query.postgresql):
        assert set(re.findall(r"(?<![:\w]):([a-z]\w*)", sql)) == declared


def test_a_pair_is_walked_back_to_where_it_comes_from(asked: Store) -> None:
    query = saved_query("lineage_of_pair")
    result = run(asked, query, pair="2")
    rows = [dict(zip(result.columns, row, strict=True)) for row in result.rows]
    assert {row["pair_id"] for row in rows} == {2} and len(rows) == 12
    assert Counter(row["role"] for row in rows) == {"other": 6, "chosen": 3, "rejected": 3}
    assert {(row["written_by"], row["judged_by"], row["trained"]) for row in rows} == {("M_1", "M_1", "M_2")}


@pytest.mark.parametrize("words", ["", '"', "zebra AND (", "a  b", "bread* NOT", "' OR 1=1 --"])
def test_whatever_is_searched_for_are_words(asked: Store, words: str) -> None:
    assert run(asked, saved_query("find_prompts"), words=words).rows == ()


def test_words_are_found_in_any_order(asked: Store) -> None:
    found = run(asked, saved_query("find_prompts"), words="SPOON uses").rows
    assert [row[-1] for row in found] == ["Name 2 uses of a spoon."]


def test_the_page_is_what_the_queries_say() -> None:
    assert PAGE.read_text(encoding="utf-8") == as_markdown(QUERIES) + "\n", (
        "python -m selfreward.cookbook > docs/queries.md"
    )


def test_there_are_questions_enough() -> None:
    assert len(NAMES) >= 22 and "judge_health" in NAMES
    assert len({query.title for query in QUERIES}) == len(NAMES)


def test_a_name_that_is_nearly_right_is_told() -> None:
    with pytest.raises(BadInput) as caught:
        saved_query("judge_heath")
    assert caught.value.hint == "Did you mean judge_health?"
    with pytest.raises(BadInput) as caught:
        saved_query("judge_health").values({"runn": "main"})
    assert caught.value.hint == "Did you mean run?"


@pytest.mark.parametrize("given", ["two", "1.5", "", "9" * 30])
def test_a_value_of_another_kind_is_refused(given: str) -> None:
    with pytest.raises(BadInput, match="t="):
        saved_query("judge_health").values({"t": given})


def test_values_are_defaults_or_what_is_given() -> None:
    assert saved_query("widest_pairs").values({"t": "2"}) == {"run": None, "t": 2, "limit": 20}
    assert saved_query("widest_pairs").values({"t": "NULL"})["t"] is None


@pytest.mark.parametrize(
    ("text", "value"), [("3", 3), ("-2", -2), ("0.5", 0.5), ("M_2", "M_2"), ("NULL", None), ("1e5x", "1e5x")]
)
def test_a_value_that_nobody_declared_is_what_it_looks_like(text: str, value: object) -> None:
    assert guessed(text) == value
