"""An endpoint that somebody else runs: what it is asked, and what its failures are called."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from selfreward.config import SamplingSettings
from selfreward.engines import endpoint as endpoint_module
from selfreward.engines.base import Engine, PromptTooLong, RequestFailed
from selfreward.engines.endpoint import TRIES, connect
from selfreward.errors import BadInput, EngineError
from selfreward.types import Completion

Answer = Callable[[httpx.Request], httpx.Response]
SAMPLING = SamplingSettings(temperature=0.3, top_p=0.8, top_k=7, max_tokens=9)
GOOD = {
    "choices": [{"index": 0, "message": {"content": "2"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 12, "completion_tokens": 3},
}


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tries follow each other at once."""
    monkeypatch.setattr(endpoint_module, "LONGEST_PAUSE_S", 0.0)


def talk(
    answer: Answer, use: Callable[[Engine], Any], url: str = "https://judge.example", **rest: Any
) -> Any:
    """What `use` makes of an endpoint that is `answer`."""

    async def session() -> Any:
        async with connect(url, "big", transport=httpx.MockTransport(answer), **rest) as engine:
            return await use(engine)

    return asyncio.run(session())


def chat(
    answer: Answer, n: int = 1, regex: str | None = None, stop: tuple[str, ...] = (), **rest: Any
) -> Any:
    """Ask once."""
    message = {"role": "user", "content": "hello"}
    return talk(answer, lambda engine: engine.chat([message], SAMPLING, n, regex=regex, stop=stop), **rest)  # type: ignore[list-item]


def failing(status: int, message: str = "no") -> Answer:
    """An endpoint that refuses."""
    return lambda request: httpx.Response(status, json={"error": {"message": message}})


@pytest.mark.parametrize(
    "url", ["https://judge.example", "https://judge.example/v1/", "https://judge.example/v1"]
)
def test_only_what_every_endpoint_knows_is_asked(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("JUDGE_KEY", " s3cret\n")
    requests: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        requests.append(request)
        return httpx.Response(200, json=GOOD)

    replies = chat(answer, 2, stop=("\n",), url=url, api_key_env="JUDGE_KEY")
    assert replies == [Completion(text="2", finish_reason="stop", token_count=3, mean_logprob=None)] * 2
    assert [str(request.url) for request in requests] == ["https://judge.example/v1/chat/completions"] * 2
    assert [request.headers["authorization"] for request in requests] == ["Bearer s3cret"] * 2
    assert json.loads(requests[0].content) == {
        "model": "big",
        "messages": [{"role": "user", "content": "hello"}],
        "temperature": 0.3,
        "top_p": 0.8,
        "max_tokens": 9,
        "stop": ["\n"],
    }


def test_no_key_sends_no_header() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        assert "authorization" not in request.headers
        return httpx.Response(200, json=GOOD)

    assert chat(answer)[0].text == "2"


def test_a_key_that_is_not_set_is_named_and_no_key_is_ever_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JUDGE_KEY", raising=False)
    with pytest.raises(BadInput, match=r"JUDGE_KEY.*not set"):
        chat(failing(500), api_key_env="JUDGE_KEY")
    monkeypatch.setenv("JUDGE_KEY", "s3crét")
    with pytest.raises(BadInput) as caught:
        chat(failing(500), api_key_env="JUDGE_KEY")
    assert "s3cr" not in str(caught.value)


@pytest.mark.parametrize("url", ["", "judge.example", "ftp://judge.example", "http://"])
def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(BadInput, match="no address"):
        chat(failing(500), url=url)


@pytest.mark.parametrize(
    ("status", "words"), [(401, "refuses the key"), (403, "refuses the key"), (404, "not there")]
)
def test_what_concerns_every_request_is_the_endpoints_error(status: int, words: str) -> None:
    asked = 0

    def answer(request: httpx.Request) -> httpx.Response:
        nonlocal asked
        asked += 1
        return failing(status, "nobody by that name")(request)

    with pytest.raises(
        EngineError, match=f"big at https://judge.example.*{words}.*nobody by that name"
    ) as caught:
        chat(answer)
    assert caught.value.hint
    assert asked == 1


def test_what_concerns_one_request_is_its_own() -> None:
    with pytest.raises(RequestFailed, match="HTTP 400: odd"):
        chat(failing(400, "odd"))
    with pytest.raises(PromptTooLong):
        chat(failing(400, "This model's maximum context length is 8192 tokens."))


def test_a_passing_failure_is_tried_again() -> None:
    asked = 0

    def answer(request: httpx.Request) -> httpx.Response:
        nonlocal asked
        asked += 1
        return httpx.Response(200, json=GOOD) if asked == TRIES else failing(503)(request)

    assert chat(answer)[0].text == "2"


@pytest.mark.parametrize(
    ("status", "error", "words"),
    [(500, RequestFailed, f"failed {TRIES} times"), (429, EngineError, "limits the rate")],
)
def test_tries_end(status: int, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        chat(failing(status))


def test_an_endpoint_that_is_not_there_is_the_endpoints_error() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused")

    with pytest.raises(EngineError, match="cannot be reached"):
        chat(answer)


def test_silence_is_one_requests_own() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        raise httpx.ReadTimeout("slow")

    with pytest.raises(RequestFailed, match="longer than 5 s"):
        chat(answer, request_timeout_s=5)


@pytest.mark.parametrize(
    "page",
    [
        httpx.Response(200, text="<html>Welcome</html>"),
        httpx.Response(200, json=[]),
        httpx.Response(200, json={}),
    ],
)
def test_a_stranger_is_noticed(page: httpx.Response) -> None:
    with pytest.raises(EngineError, match="does not answer as OpenAI's interface does"):
        chat(lambda request: page)


def test_what_takes_a_server_of_our_own_is_refused() -> None:
    message = {"role": "user", "content": "hello"}
    with pytest.raises(EngineError, match="cannot tell the probabilities"):
        talk(failing(500), lambda engine: engine.choose([message], "Score: ", ["1", "2"]))  # type: ignore[list-item]
    with pytest.raises(EngineError, match="cannot force a reply into a format"):
        chat(failing(500), regex="[0-5]")


def test_its_tokens_are_counted_and_it_cannot_die() -> None:
    async def use(engine: Engine) -> Any:
        await engine.chat([{"role": "user", "content": "hello"}], SAMPLING, 2)
        assert engine.alive
        assert not engine.died.is_set()
        return await engine.statistics()

    figures = talk(lambda request: httpx.Response(200, json=GOOD), use)
    assert (figures.prompt_tokens, figures.generated_tokens, figures.running) == (24, 6, 0)


def test_no_more_requests_at_once_than_allowed() -> None:
    running = most = 0

    async def answer(request: httpx.Request) -> httpx.Response:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0)
        running -= 1
        return httpx.Response(200, json=GOOD)

    assert len(chat(answer, 20, concurrency=3)) == 20  # type: ignore[arg-type]
    assert most == 3
