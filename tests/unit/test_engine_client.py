"""The client against scripted replies, without a server."""

import asyncio
import json
import math
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfreward.config import SamplingSettings
from selfreward.engines import client as client_module
from selfreward.engines.base import EngineDied, PromptTooLong, RequestFailed
from selfreward.engines.client import TRIES, EngineClient
from selfreward.engines.replies import mean_logprob, parse_metrics
from selfreward.errors import EngineError
from selfreward.types import Completion

Answer = Callable[[httpx.Request], httpx.Response]
SAMPLING = SamplingSettings(temperature=0.3, top_p=0.8, top_k=7, max_tokens=9)


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tries follow each other at once."""
    monkeypatch.setattr(client_module, "LONGEST_PAUSE_S", 0.0)
    monkeypatch.setattr(client_module, "EXIT_WAIT_S", 0.05)


def choice(index: int, text: str, logprobs: list[float | None], finish: str = "stop") -> dict[str, Any]:
    """One choice of a chat reply."""
    content = [{"token": "t", "logprob": value} for value in logprobs]
    message = {"role": "assistant", "content": text}
    return {"index": index, "message": message, "logprobs": {"content": content}, "finish_reason": finish}


def replying(*choices: dict[str, Any], **rest: Any) -> Answer:
    """A server that always says the same."""
    return lambda request: httpx.Response(200, json={"choices": list(choices), **rest})


def failing(status: int, message: str) -> Answer:
    """A healthy server that refuses every request."""

    def answer(request: httpx.Request) -> httpx.Response:
        if request.method == "GET":
            return httpx.Response(200, text="m")
        return httpx.Response(status, json={"error": {"message": message}})

    return answer


def talk(answer: Answer, use: Callable[[EngineClient], Any]) -> Any:
    """What `use` makes of a client whose server is `answer`."""

    async def session() -> Any:
        engine = EngineClient(
            url="http://engine",
            model="m",
            seed=1,
            description="scripted",
            request_timeout_s=0.2,
            concurrency=2,
            post_mortem=lambda cause: EngineDied(f"the engine {cause}"),
            transport=httpx.MockTransport(answer),
        )
        try:
            return await use(engine)
        finally:
            await engine.close()

    return asyncio.run(session())


def chat(answer: Answer, n: int = 1, text: str = "hello", **rest: Any) -> Any:
    """Ask once."""
    return talk(answer, lambda engine: engine.chat([{"role": "user", "content": text}], SAMPLING, n, **rest))


def test_a_request_says_everything_and_no_seed() -> None:
    bodies = []

    def answer(request: httpx.Request) -> httpx.Response:
        bodies.append(json.loads(request.content))
        return replying(choice(0, "a", [-1.0]), choice(1, "b", [-1.0]))(request)

    chat(answer, 2, regex="[0-5]", stop=["\n"])
    assert bodies == [
        {
            "model": "m",
            "messages": [{"role": "user", "content": "hello"}],
            "n": 2,
            "temperature": 0.3,
            "top_p": 0.8,
            "top_k": 7,
            "max_tokens": 9,
            "stop": ["\n"],
            "logprobs": True,
            "structured_outputs": {"regex": "[0-5]"},
        }
    ]


def test_choices_come_in_the_order_of_their_index() -> None:
    replies = chat(replying(choice(1, "b", [-3.0], "length"), choice(0, "a", [-1.0, -2.0])), 2)
    assert replies == [
        Completion(text="a", finish_reason="stop", token_count=2, mean_logprob=-1.5),
        Completion(text="b", finish_reason="length", token_count=1, mean_logprob=-3.0),
    ]


def test_too_few_choices_are_a_failure_not_a_short_list() -> None:
    with pytest.raises(RequestFailed, match="asked for 2 replies, the server sent 1"):
        chat(replying(choice(0, "a", [-1.0])), 2)


def test_an_empty_reply_is_empty_text() -> None:
    bare = {"index": 0, "message": {"content": None}, "finish_reason": None}
    assert chat(replying(bare, usage={"completion_tokens": 4})) == [
        Completion(text="", finish_reason="unknown", token_count=4, mean_logprob=None)
    ]


def test_a_lone_surrogate_can_be_sent() -> None:
    assert chat(replying(choice(0, "a", [-1.0])), text="\ud800")


@pytest.mark.parametrize(
    "message",
    [
        "This model's maximum context length is 512 tokens. However, your prompt contains 600 input tokens",
        "Input length (600) exceeds model's maximum context length (512).",
        "The decoder prompt (length 600) is longer than the maximum model length of 512.",
        "max_tokens must be at least 1, got 0.",
    ],
)
def test_a_prompt_that_does_not_fit_is_told_apart(message: str) -> None:
    with pytest.raises(PromptTooLong, match="HTTP 400"):
        chat(failing(400, message))


def test_another_refusal_is_not_tried_again() -> None:
    asked = 0

    def answer(request: httpx.Request) -> httpx.Response:
        nonlocal asked
        asked += request.method == "POST"
        return failing(400, "Grammar error")(request)

    with pytest.raises(RequestFailed, match="HTTP 400: Grammar error"):
        chat(answer)
    assert asked == 1


@pytest.mark.parametrize(
    "trouble", [500, 503, 429, httpx.ConnectError("no"), httpx.RemoteProtocolError("cut")]
)
def test_what_may_pass_is_tried_again(trouble: int | Exception) -> None:
    asked = 0

    def answer(request: httpx.Request) -> httpx.Response:
        nonlocal asked
        asked += 1
        if asked == TRIES:
            return replying(choice(0, "a", [-1.0]))(request)
        if isinstance(trouble, Exception):
            raise trouble
        return httpx.Response(trouble, text="later")

    assert chat(answer)[0].text == "a"


def test_tries_end_and_a_healthy_server_is_not_blamed() -> None:
    asked = 0

    def answer(request: httpx.Request) -> httpx.Response:
        nonlocal asked
        asked += request.method == "POST"
        return failing(500, "broken")(request)

    with pytest.raises(RequestFailed, match=f"failed {TRIES} times: HTTP 500: broken"):
        chat(answer)
    assert asked == TRIES


def test_a_server_without_health_is_dead_for_everyone() -> None:
    async def use(engine: EngineClient) -> None:
        for _ in range(2):
            with pytest.raises(EngineDied, match="no longer answers"):
                await engine.chat([{"role": "user", "content": "x"}], SAMPLING, 1)
        assert not engine.alive
        with pytest.raises(EngineError):
            await engine.statistics()

    talk(lambda request: httpx.Response(503, text="dead"), use)


def test_death_interrupts_a_request_in_flight() -> None:
    async def never(request: httpx.Request) -> httpx.Response:
        await asyncio.Event().wait()
        raise AssertionError

    async def use(engine: EngineClient) -> None:
        request = asyncio.ensure_future(engine.chat([{"role": "user", "content": "x"}], SAMPLING, 1))
        await asyncio.sleep(0)
        engine.declare_dead("ended with status 9")
        with pytest.raises(EngineDied, match="ended with status 9"):
            await request

    talk(never, use)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("logprobs", "mean"),
    [
        ([], None),
        ([-1.0, None], None),
        ([-1.0, -9999.0], None),
        ([-1.0, -math.inf], None),
        ([math.nan], None),
        ([-0.5, -1.5], -1.0),
        ([0.0], 0.0),
    ],
)
def test_a_mean_needs_every_logprob(logprobs: list[float | None], mean: float | None) -> None:
    assert mean_logprob(logprobs) == mean


@given(st.lists(st.floats(max_value=0, min_value=-9000), min_size=1))
def test_a_mean_lies_between_its_numbers(logprobs: list[float]) -> None:
    mean = mean_logprob(logprobs)
    assert mean is not None
    assert min(logprobs) - 1e-9 <= mean <= max(logprobs) + 1e-9


def test_metrics_are_summed_over_the_engines() -> None:
    page = """# HELP vllm:prompt_tokens_total Prompt tokens.
vllm:prompt_tokens_total{engine="0",model_name="a {b} c"} 1.2e+03
vllm:prompt_tokens_total{engine="1",model_name="a {b} c"} 300.0
vllm:prompt_tokens_created{engine="0"} 1.7e+09
vllm:prompt_tokens_by_source_total{engine="0",source="local_compute"} 7.0
vllm:generation_tokens_total{engine="0"} 42.0
vllm:num_requests_running{engine="0"} 3.0
vllm:num_requests_waiting{engine="0"} 2.0
vllm:num_requests_waiting_by_reason{engine="0",reason="capacity"} 9.0
vllm:prefix_cache_queries_total{engine="0"} 100.0
vllm:prefix_cache_hits_total{engine="0"} 81.0
process_cpu_seconds_total 12.0
"""
    found = parse_metrics(page)
    assert (found.prompt_tokens, found.generated_tokens) == (1500, 42)
    assert (found.running, found.waiting) == (3, 2)
    assert (found.prefix_cache_queries, found.prefix_cache_hits) == (100, 81)
    assert parse_metrics("").prompt_tokens == 0
