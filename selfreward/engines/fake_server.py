"""An OpenAI-compatible server whose replies come from a script: deterministic in seed, prompt and sample.

    python -m selfreward.engines.fake_server --port 0

Standard library only, so that it starts in a fraction of a second. A token is a word, except where
tokens have numbers (/tokenize and prompts of token ids): there it is a character.
"""

import argparse
import itertools
import json
import math
import os
import re
import signal
import subprocess
import sys
import threading
import time
import zlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from selfreward.engines import fake_choices
from selfreward.engines.fake_replies import Reply, reply_to


class State:
    """Counters and the script of misbehaviour, shared by the threads that answer."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self._lock = threading.Lock()
        self._last_prompt: list[str] = []
        self.requests = 0
        self.counters = dict.fromkeys(
            ("prompt_tokens", "generation_tokens", "prefix_cache_queries", "prefix_cache_hits"), 0
        )
        self.running = 0

    def arrive(self) -> int:
        """The number of this request, counted from 1. May end the process or never return."""
        with self._lock:
            self.requests += 1
            number = self.requests
            self.running += 1
        options = self.options
        if options.die_after and number > options.die_after:
            print(f"dying before request {number}, as told", flush=True)
            os._exit(13)
        if 0 < options.mute_after < number or 0 < options.hang_after < number:
            threading.Event().wait()
        time.sleep(options.latency)
        return number

    def leave(self) -> None:
        """A request has been answered."""
        with self._lock:
            self.running -= 1

    def count(self, prompt: list[str], generated: int) -> None:
        """Add one answered request; the cache remembers the prompt before."""
        with self._lock:
            shared = _shared_words(prompt, self._last_prompt)
            self._last_prompt = prompt
            self.counters["prompt_tokens"] += len(prompt)
            self.counters["generation_tokens"] += generated
            self.counters["prefix_cache_queries"] += len(prompt)
            self.counters["prefix_cache_hits"] += shared

    def metrics(self) -> str:
        """Prometheus text with vLLM's names."""
        with self._lock:
            lines = [f'vllm:{key}_total{{engine="0"}} {float(value)}' for key, value in self.counters.items()]
            lines += [f'vllm:num_requests_running{{engine="0"}} {float(self.running)}']
        return "\n".join([*lines, 'vllm:num_requests_waiting{engine="0"} 0.0', ""])


class Handler(BaseHTTPRequestHandler):
    """The endpoints that the client uses."""

    protocol_version = "HTTP/1.1"
    wbufsize = -1  # head and body in one packet
    disable_nagle_algorithm = True
    server: "Server"

    def do_GET(self) -> None:
        """/health, /v1/models, /metrics."""
        state = self.server.state
        if 0 < state.options.mute_after < state.requests:
            threading.Event().wait()
        if self.path == "/health":
            self._send(200, b"")
        elif self.path == "/v1/models":
            self._send_json(200, {"object": "list", "data": [{"id": state.options.served_model_name}]})
        elif self.path == "/metrics":
            self._send(200, state.metrics().encode(), "text/plain")
        else:
            self._error(404, "Not Found")

    def do_POST(self) -> None:
        """/v1/chat/completions, /v1/completions and /tokenize."""
        body = json.loads(self.rfile.read(int(self.headers.get("content-length", 0))))
        state = self.server.state
        number = state.arrive()
        try:
            if state.options.fail_every and number % state.options.fail_every == 0:
                self._error(500, "failing, as told")
            elif self.path == "/v1/chat/completions":
                self._answer(body, [str(message["content"]) for message in body["messages"]], chat=True)
            elif self.path == "/v1/completions" and isinstance(body["prompt"], list):
                self._choose(body, fake_choices.untokenise(body["prompt"]))
            elif self.path == "/v1/completions":
                self._answer(body, [str(body["prompt"])], chat=False)
            elif self.path == "/tokenize":
                self._tokenise(body)
            else:
                self._error(404, "Not Found")
        finally:
            state.leave()

    def _answer(self, body: dict[str, Any], texts: list[str], *, chat: bool) -> None:
        options = self.server.state.options
        if body.get("model") != options.served_model_name:
            self._error(404, f"The model `{body.get('model')}` does not exist.")
            return
        if options.poison and not zlib.crc32(" ".join(texts).encode()) % options.poison:
            self._error(500, "this text always fails, as told")
            return
        prompt = " ".join(texts).split()
        if refused := _refusal(body, len(prompt), options.max_model_len):
            self._error(400, refused)
            return
        room = options.max_model_len - len(prompt)
        body["max_tokens"] = min(room, int(body.get("max_tokens") or room))
        replies = [reply_to(options.seed, texts, sample, body) for sample in range(int(body.get("n") or 1))]
        generated = sum(len(reply.tokens) for reply in replies)
        self.server.state.count(prompt, generated)
        shape = _chat_choice if chat else _text_choice
        self._send_json(
            200,
            {
                "object": "chat.completion" if chat else "text_completion",
                "model": options.served_model_name,
                "choices": [shape(index, reply) for index, reply in enumerate(replies)],
                "usage": {"prompt_tokens": len(prompt), "completion_tokens": generated},
            },
        )

    def _tokenise(self, body: dict[str, Any]) -> None:
        text = body.get("prompt")
        if text is None:
            text = fake_choices.conversation(body["messages"], begun=bool(body.get("continue_final_message")))
        split = self.server.state.options.split_digits
        tokens = fake_choices.tokenise(text, split_digits=split)
        limit = self.server.state.options.max_model_len
        self._send_json(200, {"count": len(tokens), "max_model_len": limit, "tokens": tokens})

    def _choose(self, body: dict[str, Any], text: str) -> None:
        """Next tokens by number, the likeliest or those asked for: all that a prompt of token ids is for."""
        options, prompt = self.server.state.options, text.split()
        if refused := _refusal(body, len(prompt), options.max_model_len):
            self._error(400, refused)
            return
        self.server.state.count(prompt, 1)
        likely = fake_choices.next_token(options.seed, text)
        self._send_json(
            200,
            {
                "object": "text_completion",
                "model": options.served_model_name,
                "choices": [_ranked_choice(likely, body)],
                "usage": {"prompt_tokens": len(prompt), "completion_tokens": 1},
            },
        )

    def _error(self, status: int, message: str) -> None:
        self._send_json(status, {"error": {"message": message, "type": "FakeError", "code": status}})

    def _send_json(self, status: int, value: Any) -> None:
        self._send(status, json.dumps(value).encode(), "application/json")

    def _send(self, status: int, content: bytes, kind: str = "text/plain") -> None:
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        """Requests are not logged."""


class Server(ThreadingHTTPServer):
    """One thread per connection."""

    daemon_threads = True
    request_queue_size = 1024

    def __init__(self, state: State) -> None:
        self.state = state
        super().__init__(("127.0.0.1", state.options.port), Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up is no error."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


def _shared_words(one: list[str], other: list[str]) -> int:
    """Length of the common start."""
    pairs = zip(one, other, strict=False)
    return sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs))


def _refusal(body: dict[str, Any], prompt_tokens: int, limit: int) -> str | None:
    """What vLLM answers with status 400, in its wording."""
    if prompt_tokens >= limit:
        return (
            f"This model's maximum context length is {limit} tokens. However, your prompt contains "
            f"{prompt_tokens} input tokens, which exceeds this limit even without any output tokens. "
            "Please reduce the length of the input prompt."
        )
    try:
        re.compile((body.get("structured_outputs") or {}).get("regex") or "")
    except re.error as error:
        return f"Invalid regex: {error}"
    return None


def _chat_choice(index: int, reply: Reply) -> dict[str, Any]:
    content: list[dict[str, Any]] = [
        {"token": token, "logprob": logprob, "bytes": None, "top_logprobs": []}
        for token, logprob in zip(reply.tokens, reply.logprobs, strict=True)
    ]
    return {
        "index": index,
        "message": {"role": "assistant", "content": reply.text},
        "logprobs": {"content": content},
        "finish_reason": reply.finish_reason,
    }


def _text_choice(index: int, reply: Reply) -> dict[str, Any]:
    return {
        "index": index,
        "text": reply.text,
        "logprobs": {"tokens": reply.tokens, "token_logprobs": reply.logprobs},
        "finish_reason": reply.finish_reason,
    }


def _ranked_choice(likely: dict[str, float], body: dict[str, Any]) -> dict[str, Any]:
    asked = [chr(token) for token in body.get("logprob_token_ids") or ()]
    first = next(iter(likely))
    named = [first, *(token for token in asked if token in likely)] if asked else list(likely)
    top = {f"token_id:{ord(token)}": math.log(likely[token]) for token in named[: body["logprobs"] + 1]}
    name = f"token_id:{ord(first)}"
    logprobs = {"tokens": [name], "token_logprobs": [top[name]], "top_logprobs": [top]}
    return {"index": 0, "text": first, "logprobs": logprobs, "finish_reason": "length"}


def parse_options(argv: list[str] | None = None) -> argparse.Namespace:
    """The flags: what is served, and how it misbehaves."""
    parser = argparse.ArgumentParser(description="A server of scripted replies, for tests.")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one and prints it")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--fixed-replies", action="store_true", help="the same replies for every seed")
    parser.add_argument("--served-model-name", default="fake")
    parser.add_argument("--max-model-len", type=int, default=8192, help="words of prompt and reply together")
    parser.add_argument("--split-digits", action="store_true", help="two tokens for every digit")
    parser.add_argument("--latency", type=float, default=0.0, help="seconds that every request takes")
    parser.add_argument("--fail-every", type=int, default=0, help="status 500 for every k-th request")
    parser.add_argument("--poison", type=int, default=0, help="status 500, always, for one text of k")
    parser.add_argument("--die-after", type=int, default=0, help="exit at the request after the k-th")
    parser.add_argument("--hang-after", type=int, default=0, help="never answer after the k-th request")
    parser.add_argument(
        "--mute-after", type=int, default=0, help="after it, answer nothing at all, /metrics too"
    )
    parser.add_argument("--max-num-seqs", type=int, default=1, help="sequences that it works on at once")
    parser.add_argument(
        "--largest-batch", type=int, default=0, help="out of memory at start with more than k"
    )
    parser.add_argument("--exit-at-start", type=int, default=0, help="exit at once with this status")
    parser.add_argument("--start-delay", type=float, default=0.0, help="seconds before it listens")
    parser.add_argument("--detach", action="store_true", help="start a child in a session of its own")
    options = parser.parse_args(argv)
    if options.fixed_replies:
        options.seed = 0
    return options


def main() -> None:
    """Serve until killed."""
    options = parse_options()
    if options.exit_at_start:
        print(f"exiting at once with status {options.exit_at_start}, as told", flush=True)
        sys.exit(options.exit_at_start)
    if 0 < options.largest_batch < options.max_num_seqs:
        print(f"out of memory: no room for {options.max_num_seqs} sequences, as told", flush=True)
        sys.exit(1)
    if options.detach:
        sleeper = "import time; time.sleep(100000)"
        subprocess.Popen([sys.executable, "-c", sleeper], start_new_session=True)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    time.sleep(options.start_delay)
    server = Server(State(options))
    print(f"serving on port {server.server_address[1]}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
