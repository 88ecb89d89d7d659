"""The contract of an engine: one served checkpoint that the stages can talk to, whatever serves it."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypedDict

from selfreward.config import SamplingSettings
from selfreward.errors import EngineError, SelfRewardError
from selfreward.types import Choice, Completion


class ChatMessage(TypedDict):
    """One turn of a conversation: `role` is system, user or assistant."""

    role: str
    content: str


class PromptTooLong(SelfRewardError):
    """This prompt does not fit the model's context. Trying again is useless; other requests are fine."""


class RequestFailed(SelfRewardError):
    """The server answers others, but not this request: refused, or failed after a few tries."""


class NotOneToken(SelfRewardError):
    """A choice is not one token of this model's tokenizer, so its probability cannot be had in one step."""


class EngineDied(EngineError):
    """The server is gone, or no longer answers anybody: start a new one and ask for what is missing."""


@dataclass(frozen=True, kw_only=True)
class EngineStatistics:
    """What the server has done since it started, and what it is doing now."""

    prompt_tokens: int
    generated_tokens: int
    running: int
    """Sequences being worked on."""
    waiting: int
    """Sequences in the server's queue."""
    prefix_cache_queries: int
    """Prompt tokens looked up in the prefix cache."""
    prefix_cache_hits: int
    """Of those, tokens whose prefill could be skipped."""


class Engine(Protocol):
    """One served checkpoint. Safe for any number of concurrent callers of one event loop."""

    seed: int
    """The seed the server samples from, for the record."""
    description: str
    """What serves, for people: name, version, device."""
    died: asyncio.Event
    """Set once the server is gone; every request then raises EngineDied."""

    @property
    def alive(self) -> bool:
        """Whether the server can still answer."""
        ...

    async def chat(
        self,
        messages: Sequence[ChatMessage],
        sampling: SamplingSettings,
        n: int,
        regex: str | None = None,
        stop: Sequence[str] = (),
    ) -> list[Completion]:
        """`n` replies to one conversation, in one request that shares the prefill.

        `regex` forces the whole reply into a format. A reply ends before the first of `stop`.
        Raises PromptTooLong, RequestFailed or EngineDied.
        """
        ...

    async def complete(
        self, prompt: str, sampling: SamplingSettings, n: int, stop: Sequence[str] = ()
    ) -> list[Completion]:
        """`n` continuations of a raw prompt, without the chat template. Raises as `chat` does."""
        ...

    async def choose(self, messages: Sequence[ChatMessage], stem: str, choices: Sequence[str]) -> Choice:
        """How likely the model is to go on with each of `choices` once its reply has begun with `stem`.

        Probabilities of the next token over the whole vocabulary at temperature 1, whatever is sampled
        with elsewhere; `stem` counts to its last character, a space included. A choice that the server
        does not name among its most likely tokens counts as 0. Raises NotOneToken where a choice is not
        exactly one token after `stem`, EngineError where the server cannot tell, and else as `chat` does.
        """
        ...

    async def statistics(self) -> EngineStatistics:
        """The server's own counters. Raises EngineError when they cannot be had."""
        ...


class ServedEngine(Engine, Protocol):
    """An engine whose server is ours: it can be ended and started anew."""

    url: str
    """Where it serves, for another process that asks it too: the base address, without /v1."""
    model: str
    """The name that it gives the checkpoint."""

    def declare_dead(self, cause: str) -> None:
        """From now on every request raises EngineDied with this cause, those in flight included."""
        ...
