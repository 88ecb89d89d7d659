"""A reward model where checkpoints are listed: on pages, in the report, in the terminal; never as M_t."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from selfreward.config import load_settings
from selfreward.report.gathering import gather_report
from selfreward.store import Store
from selfreward.types import CheckpointKind, CheckpointRow, RunRow
from selfreward.web.app import create_app
from selfreward.web.site import Site
from tests.commands import selfreward

HOST = "http://127.0.0.1"
HERE = "/runs/main/checkpoints"


@pytest.fixture(scope="module")
def directory(done_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The finished run with a reward model beside M_2, its files gone."""
    copy = tmp_path_factory.mktemp("rewarded") / "run"
    shutil.copytree(done_run, copy)
    store = Store.open(load_settings(copy).database.url, copy)
    run = store.runs.find("main")
    assert run is not None
    parent = store.runs.checkpoint(run.id, 2)
    assert parent is not None
    kind = CheckpointKind.REWARD
    store.runs.add_checkpoint(run.id, 2, kind, "models/R_2", "f" * 64, parent.id, "R_2")
    store.close()
    return copy


@pytest.fixture(scope="module")
def store(directory: Path) -> Iterator[Store]:
    opened = Store.open(load_settings(directory).database.url, directory)
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def run(store: Store) -> RunRow:
    found = store.runs.find("main")
    assert found is not None
    return found


@pytest.fixture(scope="module")
def client(store: Store, directory: Path) -> Iterator[TestClient]:
    site = Site(store=store, settings=load_settings(directory), directory=directory)
    with TestClient(create_app(site), base_url=HOST, follow_redirects=False) as browser:
        yield browser


def test_its_page_says_what_it_is_and_compares_no_answers(client: TestClient) -> None:
    page = client.get(f"{HERE}/R_2")
    assert page.status_code == 200
    assert '<span class="badge">reward</span>' in page.text
    assert "/runs/main/iterations/2" in page.text and "pairs</a>" in page.text
    assert client.get(f"{HERE}/R_2?against=M_1").status_code == 200


def test_the_pages_of_others_do_not_offer_it(client: TestClient) -> None:
    page = client.get(f"{HERE}/M_2").text
    assert "<option>R_2</option>" not in page and f'href="{HERE}/R_2"' in page, "it is only a child"
    assert client.get(f"{HERE}/M_2?against=R_2").status_code == 404
    assert client.get("/runs/main").status_code == 200


def test_it_is_no_column_of_the_report(store: Store, run: RunRow) -> None:
    data = gather_report(store, run)
    assert "R_2" not in [checkpoint.name for checkpoint in data.checkpoints]
    third = next(checkpoint for checkpoint in data.checkpoints if checkpoint.name == "M_3")
    assert data.previous(third) == "M_2"


def test_no_number_leads_to_it(store: Store, run: RunRow) -> None:
    def found(version: int) -> CheckpointRow:
        row = store.runs.checkpoint(run.id, version)
        assert row is not None
        return row

    assert [found(version).name for version in (1, 2, 3)] == ["M_1", "M_2", "M_3"]


def test_the_terminal_shows_it_and_exports_nothing_that_is_not_there(directory: Path) -> None:
    done = selfreward("show", "checkpoint", "R_2", "--dir", str(directory))
    assert done.returncode == 0, done.stderr
    assert "reward" in done.stdout and "export model R_2" in done.stdout
    assert "export answers R_2" not in done.stdout
    refused = selfreward("export", "model", "R_2", str(directory / "out"), "--dir", str(directory))
    assert refused.returncode == 1 and "R_2 is not what was written" in refused.stderr
    assert selfreward("status", "--dir", str(directory)).returncode == 0
