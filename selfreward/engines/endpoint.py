"""An OpenAI-compatible endpoint that somebody else runs, as an `Engine`: to judge, or to write prompts.

Nothing of vLLM's own is used: no metrics, no health page, no guided format, no log-probabilities.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from json import JSONDecodeError
from typing import Any
from urllib.parse import urlsplit

import httpx

from selfreward.config import SamplingSettings
from selfreward.engines.base import ChatMessage, Engine, EngineStatistics, RequestFailed
from selfreward.engines.replies import chat_choice, completions, refusal, text_choice
from selfreward.engines.transport import KEEPALIVE_S, Patience, TimedOut, Transient, Transport
from selfreward.errors import BadInput, EngineError
from selfreward.types import Choice, Completion

TRIES = 6
# Others share a public endpoint; one that limits the rate asks for pauses of this order.
LONGEST_PAUSE_S = 20.0
API = "/v1"


@asynccontextmanager
async def connect(
    url: str,
    model: str,
    *,
    api_key_env: str = "",
    request_timeout_s: float = 600,
    concurrency: int = 8,
    transport: httpx.AsyncBaseTransport | None = None,
) -> AsyncIterator[Engine]:
    """`model` at the base address `url`; nothing is asked before the first request.

    `api_key_env` names the environment variable with the key, which is sent as a bearer token. At most
    `concurrency` requests are under way at once. Raises BadInput for an address that is none and for a
    variable that is not set. Refused keys, unknown models and an endpoint that cannot be reached raise
    EngineError from the request that meets them.
    """
    patience = Patience(request_timeout_s=request_timeout_s, tries=TRIES, longest_pause_s=LONGEST_PAUSE_S)
    endpoint = Endpoint(_base(url), model, _key(api_key_env), api_key_env, patience, concurrency, transport)
    try:
        yield endpoint
    finally:
        await endpoint.close()


class Endpoint:
    """`Engine` over the part of OpenAI's interface that every endpoint has."""

    def __init__(
        self,
        url: str,
        model: str,
        key: str,
        key_name: str,
        patience: Patience,
        concurrency: int,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self.seed = 0  # not ours to choose
        self.description = f"{model} at {url}"
        self.died = asyncio.Event()
        self._model, self._key_name, self._patience = model, key_name, patience
        self._slots = asyncio.Semaphore(concurrency)
        self._running = self._prompt_tokens = self._generated_tokens = 0
        self._http = Transport(
            url,
            patience,
            refusal=self._refusal,
            limits=httpx.Limits(max_keepalive_connections=concurrency, keepalive_expiry=KEEPALIVE_S),
            headers={"authorization": f"Bearer {key}"} if key else None,
            trust_env=True,  # it may lie behind a proxy
            transport=transport,
        )

    @property
    def alive(self) -> bool:
        """Always: it is not ours to start again."""
        return True

    async def chat(
        self,
        messages: Sequence[ChatMessage],
        sampling: SamplingSettings,
        n: int,
        regex: str | None = None,
        stop: Sequence[str] = (),
    ) -> list[Completion]:
        """See `Engine.chat`. In `n` requests: not every endpoint knows `n`. `regex` raises EngineError."""
        if regex is not None:
            raise self._unable("force a reply into a format", "Set judge.guided = false.")
        body = {"messages": list(messages), **self._sampling(sampling, stop)}
        replies = await asyncio.gather(*(self._post("/chat/completions", body) for _ in range(n)))
        return [completions(reply, 1, chat_choice)[0] for reply in replies]

    async def complete(
        self, prompt: str, sampling: SamplingSettings, n: int, stop: Sequence[str] = ()
    ) -> list[Completion]:
        """See `Engine.complete`."""
        body = {"prompt": prompt, **self._sampling(sampling, stop)}
        replies = await asyncio.gather(*(self._post("/completions", body) for _ in range(n)))
        return [completions(reply, 1, text_choice)[0] for reply in replies]

    async def choose(self, messages: Sequence[ChatMessage], stem: str, choices: Sequence[str]) -> Choice:
        """Raises EngineError: to go on from a begun reply takes a server of our own."""
        raise self._unable(
            "tell the probabilities of given choices",
            'Set judge.score = "sampled", or judge.type = "pairwise", or have the engine serve it.',
        )

    async def statistics(self) -> EngineStatistics:
        """What this client has asked and got, by the endpoint's own count of tokens."""
        return EngineStatistics(
            prompt_tokens=self._prompt_tokens,
            generated_tokens=self._generated_tokens,
            running=self._running,
            waiting=0,
            prefix_cache_queries=0,
            prefix_cache_hits=0,
        )

    async def close(self) -> None:
        """Drop the connections."""
        await self._http.close()

    def _sampling(self, sampling: SamplingSettings, stop: Sequence[str]) -> dict[str, Any]:
        body = {
            "model": self._model,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "max_tokens": sampling.max_tokens,
        }
        return {**body, "stop": list(stop)} if stop else body

    async def _post(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """A reply with its choices."""
        async with self._slots:
            self._running += 1
            try:
                reply = await self._http.post(API + path, body)
            except Transient as error:
                raise self._failure(error) from error
            except TimedOut:
                raise self._too_slow() from None
            except JSONDecodeError as error:
                raise self._stranger("not JSON") from error
            finally:
                self._running -= 1
        if not isinstance(reply, dict) or not reply.get("choices"):
            raise self._stranger("no choices")
        self._count(reply.get("usage") or {})
        return reply

    def _count(self, usage: Mapping[str, Any]) -> None:
        self._prompt_tokens += int(usage.get("prompt_tokens") or 0)
        self._generated_tokens += int(usage.get("completion_tokens") or 0)

    def _refusal(self, status: int, message: str) -> Exception:
        """What concerns every request is the endpoint's error, the rest this request's own."""
        if status in (401, 403):
            name = self._key_name or "the variable that its api_key_env names, beside its url in the settings"
            return EngineError(f"{self.description} refuses the key: {message}", f"Check {name}.")
        if status in (404, 405):
            hint = "Check the model's name and the address, which is given without /v1."
            return EngineError(f"{self.description} is not there: {message}", hint)
        return refusal(status, message)

    def _failure(self, error: Transient) -> Exception:
        """Tries have run out."""
        if error.status == 429:
            hint = "Wait until the limit is lifted, or lower engine.concurrency."
            return EngineError(f"{self.description} limits the rate: {error}", hint)
        if error.status:
            return RequestFailed(f"{self.description} failed {self._patience.tries} times: {error}")
        return EngineError(f"{self.description} cannot be reached: {error}", "Check the address.")

    def _too_slow(self) -> RequestFailed:
        limit = self._patience.request_timeout_s
        return RequestFailed(f"{self.description} took longer than {limit:g} s", "Raise request_timeout_s.")

    def _stranger(self, what: str) -> EngineError:
        return EngineError(
            f"{self.description} does not answer as OpenAI's interface does: {what}",
            "Check the address, which is given without /v1.",
        )

    def _unable(self, what: str, hint: str) -> EngineError:
        return EngineError(f"{self.description} is an endpoint of somebody else's and cannot {what}", hint)


def _base(url: str) -> str:
    """The address without /v1, which people give with and without."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise BadInput(
            f"{url!r} is no address of an endpoint", "Give one like https://host:port, without /v1."
        )
    return url.rstrip("/").removesuffix(API)


def _key(name: str) -> str:
    if not name:
        return ""
    key = os.environ.get(name, "").strip()
    if not key:
        raise BadInput(
            f"the environment variable {name}, which should hold the endpoint's key, is not set",
            f"Set {name}, or leave api_key_env empty for an endpoint without a key.",
        )
    if not key.isascii() or not key.isprintable():
        raise BadInput(f"the key in the environment variable {name} has characters that no key has")
    return key
