"""Messages to a web address (`[notify]`) when a gate holds, something fails, or an iteration is done.

They leave from a thread of their own: nothing waits for them, and what cannot be delivered is an event and
nothing more. The address can be a secret: it is in no message, event or log line.
"""

import json
import queue
import threading
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

import httpx
import tenacity

from selfreward import __version__
from selfreward.config import NotifySettings
from selfreward.errors import SelfRewardError
from selfreward.rest import ENGINE
from selfreward.whereabouts import here

MOST_WAITING = 100
MOST_CHARACTERS = 4000
"""Of a message: the last lines of an engine's log can be long."""
FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 60.0
KINDS: Mapping[str, str] = {
    "gate": "gate",
    "failed": "failure",
    "halted": "failure",
    "engine_failed": "failure",
    "engine_stalled": "failure",
    "disk": "failure",
    "database": "failure",
    "backup_failed": "failure",
    "iteration_done": "iteration",
}
"""What of the events is told, as what."""

Note = Callable[..., None]
"""(kind, message, **data): writes an event; may block."""
Body = dict[str, Any]


class Undelivered(Exception):
    """What came back instead of a success, in words. `passing`: another try may go better."""

    def __init__(self, message: str, passing: bool) -> None:
        super().__init__(message)
        self.passing = passing


class Notifier:
    """Delivers messages one after the other, each with several tries."""

    def __init__(self, settings: NotifySettings, note: Note) -> None:
        self._settings, self._note = settings, note
        self._url = settings.url.get_secret_value()
        self._waiting: queue.Queue[Body | None] = queue.Queue(MOST_WAITING)
        self._thread: threading.Thread | None = None
        self._hurried = threading.Event()
        """No more pauses between tries, and no second ones."""

    def tell(self, event: str, message: str, **figures: Any) -> None:
        """Send it on its way if it is one of `notify.events`. Returns at once, and never raises."""
        kind = kind_of(event, figures)
        if not self._url or kind not in self._settings.events:
            return
        try:
            self._waiting.put_nowait(_body(kind, event, message, figures))
        except queue.Full:
            return  # a hundred messages wait for an address that does not answer: this one adds nothing
        if self._thread is None:
            self._thread = threading.Thread(target=self._deliver_all, name="notify", daemon=True)
            self._thread.start()

    def hurry(self) -> None:
        """The daemon leaves: what is on its way has one try more."""
        self._hurried.set()

    def close(self, patience_s: float) -> None:
        """Wait at most so long for what is on its way. Blocks: called in a thread."""
        if self._thread is None:
            return
        self.hurry()
        try:
            self._waiting.put_nowait(None)
        except queue.Full:
            return
        self._thread.join(patience_s)

    def _deliver_all(self) -> None:
        with httpx.Client(timeout=self._settings.timeout_s) as client:
            while (body := self._waiting.get()) is not None:
                try:
                    self._tries()(self._post, client, body)
                except Undelivered as error:
                    self._admit(body, error)

    def _tries(self) -> tenacity.Retrying:
        return tenacity.Retrying(
            retry=tenacity.retry_if_exception(lambda error: isinstance(error, Undelivered) and error.passing),
            stop=tenacity.stop_any(
                tenacity.stop_after_attempt(self._settings.attempts),
                tenacity.stop_when_event_set(self._hurried),
            ),
            wait=tenacity.wait_random_exponential(multiplier=FIRST_PAUSE_S, max=LONGEST_PAUSE_S),
            sleep=tenacity.sleep_using_event(self._hurried),
            reraise=True,
        )

    def _post(self, client: httpx.Client, body: Body) -> None:
        headers = {"Content-Type": "application/json", "User-Agent": f"selfreward/{__version__}"}
        try:
            answer = client.post(self._url, content=json.dumps(body, default=str), headers=headers)
        except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
            passing = isinstance(error, httpx.TransportError)
            raise Undelivered(f"{type(error).__name__}: {self._masked(str(error))}", passing) from None
        if not answer.is_success:
            passing = answer.is_server_error or answer.status_code == httpx.codes.TOO_MANY_REQUESTS
            raise Undelivered(f"status {answer.status_code}", passing)

    def _admit(self, body: Body, error: Undelivered) -> None:
        """Write down that a message did not arrive, if that is possible."""
        message = f"{shown(self._url)} did not take the message about {body['event']}: {error}"
        try:
            self._note("notify_failed", message, about=body["event"], iteration=body["iteration"])
        except SelfRewardError:
            return  # the run has another owner now, or no database: there is nobody to tell

    def _masked(self, text: str) -> str:
        return text.replace(self._url, shown(self._url))


def kind_of(event: str, figures: Mapping[str, Any]) -> str | None:
    """As what an event is told: one of `notify.events`, or None for what is told to nobody."""
    if event == "paused" and ENGINE in figures.get("reasons", ()):
        return "failure"  # the tries have run out: it goes on when a user says so
    return KINDS.get(event)


def shown(url: str) -> str:
    """Scheme and host of an address: the rest can be a secret."""
    try:
        parts = urlsplit(url)
        return f"{parts.scheme}://{parts.hostname}/…" if parts.hostname else "the address"
    except ValueError:
        return "the address"


def _body(kind: str | None, event: str, message: str, figures: Mapping[str, Any]) -> Body:
    place = here()
    return {
        "run": place.run if place else None,
        "iteration": place.iteration if place else None,
        "kind": kind,
        "event": event,
        "message": message[:MOST_CHARACTERS],
        "figures": dict(figures),
        "time": datetime.now(UTC).isoformat(),
    }
