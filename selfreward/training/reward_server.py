"""A reward model as a server: `python -m selfreward.training.reward_server --model DIR --ready FILE`.

It binds to a free loopback port and says in FILE, once it is loaded, where that is:

{"port": 40123, "description": "…"}, or {"error": "…", "hint": "…", "kind": "…"} when it cannot be loaded.

POST /score {"pairs": [{"prompt": "…", "response": "…"}, …]} gives {"scored": [{"reward": 0.7, "tokens": 31,
"fits": true}, …]} in the same order. The environment variable that `KEY` names holds a word that each request
must bring, so that no other user of the machine has a model scored. `--fake` needs no model and no torch:
its rewards come from the texts alone.
"""

import argparse
import hashlib
import json
import os
import sys
import threading
import traceback
from collections.abc import Sequence
from dataclasses import asdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Protocol

from selfreward.training.failures import JobFailed, explain
from selfreward.training.manifest import write_durably

KEY = "_SELFREWARD_REWARD_KEY"
HOST = "127.0.0.1"
FAKE_RANGE = 4.0


class Scorer(Protocol):
    """What is served."""

    def __call__(self, pairs: Sequence[tuple[str, str]]) -> list[dict[str, Any]]:
        """{"reward", "tokens", "fits"} of each (prompt, response)."""


def main(arguments: Sequence[str]) -> int:
    """Load, tell where, and serve until killed."""
    options = _options(arguments)
    try:
        scorer, description = _fake() if options.fake else _loaded(options)
    except Exception as error:
        traceback.print_exc(file=sys.stdout)
        failure = explain(error, options.ready.parent, "")
        told = {"error": failure.message, "hint": failure.hint, "kind": failure.kind}
        write_durably(options.ready, json.dumps(told))
        return 1
    server = Server(scorer, os.environ.get(KEY, ""))
    found = {"port": server.server_address[1], "description": description}
    write_durably(options.ready, json.dumps(found))
    server.serve_forever()
    return 0


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="reward_server", description="Serves a reward model.")
    parser.add_argument("--ready", type=Path, required=True, help="file that says where the server is")
    parser.add_argument("--model", default="", help="directory or hub id of the reward model")
    parser.add_argument(
        "--template-of", type=Path, help="model whose chat template stands in for a missing one"
    )
    parser.add_argument("--batch-size", type=int, default=8, help="conversations computed at once")
    parser.add_argument("--fake", action="store_true", help="rewards from the texts alone")
    return parser.parse_args(arguments)


def _loaded(options: argparse.Namespace) -> tuple[Scorer, str]:
    """Torch and its friends are imported here, after the environment is settled."""
    os.environ.update(HF_HUB_DISABLE_TELEMETRY="1", DO_NOT_TRACK="1", TOKENIZERS_PARALLELISM="false")
    from selfreward.training.machine import describe_machine, use_all_cores
    from selfreward.training.reward_scoring import load_reward_model

    use_all_cores()
    source = Path(options.model)
    if not source.is_dir():
        source = _fetched(options.model)
    model = load_reward_model(source, options.template_of, options.batch_size)

    def score(pairs: Sequence[tuple[str, str]]) -> list[dict[str, Any]]:
        return [asdict(one) for one in model.score(pairs)]

    return score, f"reward model on {describe_machine()['device']}"


def _fetched(name: str) -> Path:
    """A hub model in the hub's own cache, its head looked at before the weights are fetched."""
    from selfreward.errors import BadInput
    from selfreward.training.convert import from_hub
    from selfreward.training.reward_source import require_reward_head

    try:
        require_reward_head(from_hub(name, ["config.json"]), name)
    except BadInput as error:
        raise JobFailed("bad_model", error.message, error.hint) from error
    return from_hub(name)


def _fake() -> tuple[Scorer, str]:
    def score(pairs: Sequence[tuple[str, str]]) -> list[dict[str, Any]]:
        return [
            {"reward": fake_reward(*pair), "tokens": len(" ".join(pair).split()), "fits": True}
            for pair in pairs
        ]

    return score, "fake reward model"


def _fake_scored(prompt: str, response: str) -> dict[str, Any]:
    words = len(f"{prompt} {response}".split())
    return {"reward": fake_reward(prompt, response), "tokens": words, "fits": True}


def fake_reward(prompt: str, response: str) -> float:
    """From −4 to 4, the same whenever it is asked for."""
    digest = hashlib.sha256(f"{prompt}\0{response}".encode(errors="surrogatepass")).digest()
    return (int.from_bytes(digest[:4], "big") / 2**32 * 2 - 1) * FAKE_RANGE


class Server(ThreadingHTTPServer):
    """Answers one request at a time, whatever comes at once."""

    daemon_threads = True

    def __init__(self, scorer: Scorer, key: str) -> None:
        super().__init__((HOST, 0), Handler)
        self.scorer, self.key = scorer, key
        self.turn = threading.Lock()


class Handler(BaseHTTPRequestHandler):
    """POST /score."""

    protocol_version = "HTTP/1.1"
    wbufsize = -1  # head and body in one packet
    disable_nagle_algorithm = True
    server: Server

    def do_POST(self) -> None:
        """Score what is asked for; a failure is told, and the next request is answered."""
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        if self.headers.get("authorization", "") != f"Bearer {self.server.key}":
            return self._send(403, {"error": "another server's key"})
        try:
            pairs = [(str(pair["prompt"]), str(pair["response"])) for pair in json.loads(body)["pairs"]]
            with self.server.turn:
                scored = self.server.scorer(pairs)
        except Exception as error:
            traceback.print_exc(file=sys.stdout)
            return self._send(500, {"error": f"{type(error).__name__}: {error}"})
        return self._send(200, {"scored": scored})

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: there is one request for every few answers."""

    def _send(self, status: int, content: dict[str, Any]) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
