"""A reward model's process for the length of an iteration's judging: started, asked in batches, ended.

It runs under `selfreward.guard` as the engines do: nothing of it outlives the daemon.
"""

import asyncio
import json
import secrets
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import httpx

from selfreward.children import Child, spawn
from selfreward.engines.base import EngineDied, RequestFailed
from selfreward.errors import BadInput, EngineError
from selfreward.stages.reward_models import NamedRewardModel, usable
from selfreward.stages.workplace import Drained, Workplace
from selfreward.training.reward_server import HOST, KEY

LOG = "reward_model.log"
READY = "reward_model.json"
POLL_S = 0.1
USELESS_TO_RETRY = ("bad_model", "missing_package")
MEMORY = (
    "Lower judge.reward_batch_size; on a GPU that the engine shares, lower engine.memory so that both fit."
)


@dataclass(frozen=True, kw_only=True)
class Scored:
    """What the reward model makes of an answer."""

    reward: float | None
    """None when the conversation does not fit its context, or the number is not finite."""
    tokens: int
    """Of the conversation."""
    fits: bool


@asynccontextmanager
async def reward_scorer(place: Workplace) -> AsyncIterator["RewardScorer"]:
    """The reward model that `judge.reward_model` names, loaded; its process is gone when the block is left.

    Raises BadInput for what is no reward model, EngineError when it cannot be started, Drained when asked to
    stop meanwhile.
    """
    model = await usable(place, place.settings.judge.reward_model)
    place.reporter.say(f"loading the reward model {model.name}")
    key, ready = secrets.token_hex(16), place.directory / "logs" / READY
    ready.parent.mkdir(parents=True, exist_ok=True)
    ready.unlink(missing_ok=True)  # of an earlier process
    child = spawn(_command(place, model, ready), ready.with_name(LOG), {KEY: key})
    try:
        told = await _until_ready(place, child, ready)
        place.reporter.say(f"the reward model {model.name} answers: {told['description']}")
        async with _client(told["port"], key, place.engine.request_timeout_s) as http:
            yield RewardScorer(http, child, model, place.settings.judge.reward_batch_size)
    finally:
        await asyncio.shield(_end(child))


def _command(place: Workplace, model: NamedRewardModel, ready: Path) -> list[str]:
    argv = [sys.executable, "-m", "selfreward.training.reward_server", "--ready", str(ready)]
    if place.engine.type == "fake":
        return [*argv, "--fake"]
    batch = str(place.settings.judge.reward_batch_size)
    template_of = str(place.model_path)
    return [*argv, "--model", model.source, "--template-of", template_of, "--batch-size", batch]


async def _until_ready(place: Workplace, child: Child, ready: Path) -> Mapping[str, Any]:
    """What the process says of itself. Its end, a deadline or a stop end the wait."""
    loop = asyncio.get_running_loop()
    limit = place.engine.start_timeout_s
    deadline = loop.time() + limit
    while not ready.is_file():
        if place.stop.is_set():
            raise Drained
        if not child.running and not ready.is_file():
            raise EngineError(f"the reward model's process ended:\n{child.log_tail()}", f"See {child.log}.")
        if loop.time() >= deadline:
            message = f"the reward model was not ready after {limit:g} s (engine.start_timeout_s)"
            raise EngineError(message, f"See {child.log}.")
        await asyncio.sleep(POLL_S)  # a file has no event to wait for
    told: dict[str, Any] = json.loads(ready.read_text(encoding="utf-8"))
    if "error" in told:
        kind = BadInput if told["kind"] in USELESS_TO_RETRY else EngineError
        raise kind(f"the reward model cannot be used: {told['error']}", told["hint"] or MEMORY)
    return told


def _client(port: int, key: str, timeout_s: float) -> httpx.AsyncClient:
    return httpx.AsyncClient(
        base_url=f"http://{HOST}:{port}",
        headers={"authorization": f"Bearer {key}"},
        timeout=timeout_s,
        trust_env=False,
        verify=False,  # nothing to verify on loopback, and reading roots takes 0.1 s
    )


async def _end(child: Child) -> None:
    await asyncio.to_thread(child.kill)
    await child.wait()


class RewardScorer:
    """Scores answers in batches of what is asked for at the same time, one batch after the other."""

    def __init__(
        self, http: httpx.AsyncClient, child: Child, model: NamedRewardModel, batch_size: int
    ) -> None:
        self._http, self._child, self._batch_size = http, child, batch_size
        self.model = model
        self._waiting: dict[asyncio.Future[Scored], dict[str, str]] = {}
        self._turn = asyncio.Lock()

    async def score(self, prompt: str, response: str) -> Scored:
        """The reward of a response. Raises RequestFailed for this one, EngineDied when nobody answers."""
        mine: asyncio.Future[Scored] = asyncio.get_running_loop().create_future()
        self._waiting[mine] = {"prompt": prompt, "response": response}
        try:
            async with self._turn:
                await asyncio.sleep(0)  # whoever asks at this moment comes along
                if not mine.done():
                    await self._lead(mine)
            return mine.result()
        finally:
            self._waiting.pop(mine, None)

    async def _lead(self, mine: asyncio.Future[Scored]) -> None:
        """Score those that have waited longest, this one among them; alone when the batch fails."""
        batch = dict(islice(self._waiting.items(), self._batch_size)) | {mine: self._waiting[mine]}
        try:
            scored = await self._ask(list(batch.values()))
        except RequestFailed:
            if len(batch) == 1:
                raise
            batch = {mine: self._waiting[mine]}
            scored = await self._ask(list(batch.values()))
        for future, one in zip(batch, scored, strict=True):
            self._waiting.pop(future, None)
            if not future.done():
                future.set_result(one)

    async def _ask(self, pairs: list[dict[str, str]]) -> list[Scored]:
        content = json.dumps({"pairs": pairs})  # ASCII: a lone surrogate cannot break the encoding
        try:
            response = await self._http.post("/score", content=content)
        except httpx.TransportError as error:
            raise self._died(error) from error
        if not response.is_success:
            raise RequestFailed(
                f"the reward model failed: {response.json().get('error', response.text)}", MEMORY
            )
        return [Scored(**one) for one in response.json()["scored"]]

    def _died(self, error: httpx.TransportError) -> EngineDied:
        cause = f"does not answer ({error!r})" if self._child.running else "has ended"
        message = f"the process of the reward model {self.model.name} {cause}:\n{self._child.log_tail()}"
        return EngineDied(message, MEMORY)
