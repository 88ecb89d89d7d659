"""One asynchronous client of one OpenAI-compatible endpoint, whoever serves it."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from typing import Any, TypeVar

import httpx

from selfreward.config import SamplingSettings
from selfreward.engines.base import ChatMessage, EngineDied, EngineStatistics, RequestFailed
from selfreward.engines.choosing import Chooser
from selfreward.engines.replies import chat_choice, completions, parse_metrics, refusal, text_choice
from selfreward.engines.transport import KEEPALIVE_S, Patience, TimedOut, Transient, Transport
from selfreward.errors import EngineError
from selfreward.types import Choice, Completion

TRIES = 4
LONGEST_PAUSE_S = 2.0
EXIT_WAIT_S = 10.0
STALL_WINDOW_S = 30.0

_Answer = TypeVar("_Answer")


class EngineClient:
    """`Engine` over HTTP. `post_mortem` makes the error that tells why the server is gone."""

    def __init__(
        self,
        *,
        url: str,
        model: str,
        seed: int,
        description: str,
        request_timeout_s: float,
        concurrency: int,
        post_mortem: Callable[[str], EngineDied],
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self.seed, self.description = seed, description
        self.url, self.model = url, model
        self.died = asyncio.Event()
        self._timeout_s, self._post_mortem = request_timeout_s, post_mortem
        self._cause = ""
        self._http = Transport(
            url,
            Patience(request_timeout_s=request_timeout_s, tries=TRIES, longest_pause_s=LONGEST_PAUSE_S),
            refusal=refusal,
            # Three stages share the server; each holds its requests to `concurrency`.
            limits=httpx.Limits(
                max_connections=None,
                max_keepalive_connections=3 * concurrency,
                keepalive_expiry=KEEPALIVE_S,
            ),
            trust_env=False,  # a proxy has no business between this process and loopback
            transport=transport,
        )
        self._chooser = Chooser(self._post, model)

    @property
    def alive(self) -> bool:
        """Whether the server can still answer, as far as is known."""
        return not self.died.is_set()

    async def chat(
        self,
        messages: Sequence[ChatMessage],
        sampling: SamplingSettings,
        n: int,
        regex: str | None = None,
        stop: Sequence[str] = (),
    ) -> list[Completion]:
        """See `Engine.chat`."""
        body = {"messages": list(messages), "logprobs": True, **self._sampling(sampling, n, stop)}
        if regex is not None:
            body["structured_outputs"] = {"regex": regex}
        reply = await self._post("/v1/chat/completions", body)
        return completions(reply, n, chat_choice)

    async def complete(
        self, prompt: str, sampling: SamplingSettings, n: int, stop: Sequence[str] = ()
    ) -> list[Completion]:
        """See `Engine.complete`."""
        body = {"prompt": prompt, "logprobs": 0, **self._sampling(sampling, n, stop)}
        reply = await self._post("/v1/completions", body)
        return completions(reply, n, text_choice)

    async def choose(self, messages: Sequence[ChatMessage], stem: str, choices: Sequence[str]) -> Choice:
        """See `Engine.choose`."""
        return await self._chooser.choose(messages, stem, choices)

    async def statistics(self) -> EngineStatistics:
        """See `Engine.statistics`."""
        self._check_alive()
        try:
            response = await self._http.get("/metrics", 30)
            response.raise_for_status()
        except httpx.HTTPError as error:
            raise EngineError(f"{self.description} does not tell its statistics: {error!r}") from error
        return parse_metrics(response.text)

    async def healthy(self) -> bool:
        """Whether this very server, and no stranger on its port, says that it can answer."""
        try:
            health = await self._http.get("/health", 10)
            models = await self._http.get("/v1/models", 10) if health.is_success else health
        except httpx.HTTPError:
            return False
        return models.is_success and self.model in models.text

    async def watch(self, exit_status: Awaitable[int]) -> None:
        """Declare the server dead when its process ends."""
        status = await exit_status
        self.declare_dead(f"ended with status {status}")

    def declare_dead(self, cause: str) -> None:
        """From now on every request raises EngineDied, those in flight included."""
        self._cause = self._cause or cause
        self.died.set()

    async def close(self) -> None:
        """Drop the connections."""
        await self._http.close()

    def _sampling(self, sampling: SamplingSettings, n: int, stop: Sequence[str]) -> dict[str, Any]:
        """Never a per-request `seed`: it crashes vLLM's CPU engine."""
        body: dict[str, Any] = {
            "model": self.model,
            "n": n,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "max_tokens": sampling.max_tokens,
        }
        if sampling.top_k:  # no field of OpenAI's: other endpoints may refuse it
            body["top_k"] = sampling.top_k
        return {**body, "stop": list(stop)} if stop else body

    async def _post(self, path: str, body: Mapping[str, Any]) -> Any:
        """The JSON of the reply, after a few tries where trying again may help."""
        try:
            return await self._unless_dead(self._http.post(path, body))
        except Transient as error:
            raise await self._unless_dead(self._blame(str(error))) from error
        except TimedOut as error:
            raise await self._unless_dead(self._blame_for_silence()) from error

    async def _unless_dead(self, work: Coroutine[Any, Any, _Answer]) -> _Answer:
        """The result of `work`, or EngineDied as soon as the server is gone."""
        task = asyncio.ensure_future(work)
        death = asyncio.ensure_future(self.died.wait())
        try:
            await asyncio.wait({task, death}, return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                self._check_alive()
            return task.result()
        finally:
            task.cancel()
            death.cancel()
            await asyncio.gather(task, death, return_exceptions=True)

    def _check_alive(self) -> None:
        if self.died.is_set():
            raise self._post_mortem(self._cause)

    async def _blame(self, failure: str) -> Exception:
        """Is it the request or the server that fails? A server that is going down may take a moment."""
        if await self.healthy():
            return RequestFailed(f"the request failed {TRIES} times: {failure}")
        try:
            await asyncio.wait_for(self.died.wait(), EXIT_WAIT_S)
        except TimeoutError:
            self.declare_dead(f"no longer answers ({failure})")
        return self._post_mortem(self._cause)

    async def _blame_for_silence(self) -> Exception:
        """A slow server makes progress on something; a stalled one on nothing."""
        if await self._stalled():
            self.declare_dead(f"answered nothing for {self._timeout_s:g} s and makes no progress")
            return self._post_mortem(self._cause)
        return RequestFailed(
            f"the request took longer than {self._timeout_s:g} s",
            "The server is only slow: raise engine.request_timeout_s, or lower engine.concurrency.",
        )

    async def _stalled(self) -> bool:
        loop = asyncio.get_running_loop()
        end = loop.time() + min(STALL_WINDOW_S, self._timeout_s)
        try:
            before = await self.statistics()
            while loop.time() < end:
                await asyncio.sleep(min(1.0, self._timeout_s / 4))  # a counter has no event to wait for
                now = await self.statistics()
                done = now.generated_tokens, now.prompt_tokens
                if done != (before.generated_tokens, before.prompt_tokens):
                    return False
        except EngineError:
            return True
        return True
