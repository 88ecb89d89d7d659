"""The pages of runs and iterations: what they show, what they escape, what they say of what is not there."""

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from selfreward.config import Settings, load_settings
from selfreward.store import Store
from selfreward.types import CheckpointKind, Gate, GateResult, GateState
from selfreward.web.app import create_app
from selfreward.web.site import Site
from tests.conftest import Filled


@pytest.fixture(scope="module")
def pages(done_run: Path) -> Iterator[TestClient]:
    settings = load_settings(done_run)
    store = Store(settings.database.url, done_run)
    with client(store, settings, done_run) as opened:
        yield opened
    store.close()


def client(store: Store, settings: Settings, directory: Path, token: str | None = None) -> TestClient:
    site = Site(store=store, settings=settings, directory=directory, token=token)
    return TestClient(create_app(site), base_url="http://localhost")


def seen(page: str) -> str:
    """The text of a page."""
    return " ".join(re.sub(r"<[^>]+>", " ", page.partition("<main")[2]).split())


def test_the_first_page_has_every_run_below_the_one_it_was_forked_from(pages: TestClient) -> None:
    page = pages.get("/")
    assert page.status_code == 200
    tree = page.text.partition('class="tree"')[2]
    assert tree.index('href="/runs/main"') < tree.index("Forks of main") < tree.index('href="/runs/beta05"')
    assert "Goes on from M_1 of main" in seen(page.text)


def test_a_run_has_its_iterations_with_what_the_views_say(pages: TestClient, done_run: Path) -> None:
    page = seen(pages.get("/runs/main").text)
    store = Store(load_settings(done_run).database.url, done_run)
    with store.database.read() as connection:
        sql = "SELECT candidates, judgements FROM iteration_summary WHERE run = 'main' AND t = 2"
        candidates, judgements = connection.exec_driver_sql(sql).one()
    store.close()
    assert re.search(rf"\b2 done 12 {candidates} {judgements}\b", page)
    assert "M_2 → M_3" in page


def test_a_fork_shows_the_history_it_goes_on_from(pages: TestClient) -> None:
    assert "it goes on from M_1" in seen(pages.get("/runs/beta05").text)


def test_an_iteration_has_stages_settings_gates_and_links_to_its_prompts(pages: TestClient) -> None:
    page = pages.get("/runs/main/iterations/2")
    assert page.status_code == 200
    for told in ("self instruct", "train", "readable share", "Engine sessions", "train.beta"):
        assert told in seen(page.text)
    assert 'href="/runs/main/prompts?t=2&amp;outcome=paired"' in page.text


def test_a_fork_tells_which_settings_differ(pages: TestClient) -> None:
    page = seen(pages.get("/runs/beta05/iterations/1").text)
    assert re.search(r"train\.beta 0\.1 0\.5", page) or "They are those of the iteration before" in page


@pytest.mark.parametrize(
    ("address", "status", "told"),
    [
        ("/runs/nobody", 404, "Runs: main, beta05."),
        ("/runs/main/iterations/99", 404, "Iterations: 1, 2"),
        ("/runs/main/iterations/99999999999999999999", 400, "t:"),
        ("/runs/main/iterations/-1", 400, "t:"),
        ("/runs/main/iterations/two", 400, "t:"),
        ("/runs/%00%1b[31m", 404, "there is no run"),
        ("/runs/main/plots/nothing.svg", 404, "nothing"),
        ("/runs/main/plots/scores.svg?theme=pink", 400, "theme"),
        ("/no/such/page", 404, "/no/such/page"),
    ],
)
def test_what_is_not_there_is_said_in_the_layout_of_all_pages(
    pages: TestClient, address: str, status: int, told: str
) -> None:
    page = pages.get(address)
    assert page.status_code == status
    assert told in seen(page.text)
    assert 'class="top"' in page.text and "Traceback" not in page.text


def test_a_database_without_tables_gets_a_page_that_says_so(tmp_path: Path) -> None:
    store = Store("sqlite:///selfreward.db", tmp_path)
    page = client(store, Settings(), tmp_path).get("/")
    assert page.status_code == 503
    assert "selfreward start" in seen(page.text)
    assert not (tmp_path / "selfreward.db").exists(), "looking makes nothing"


def test_a_database_of_another_version_names_the_command(done_run: Path, tmp_path: Path) -> None:
    import shutil
    import sqlite3

    shutil.copy(done_run / "selfreward.db", tmp_path / "old.db")
    with sqlite3.connect(tmp_path / "old.db") as connection:
        connection.execute("UPDATE alembic_version SET version_num = '0002'")
    store = Store("sqlite:///old.db", tmp_path)
    page = client(store, Settings(), tmp_path).get("/runs/main")
    assert page.status_code == 503
    assert "selfreward db upgrade" in seen(page.text)


def test_an_empty_database_with_tables_has_no_runs(store: Store, tmp_path: Path) -> None:
    page = client(store, Settings(), tmp_path).get("/")
    assert page.status_code == 200
    assert "There are no runs" in seen(page.text)


def test_a_run_that_is_under_way_is_shown_on_both_databases(filled: Filled, tmp_path: Path) -> None:
    prompt = filled.prompt("a prompt")
    filled.candidates(prompt, ["one", "two"])
    filled.judgements(1, [4, None])
    opened = client(filled.store, filled.settings, tmp_path)
    page = opened.get("/runs/main")
    assert page.status_code == 200
    assert 'data-events="/runs/main/events"' in page.text
    assert opened.get("/runs/main/iterations/1").status_code == 200
    assert opened.get("/runs/main/plots/scores.svg").status_code == 200


@pytest.mark.parametrize("hostile", ["<script>document.title='owned'</script>", "\x1b[31mred", "a\u202eb"])
def test_what_the_daemon_was_told_is_escaped_wherever_it_is_shown(
    filled: Filled, tmp_path: Path, hostile: str
) -> None:
    store, iteration = filled.store, filled.iteration.id
    store.journal.event(filled.run.id, "failed", hostile, iteration)
    gate = GateResult(gate=Gate.SPREAD, state=GateState.WARN, value=0.1, limit=0.2, message=hostile)
    store.gates.put(iteration, [gate])
    opened = client(store, filled.settings, tmp_path)
    for address in ("/", "/runs/main", "/runs/main/iterations/1"):
        page = opened.get(address)
        assert page.status_code == 200
        assert hostile not in page.text


def test_what_has_been_read_of_a_done_iteration_is_not_read_again(filled: Filled, tmp_path: Path) -> None:
    from sqlalchemy import event

    store = filled.store
    store.runs.finish_iteration(filled.iteration, CheckpointKind.DPO, "models/M_2", "digest")
    opened = client(store, filled.settings, tmp_path)
    opened.get("/runs/main")
    statements: list[str] = []
    event.listen(store.database.engine, "before_cursor_execute", lambda *call: statements.append(call[2]))
    opened.get("/runs/main")
    assert statements
    assert not [sql for sql in statements if "length_by_iteration" in sql or "throughput" in sql]


def test_progress_comes_as_events_that_name_elements_of_the_page(filled: Filled, tmp_path: Path) -> None:
    import asyncio

    from selfreward.web.kept import Kept
    from selfreward.web.live import _stream

    filled.prompt("a prompt")
    site = Site(store=filled.store, settings=filled.settings, directory=tmp_path)
    page = TestClient(create_app(site), base_url="http://localhost").get("/runs/main").text

    async def first() -> dict[str, str]:
        return await anext(_stream(Kept(site), filled.run))

    event = asyncio.run(first())
    news = json.loads(event["data"])
    assert event["event"] == "progress"
    assert news["texts"]["live-self_instruct-done"].startswith("1 of")
    assert news["bars"]["live-self_instruct-bar"][0] == 1
    shown = set(re.findall(r'id="(live-[^"]+)"', page))
    assert set(news["texts"]) - {"live-uptime"} <= shown
    assert f'data-page="{news["page"]}"' in page


def test_times_are_utc_and_marked_up(pages: TestClient) -> None:
    year = datetime.now(UTC).year
    assert re.search(
        rf'<time datetime="{year}-\d\d-\d\dT[\d:]+Z">', pages.get("/runs/main/iterations/1").text
    )
