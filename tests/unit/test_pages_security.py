"""Who may ask the pages, from where, with what: Host, CSP, cross-site requests, token and control."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from selfreward.errors import BadInput
from selfreward.store import Store
from selfreward.web import serving
from selfreward.web.app import create_app
from selfreward.web.site import Site
from tests.conftest import Filled

TOKEN = "a long enough token"


@pytest.fixture
def pages(filled: Filled, tmp_path: Path) -> Iterator[TestClient]:
    yield client(filled, tmp_path)


def client(filled: Filled, directory: Path, token: str | None = TOKEN) -> TestClient:
    site = Site(store=filled.store, settings=filled.settings, directory=directory, token=token)
    return TestClient(create_app(site), base_url="http://localhost", follow_redirects=False)


def asked(store: Store, run_id: int) -> list[str]:
    return [str(row.action) for row in store.journal.take_requests(run_id)]


def log_in(pages: TestClient) -> None:
    assert pages.post("/login", data={"token": TOKEN}).status_code == 303


@pytest.mark.parametrize("host", ["localhost", "localhost:8321", "127.0.0.1:80", "[::1]:8321", "LOCALHOST."])
def test_it_answers_to_the_names_of_this_machine(pages: TestClient, host: str) -> None:
    assert pages.get("/login", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example", "evil@127.0.0.1:x", "", "[::1"])
def test_a_name_that_was_made_to_point_here_is_refused(pages: TestClient, host: str) -> None:
    refused = pages.get("/", headers={"Host": host})
    assert refused.status_code == 400
    assert "--allow-host" in refused.text


@pytest.mark.parametrize("address", ["/", "/runs/main", "/nowhere", "/static/site.css", "/login", "/healthz"])
def test_every_answer_carries_the_policy(pages: TestClient, address: str) -> None:
    headers = pages.get(address).headers
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "same-origin"
    assert headers["cross-origin-resource-policy"] == "same-origin"


@pytest.mark.parametrize("address", ["/", "/runs/main", "/runs/main/iterations/1", "/login", "/nowhere"])
def test_no_page_has_inline_script_or_style(pages: TestClient, address: str) -> None:
    page = pages.get(address).text
    assert (
        " style=" not in page
        and "<style" not in page
        and "<script>" not in page
        and " on" + "click" not in page
    )


def test_a_bug_is_a_plain_answer_with_the_policy_and_no_traceback(
    pages: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    import structlog

    monkeypatch.setattr(Store, "__getattribute__", _broken, raising=False)
    with structlog.testing.capture_logs() as logs:
        page = pages.get("/runs/main")
    assert page.status_code == 500
    assert "Traceback" not in page.text and "boom" not in page.text
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert logs[0]["event"] == "request failed"


def _broken(self: Store, name: str) -> object:
    if name == "runs":
        raise RuntimeError("boom")
    return object.__getattribute__(self, name)


def test_control_needs_the_token(pages: TestClient, filled: Filled) -> None:
    page = pages.post("/runs/main/control", data={"action": "stop"})
    assert page.status_code == 401
    assert asked(filled.store, filled.run.id) == []


def test_without_a_token_nobody_controls(filled: Filled, tmp_path: Path) -> None:
    pages = client(filled, tmp_path, token=None)
    for headers in ({}, {"Authorization": "Bearer "}, {"Authorization": "Bearer None"}):
        page = pages.post("/runs/main/control", data={"action": "stop"}, headers=headers)
        assert page.status_code == 401
    assert asked(filled.store, filled.run.id) == []


def test_control_without_a_daemon_says_so(pages: TestClient, filled: Filled) -> None:
    log_in(pages)
    page = pages.post("/runs/main/control", data={"action": "pause"})
    assert page.status_code == 409
    assert "selfreward start" in page.text
    assert asked(filled.store, filled.run.id) == []


@pytest.mark.parametrize("action", ["pause", "resume", "stop"])
def test_who_is_logged_in_leaves_the_request_that_the_commands_leave(
    pages: TestClient, filled: Filled, action: str
) -> None:
    filled.store.leases.take(filled.run.id, 60)
    log_in(pages)
    assert f'value="{action}"' in pages.get("/runs/main").text
    page = pages.post("/runs/main/control", data={"action": action})
    assert (page.status_code, page.headers["location"]) == (303, "/runs/main")
    assert asked(filled.store, filled.run.id) == [action]


def test_programs_give_the_token_as_a_bearer(pages: TestClient, filled: Filled) -> None:
    filled.store.leases.take(filled.run.id, 60)
    headers = {"Authorization": f"Bearer {TOKEN}"}
    assert pages.post("/runs/main/control", data={"action": "pause"}, headers=headers).status_code == 303
    assert asked(filled.store, filled.run.id) == ["pause"]


def test_an_unknown_action_is_refused(pages: TestClient, filled: Filled) -> None:
    log_in(pages)
    assert pages.post("/runs/main/control", data={"action": "explode"}).status_code == 400
    assert asked(filled.store, filled.run.id) == []


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://localhost:9999"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
def test_a_form_of_another_site_is_refused(
    pages: TestClient, filled: Filled, headers: dict[str, str]
) -> None:
    filled.store.leases.take(filled.run.id, 60)
    log_in(pages)
    page = pages.post("/runs/main/control", data={"action": "stop"}, headers=headers)
    assert page.status_code == 403
    assert asked(filled.store, filled.run.id) == []


def test_a_form_of_ours_is_not(pages: TestClient, filled: Filled) -> None:
    filled.store.leases.take(filled.run.id, 60)
    log_in(pages)
    headers = {"Origin": "http://localhost", "Sec-Fetch-Site": "same-origin"}
    assert pages.post("/runs/main/control", data={"action": "stop"}, headers=headers).status_code == 303


def test_the_cookie_holds_no_token_and_stays_with_this_site(pages: TestClient) -> None:
    cookie = pages.post("/login", data={"token": TOKEN}).headers["set-cookie"]
    assert TOKEN not in cookie
    assert "httponly" in cookie.lower() and "samesite=strict" in cookie.lower()


def test_a_wrong_token_gets_the_form_again_and_no_cookie(
    pages: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("selfreward.web.control.WRONG_TOKEN_S", 0)
    page = pages.post("/login", data={"token": "wrong"})
    assert page.status_code == 401
    assert "set-cookie" not in page.headers
    assert "That is not the token" in page.text


def test_who_logs_out_controls_no_more(pages: TestClient, filled: Filled) -> None:
    filled.store.leases.take(filled.run.id, 60)
    log_in(pages)
    pages.post("/logout")
    assert pages.post("/runs/main/control", data={"action": "stop"}).status_code == 401


def test_an_address_that_all_reach_needs_a_name(filled: Filled, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="every network") as refused:
        serving.site(filled.store, filled.settings, tmp_path, "0.0.0.0", (), None)
    assert "--allow-host" in refused.value.hint
    site = serving.site(filled.store, filled.settings, tmp_path, "0.0.0.0", ("GPU1.example",), None)
    assert "gpu1.example" in site.host_names and "0.0.0.0" not in site.host_names


def test_a_short_token_is_refused(filled: Filled, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="characters"):
        serving.site(filled.store, filled.settings, tmp_path, "127.0.0.1", (), "1234")
