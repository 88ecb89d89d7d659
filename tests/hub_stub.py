"""A hub on the loopback: as much of its API as a push needs, and what was pushed."""

import base64
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class HubStub:
    """What the hub was asked for. `refuse` makes it answer every request with that status."""

    def __init__(self) -> None:
        self.created: list[dict[str, Any]] = []
        self.tokens: set[str] = set()
        self.files: dict[str, bytes] = {}
        self.refuse: int | None = None
        self.url = ""


@contextmanager
def serving() -> Iterator[HubStub]:
    """The stub at work, on a free port."""
    stub = HubStub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(stub))
    stub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield stub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _handler(stub: HubStub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            stub.tokens.add(self.headers.get("Authorization", ""))
            if stub.refuse is not None:
                self._answer({"error": "the stub refuses"}, stub.refuse)
            elif self.path == "/api/repos/create":
                self._create(json.loads(body))
            elif "/preupload/" in self.path:
                self._preupload(json.loads(body))
            elif "/commit/" in self.path:
                self._commit(body)
            else:
                self._answer({}, 200 if self.path.endswith("validate-yaml") else 404)

        def do_GET(self) -> None:
            self._answer({"error": "not here"}, stub.refuse or 404)

        def _create(self, wanted: dict[str, Any]) -> None:
            stub.created.append(wanted)
            folder = {"dataset": "datasets/"}.get(wanted.get("type", ""), "")
            name = f"{wanted['organization']}/{wanted['name']}"
            self._answer({"url": f"{stub.url}/{folder}{name}", "id": "1", "name": name})

        def _preupload(self, wanted: dict[str, Any]) -> None:
            files = [
                {"path": file["path"], "uploadMode": "regular", "shouldIgnore": False, "oid": None}
                for file in wanted["files"]
            ]
            self._answer({"files": files})

        def _commit(self, body: bytes) -> None:
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    stub.files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            _, _, kind, owner, name, *_ = self.path.split("/")
            folder = "" if kind == "models" else f"{kind}/"
            url = f"{stub.url}/{folder}{owner}/{name}/commit/0"
            self._answer({"success": True, "commitOid": "0" * 40, "commitUrl": url})

        def _answer(self, answer: dict[str, Any], status: int = 200) -> None:
            data = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            pass

    return Handler
