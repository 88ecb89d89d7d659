"""`selfreward datasette`, and what datasette itself makes of it."""

import asyncio
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from selfreward.cookbook import saved_queries
from selfreward.datasette import metadata
from selfreward.errors import BadInput
from selfreward.store import Store
from selfreward.store.schema import VIEWS, Table
from tests.commands import selfreward
from tests.filled import HTML, hostile_prompt


@pytest.fixture(scope="module")
def directory(done_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the finished run with its metadata."""
    copy = tmp_path_factory.mktemp("datasette") / "main"
    copy.mkdir()
    for name in ("selfreward.db", "selfreward.toml"):
        shutil.copy(done_run / name, copy)
    done = selfreward("datasette", "--dir", str(copy))
    assert done.returncode == 0, done.stderr
    assert "datasette serve" in done.stdout and "--metadata" in done.stdout and "--immutable" in done.stdout
    return copy


@pytest.fixture(scope="module")
def described(directory: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((directory / "datasette" / "metadata.json").read_text())
    return found


@pytest.fixture(scope="module")
def client(directory: Path, described: dict[str, Any]) -> Iterator[Any]:
    """Datasette itself, in this process."""
    app = pytest.importorskip("datasette.app", reason="pip install datasette")
    made = app.Datasette(
        [str(directory / "selfreward.db")], metadata=described, settings={"suggest_facets": False}
    )
    yield made.client


def page(client: Any, path: str) -> str:
    async def get() -> Any:
        return await client.get(path)

    answer = asyncio.run(get())
    assert answer.status_code == 200, (path, answer.text[:2000])
    return str(answer.text)


def test_every_table_view_and_column_is_described(described: dict[str, Any]) -> None:
    tables = described["databases"]["selfreward"]["tables"]
    for name in [*Table.metadata.tables, *(view.name for view in VIEWS)]:
        assert tables[name]["description"], name
    assert tables["judgement"]["columns"]["score"].startswith("0 to 5")
    assert set(described["databases"]["selfreward"]["queries"]) == {query.name for query in saved_queries()}


def test_datasette_shows_tables_with_words_and_escapes_what_models_wrote(
    client: Any, directory: Path
) -> None:
    front = page(client, "/selfreward")
    assert "How do two checkpoints answer the same prompts?" in front
    table = page(client, "/selfreward/judgement?_size=5")
    assert "One sampled judgement of one candidate" in table
    hostile = page(client, f"/selfreward/prompt/{hostile_prompt(directory)}")
    assert HTML not in hostile and "&lt;script&gt;" in hostile


def test_prompts_can_be_searched(client: Any) -> None:
    found = json.loads(page(client, "/selfreward/prompt.json?_search=hyperlink&_shape=objects"))
    assert len(found["rows"]) == 1


@pytest.mark.parametrize("query", saved_queries(), ids=lambda query: query.name)
def test_datasette_runs_each_saved_query_with_an_empty_form(client: Any, query: Any) -> None:
    found = json.loads(page(client, f"/selfreward/{query.name}.json?_shape=objects"))
    assert found["columns"] == [name for name, _ in query.columns]


def test_a_saved_query_takes_what_the_form_holds(client: Any) -> None:
    runs = {row["run"] for row in json.loads(page(client, "/selfreward/judge_health.json?_shape=array"))}
    assert runs == {"main", "beta05"}
    one = json.loads(page(client, "/selfreward/judge_health.json?_shape=array&run=main"))
    assert {row["run"] for row in one} == {"main"}
    limited = json.loads(page(client, "/selfreward/find_prompts.json?_shape=array&limit=2"))
    assert len(limited) <= 2


def test_postgresql_is_for_other_programs(tmp_path: Path) -> None:
    store = Store("postgresql+psycopg://me@localhost/none", tmp_path)
    with pytest.raises(BadInput) as caught:
        metadata(store.database)
    assert "PostgreSQL" in caught.value.message and "selfreward serve" in caught.value.hint
