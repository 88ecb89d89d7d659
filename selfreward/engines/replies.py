"""What an OpenAI-compatible server sends, read into our own rows and errors."""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import httpx

from selfreward.engines.base import EngineStatistics, PromptTooLong, RequestFailed
from selfreward.types import Completion

# What vLLM writes for minus infinity, which JSON cannot say.
CLAMPED_LOGPROB = -9999.0
# The last one is what vLLM says of a prompt that fits but leaves no room for a reply.
_TOO_LONG = re.compile(
    r"maximum context length|context length \(|maximum model length|max_tokens must be at least 1",
    re.IGNORECASE,
)


def parse_metrics(text: str) -> EngineStatistics:
    """The counters of vLLM's Prometheus page, summed over its engines; 0 where one is missing."""
    totals: dict[str, float] = {}
    for name, value in re.findall(r"^vllm:(\w+)(?:\{.*\})? (\S+)", text, re.MULTILINE):
        totals[name] = totals.get(name, 0.0) + float(value)

    def count(name: str) -> int:
        return int(totals.get(name, 0))

    return EngineStatistics(
        prompt_tokens=count("prompt_tokens_total"),
        generated_tokens=count("generation_tokens_total"),
        running=count("num_requests_running"),
        waiting=count("num_requests_waiting"),
        prefix_cache_queries=count("prefix_cache_queries_total"),
        prefix_cache_hits=count("prefix_cache_hits_total"),
    )


def mean_logprob(logprobs: Sequence[float | None]) -> float | None:
    """Mean in nats, None when there are none or when one is missing or not finite."""
    numbers = [value for value in logprobs if value is not None]
    if not numbers or len(numbers) < len(logprobs):
        return None
    if not all(math.isfinite(value) and value > CLAMPED_LOGPROB for value in numbers):
        return None
    return math.fsum(numbers) / len(numbers)


def completions(
    reply: Mapping[str, Any], n: int, read: Callable[[Mapping[str, Any]], tuple[str, list[float | None]]]
) -> list[Completion]:
    """The choices of a reply in the order of their index."""
    choices = sorted(reply["choices"], key=lambda choice: int(choice["index"]))
    if len(choices) != n:
        raise RequestFailed(f"asked for {n} replies, the server sent {len(choices)}")
    usage = reply.get("usage") or {}
    share = int(usage.get("completion_tokens") or 0) // n
    return [_completion(choice, *read(choice), share) for choice in choices]


def _completion(choice: Mapping[str, Any], text: str, logprobs: list[float | None], share: int) -> Completion:
    """`share` stands in for the number of tokens where a server sends no log-probabilities."""
    return Completion(
        text=text,
        finish_reason=choice.get("finish_reason") or "unknown",
        token_count=len(logprobs) or share,
        mean_logprob=mean_logprob(logprobs),
    )


def chat_choice(choice: Mapping[str, Any]) -> tuple[str, list[float | None]]:
    """Text and log-probabilities of a choice of /v1/chat/completions."""
    tokens = (choice.get("logprobs") or {}).get("content") or []
    return choice["message"].get("content") or "", [token.get("logprob") for token in tokens]


def text_choice(choice: Mapping[str, Any]) -> tuple[str, list[float | None]]:
    """Text and log-probabilities of a choice of /v1/completions."""
    return choice["text"], (choice.get("logprobs") or {}).get("token_logprobs") or []


def error_message(response: httpx.Response) -> str:
    """The server's own words: `{"error": {"message": …}}`, or whatever it sent."""
    try:
        message = str(response.json()["error"]["message"])
    except (ValueError, KeyError, TypeError):
        message = response.text
    return f"HTTP {response.status_code}: {message[:1000]}"


def refusal(status: int, message: str) -> Exception:
    """The error for a 4xx reply: is it only the length of the prompt?"""
    if status in (400, 413, 422) and _TOO_LONG.search(message):
        return PromptTooLong(message)
    return RequestFailed(message)
