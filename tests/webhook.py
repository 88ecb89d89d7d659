"""A web address on this machine that takes messages, and can be unkind."""

import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

SECRET = "t0p-secret-token"
PATH = f"/hooks/{SECRET}"


class Webhook:
    """What was posted, and the statuses to answer with, the last of them for good."""

    def __init__(self, statuses: Sequence[int]) -> None:
        self._statuses = list(statuses)
        self.bodies: list[dict[str, Any]] = []
        self.url = ""
        self.hold = threading.Event()
        """Clear: answers wait."""
        self.hold.set()
        self._heard = threading.Condition()

    def take(self, path: str, body: bytes) -> int:
        """Remember a message; returns the status to answer with."""
        assert path == PATH
        with self._heard:
            self.bodies.append(json.loads(body))
            self._heard.notify_all()
        self.hold.wait(30)
        return self._statuses.pop(0) if len(self._statuses) > 1 else self._statuses[0]

    def wait_for(self, count: int) -> list[dict[str, Any]]:
        """The messages, once there are so many."""
        with self._heard:
            assert self._heard.wait_for(lambda: len(self.bodies) >= count, 30), self.bodies
            return list(self.bodies)


@contextmanager
def webhook(*statuses: int) -> Iterator[Webhook]:
    """A server on a free port of the loopback interface."""
    hook = Webhook(statuses or (204,))

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            status = hook.take(self.path, self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    hook.url = f"http://127.0.0.1:{server.server_address[1]}{PATH}"
    try:
        yield hook
    finally:
        hook.hold.set()
        server.shutdown()
        server.server_close()
        thread.join()
