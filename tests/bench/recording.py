"""Watching a generation without touching it: an engine that notes each request, a clock at each commit."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from unittest.mock import patch

from selfreward import loop
from selfreward.config import JudgeSettings, SampleSettings, SamplingSettings, SelfInstructSettings
from selfreward.engines.base import ChatMessage, Engine, EngineStatistics
from selfreward.stages.session import engine_session
from selfreward.stages.workplace import Workplace
from selfreward.types import Choice, Completion, StageName
from tests.bench.quiet import Meter, Reading

STAGES = {
    SelfInstructSettings: StageName.SELF_INSTRUCT,
    SampleSettings: StageName.SAMPLE,
    JudgeSettings: StageName.JUDGE,
}


@dataclass(frozen=True, kw_only=True)
class Request:
    """One request as it went out, when it began and ended (monotonic seconds), and what it brought."""

    stage: StageName
    body: dict[str, Any]
    n: int
    began: float
    ended: float
    tokens: int


@dataclass(kw_only=True)
class Recording:
    """Everything that was asked of the engine of one session."""

    requests: list[Request] = field(default_factory=list)
    statistics: EngineStatistics | None = None
    """The server's own counters at the end."""
    processors: Reading | None = None
    """Where the processors' time went while the server was ready."""

    @asynccontextmanager
    async def session(self, place: Workplace) -> AsyncIterator[tuple[Engine, int]]:
        """`engine_session`, with every request noted."""
        async with engine_session(place) as (engine, session):
            meter = Meter()
            yield RecordingEngine(engine, self), session
            self.processors = meter.read()
            self.statistics = await engine.statistics()


async def generate_recorded(place: Workplace) -> Recording:
    """`loop.generate`, and what it asked of its engine."""
    recording = Recording()
    with patch.object(loop, "engine_session", recording.session):
        await loop.generate(place)
    return recording


class RecordingEngine:
    """An `Engine` that passes everything on to another one and writes it down."""

    def __init__(self, engine: Engine, recording: Recording) -> None:
        self._engine, self._recording = engine, recording
        self.seed, self.description = engine.seed, engine.description
        self.died: asyncio.Event = engine.died

    @property
    def alive(self) -> bool:
        """See `Engine`."""
        return self._engine.alive

    async def chat(
        self,
        messages: Sequence[ChatMessage],
        sampling: SamplingSettings,
        n: int,
        regex: str | None = None,
        stop: Sequence[str] = (),
    ) -> list[Completion]:
        """See `Engine`."""
        began = time.monotonic()
        replies = await self._engine.chat(messages, sampling, n, regex, stop)
        self._note({"messages": list(messages), "regex": regex}, sampling, n, stop, began, replies)
        return replies

    async def complete(
        self, prompt: str, sampling: SamplingSettings, n: int, stop: Sequence[str] = ()
    ) -> list[Completion]:
        """See `Engine`."""
        began = time.monotonic()
        replies = await self._engine.complete(prompt, sampling, n, stop)
        self._note({"prompt": prompt}, sampling, n, stop, began, replies)
        return replies

    async def choose(self, messages: Sequence[ChatMessage], stem: str, choices: Sequence[str]) -> Choice:
        """See `Engine`. Not noted: the `LLM` side has nothing like it, and nothing that is compared asks."""
        return await self._engine.choose(messages, stem, choices)

    async def statistics(self) -> EngineStatistics:
        """See `Engine`."""
        return await self._engine.statistics()

    def _note(
        self,
        asked: dict[str, Any],
        sampling: SamplingSettings,
        n: int,
        stop: Sequence[str],
        began: float,
        replies: Sequence[Completion],
    ) -> None:
        drawn = {"temperature": sampling.temperature, "top_p": sampling.top_p, "top_k": sampling.top_k}
        body = {**asked, **drawn, "max_tokens": sampling.max_tokens, "n": n, "stop": list(stop)}
        tokens = sum(reply.token_count for reply in replies)
        self._recording.requests.append(
            Request(
                stage=STAGES[type(sampling)],
                body=body,
                n=n,
                began=began,
                ended=time.monotonic(),
                tokens=tokens,
            )
        )


class CommitClock:
    """A `Reporter` that remembers when the pumps last said that something is committed."""

    def __init__(self) -> None:
        self.last_commit = 0.0
        self.commits = 0
        self.ended: dict[StageName, float] = {}
        self.details: dict[StageName, str] = {}

    def begin(self, stage: StageName, done: int, total: int | None) -> None:
        """See `Reporter`."""

    def progress(self, stage: StageName, done: int, **figures: float) -> None:
        """See `Reporter`. A pump reports progress right after a commit."""
        self.last_commit = time.monotonic()
        self.commits += 1

    def end(self, stage: StageName, detail: str) -> None:
        """See `Reporter`. The stage's row is marked as done by now."""
        self.last_commit = self.ended[stage] = time.monotonic()
        self.details[stage] = detail

    def say(self, message: str, **data: Any) -> None:
        """See `Reporter`."""
