"""Messages to a web address: what is told, how often it is tried, and that nothing waits or gives it away."""

import contextvars
import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from selfreward import notify
from selfreward.config import NotifySettings, Settings, load_settings, parse_settings, render_settings
from selfreward.errors import BadInput, StoreUnavailable
from selfreward.notify import Notifier, kind_of, shown
from selfreward.whereabouts import enter_iteration, enter_run
from tests.webhook import SECRET, webhook


class Notes:
    """Events that were written down."""

    def __init__(self) -> None:
        self.written: list[tuple[str, str, dict[str, Any]]] = []
        self.came = threading.Event()

    def add(self, kind: str, message: str, **data: Any) -> None:
        self.written.append((kind, message, data))
        self.came.set()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notify, "FIRST_PAUSE_S", 0.01)
    monkeypatch.setattr(notify, "LONGEST_PAUSE_S", 0.02)


def at_work(call: Callable[[], None]) -> None:
    """`call` as a daemon at iteration 2 of run main would."""

    def within() -> None:
        enter_run("main")
        enter_iteration(2)
        call()

    contextvars.copy_context().run(within)


def notifier(url: str, notes: Notes, **settings: Any) -> Notifier:
    return Notifier(NotifySettings.model_validate({"url": url, **settings}), notes.add)


def test_a_message_says_what_happened_where_and_when() -> None:
    notes = Notes()
    with webhook() as hook:
        sender = notifier(hook.url, notes)
        at_work(lambda: sender.tell("iteration_done", "M_3 is trained", digest="abc", pair=12))
        [body] = hook.wait_for(1)
        sender.close(5)
    assert body.pop("time").endswith("+00:00")
    assert body == {
        "run": "main",
        "iteration": 2,
        "kind": "iteration",
        "event": "iteration_done",
        "message": "M_3 is trained",
        "figures": {"digest": "abc", "pair": 12},
    }
    assert notes.written == []


@pytest.mark.parametrize(
    ("event", "figures", "kind"),
    [
        ("gate", {}, "gate"),
        ("failed", {}, "failure"),
        ("halted", {}, "failure"),
        ("engine_failed", {}, "failure"),
        ("disk", {}, "failure"),
        ("paused", {"reasons": ["engine"]}, "failure"),
        ("paused", {"reasons": ["pause"]}, None),
        ("iteration_done", {}, "iteration"),
        ("started", {}, None),
        ("notify_failed", {}, None),
    ],
)
def test_what_is_told_as_what(event: str, figures: dict[str, Any], kind: str | None) -> None:
    assert kind_of(event, figures) == kind


def test_only_what_was_asked_for_is_told() -> None:
    notes = Notes()
    with webhook() as hook:
        sender = notifier(hook.url, notes, events=["gate"])
        sender.tell("failed", "x")
        sender.tell("iteration_done", "y")
        sender.tell("gate", "z")
        sender.close(5)
        assert [body["message"] for body in hook.bodies] == ["z"]


def test_without_an_address_nothing_is_started() -> None:
    before = threading.active_count()
    sender = notifier("", Notes())
    sender.tell("failed", "x")
    sender.close(5)
    assert threading.active_count() == before


def test_a_server_in_trouble_is_asked_again() -> None:
    notes = Notes()
    with webhook(503, 429, 200) as hook:
        sender = notifier(hook.url, notes)
        sender.tell("failed", "x")
        assert [body["message"] for body in hook.wait_for(3)] == ["x"] * 3
        sender.close(5)
    assert notes.written == []


@pytest.mark.parametrize(("status", "tries"), [(404, 1), (302, 1), (500, 3)])
def test_what_cannot_be_delivered_is_an_event_that_keeps_the_secret(status: int, tries: int) -> None:
    notes = Notes()
    with webhook(status) as hook:
        sender = notifier(hook.url, notes, attempts=3)
        at_work(lambda: sender.tell("gate", "held"))
        assert notes.came.wait(10) and len(hook.bodies) == tries
        sender.close(5)
    [(kind, message, data)] = notes.written
    assert kind == "notify_failed" and f"status {status}" in message
    assert data == {"about": "gate", "iteration": 2}
    assert SECRET not in message and "127.0.0.1" in message


def test_an_address_where_nobody_listens_is_an_event_and_breaks_nothing() -> None:
    notes = Notes()
    with webhook() as hook:
        url = hook.url
    sender = notifier(url, notes, attempts=2)
    sender.tell("failed", "x")
    assert notes.came.wait(10)
    sender.tell("failed", "y")
    sender.close(5)
    assert [kind for kind, *_ in notes.written] == ["notify_failed"] * 2
    assert not any(SECRET in message for _, message, _ in notes.written)


def test_nobody_waits_for_an_address_that_does_not_answer() -> None:
    notes = Notes()
    with webhook() as hook:
        hook.hold.clear()
        sender = notifier(hook.url, notes, timeout_s=20)
        began = time.monotonic()
        for number in range(3 * notify.MOST_WAITING):
            sender.tell("failed", f"message {number}")
        sender.close(0.05)
        assert time.monotonic() - began < 5


def test_a_database_that_is_away_does_not_end_the_deliveries() -> None:
    def away(*_: Any, **__: Any) -> None:
        raise StoreUnavailable("away")

    with webhook(404, 204) as hook:
        sender = Notifier(NotifySettings.model_validate({"url": hook.url}), away)
        sender.tell("failed", "x")
        sender.tell("failed", "y")
        assert [body["message"] for body in hook.wait_for(2)] == ["x", "y"]
        sender.close(5)


def test_the_address_is_in_no_row_and_no_digest() -> None:
    told = Settings.model_validate({"notify": {"url": f"https://hooks.example/{SECRET}"}})
    assert SECRET not in told.canonical_json() + json.dumps(told.model_dump(mode="json")) + repr(told)
    assert told.digest() == Settings().digest()
    assert Settings.model_validate(told.model_dump(mode="json")) == Settings()


def test_the_address_comes_from_the_environment_or_the_file(tmp_path: Path) -> None:
    url = f"https://hooks.example/{SECRET}"
    (tmp_path / "selfreward.toml").write_text("")
    given = load_settings(tmp_path, environ={"SELFREWARD_NOTIFY__URL": url})
    assert given.notify.url.get_secret_value() == url
    written = render_settings(given.model_dump(), "header")
    assert parse_settings(written, "x").notify == given.notify


def test_an_address_that_is_none_is_refused_without_being_shown(tmp_path: Path) -> None:
    (tmp_path / "selfreward.toml").write_text(f'[notify]\nurl = "ftp://{SECRET}"\n')
    with pytest.raises(BadInput) as caught:
        load_settings(tmp_path)
    assert "notify.url" in str(caught.value) and SECRET not in str(caught.value)
    with pytest.raises(BadInput) as caught:
        load_settings(tmp_path, [f"notify.url={SECRET}"])
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "left"),
    [
        (f"https://user:{SECRET}@hooks.example:8443/{SECRET}?key={SECRET}", "https://hooks.example/…"),
        (f"https://[{SECRET}", "the address"),
        ("", "the address"),
    ],
)
def test_of_an_address_only_the_host_is_shown(url: str, left: str) -> None:
    assert shown(url) == left
