"""The watch over a server: one that hangs is declared dead, one that is slow, idle or moving is not."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from selfreward.config import Settings
from selfreward.engines.base import EngineStatistics
from selfreward.errors import EngineError, StoreUnavailable
from selfreward.stages import session
from selfreward.stages.pump import first_of
from selfreward.stages.workplace import Drained, Workplace

Figures = Callable[[], EngineStatistics]
STALL_S = 0.3


class Scripted:
    """A server that tells what it is told to."""

    def __init__(self, figures: Figures) -> None:
        self._figures = figures
        self.died = asyncio.Event()
        self.looks = 0
        self.looked = asyncio.Event()
        self.cause = ""

    async def statistics(self) -> EngineStatistics:
        self.looks += 1
        if self.looks > 2 * session.LOOKS:
            self.looked.set()
        return self._figures()

    def declare_dead(self, cause: str) -> None:
        self.cause = cause
        self.died.set()


def figures(made: int = 0, running: int = 0, waiting: int = 0) -> EngineStatistics:
    return EngineStatistics(
        prompt_tokens=7,
        generated_tokens=made,
        running=running,
        waiting=waiting,
        prefix_cache_queries=0,
        prefix_cache_hits=0,
    )


def silent() -> EngineStatistics:
    raise EngineError("does not tell its statistics")


class Watched:
    """A server under watch, and what was written about it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, tell: Figures, event: Any = None) -> None:
        self.server = Scripted(tell)
        self.events: list[tuple[str, dict[str, Any]]] = []

        @asynccontextmanager
        async def serve(*_: Any, **__: Any) -> AsyncIterator[Scripted]:
            yield self.server

        monkeypatch.setattr(session, "serve", serve)
        journal = SimpleNamespace(event=event or self._write)
        settings = Settings.model_validate({"engine": {"stall_timeout_s": STALL_S}})
        parts: dict[str, Any] = {
            "store": SimpleNamespace(journal=journal),
            "run": SimpleNamespace(id=1),
            "iteration": SimpleNamespace(id=1),
            "checkpoint": None,
            "reporter": SimpleNamespace(say=lambda *_, **__: None),
        }
        stop = asyncio.Event()
        self.place = Workplace(directory=Path(), settings=settings, fence=1, stop=stop, **parts)

    def _write(self, _run: int, kind: str, _message: str, _iteration: int, **data: Any) -> None:
        self.events.append((kind, data))


def watch(monkeypatch: pytest.MonkeyPatch, tell: Figures, event: Any = None) -> Watched:
    """Watch a server until it is declared dead, or has been looked at for twice as long as that takes."""

    async def scenario() -> Watched:
        watched = Watched(monkeypatch, tell, event)
        async with asyncio.timeout(20), session.served(watched.place, Path(), seed=0):
            await first_of(watched.server.died.wait(), watched.server.looked.wait())
        return watched

    return asyncio.run(scenario())


@pytest.mark.parametrize(
    "tell",
    [lambda: figures(5, running=2), lambda: figures(5, waiting=1), silent],
    ids=["runs", "waits", "mute"],
)
def test_work_without_progress_is_hanging(monkeypatch: pytest.MonkeyPatch, tell: Figures) -> None:
    watched = watch(monkeypatch, tell)
    assert "hangs" in watched.server.cause and "engine.stall_timeout_s" in watched.server.cause
    [(kind, data)] = watched.events
    assert kind == "engine_stalled" and data["seconds"] >= STALL_S


def test_a_server_with_nothing_to_do_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not watch(monkeypatch, lambda: figures(5)).server.died.is_set()


def test_a_server_that_makes_tokens_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    made = count()
    assert not watch(monkeypatch, lambda: figures(next(made) // 5, running=2)).server.died.is_set()


def test_a_hanging_server_is_ended_though_nobody_can_write_it_down(monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*_: Any, **__: Any) -> None:
        raise StoreUnavailable("locked")

    assert watch(monkeypatch, lambda: figures(5, running=1), away).server.died.is_set()


def test_a_stop_while_the_server_starts_does_not_wait_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    ended: list[bool] = []

    @asynccontextmanager
    async def never(*_: Any, **__: Any) -> AsyncIterator[None]:
        try:
            await asyncio.Event().wait()
            yield None
        finally:
            ended.append(True)

    async def scenario() -> None:
        watched = Watched(monkeypatch, silent)
        monkeypatch.setattr(session, "serve", never)
        asyncio.get_running_loop().call_later(0.05, watched.place.stop.set)
        async with asyncio.timeout(10):
            with pytest.raises(Drained):
                async with session.served(watched.place, Path(), seed=0):
                    pass

    asyncio.run(scenario())
    assert ended == [True]


@pytest.mark.parametrize("refused", [False, True], ids=["written", "refused"])
def test_what_a_server_has_done_is_noted_while_it_lives(
    monkeypatch: pytest.MonkeyPatch, refused: bool
) -> None:
    """Who watches reads it; a database that is away keeps nobody from working."""
    noted: list[tuple[int, int, int]] = []
    ended: list[tuple[int, int | None, int | None]] = []
    monkeypatch.setattr(session, "NOTE_EVERY_S", 0.01)

    async def scenario() -> None:
        enough, loop = asyncio.Event(), asyncio.get_running_loop()

        def note(*told: int) -> None:
            noted.append((told[0], told[1], told[2]))
            if len(noted) > 2:
                loop.call_soon_threadsafe(enough.set)
            if refused:
                raise StoreUnavailable("locked")

        runs = SimpleNamespace(
            begin_session=lambda *_: 7,
            session_ready=lambda *_: None,
            note_session=note,
            end_session=lambda *told: ended.append(told),
        )
        place = Watched(monkeypatch, lambda: figures(5)).place
        place.store.runs = runs  # type: ignore[assignment]
        checkpoint: Any = SimpleNamespace(id=1, name="M_1", path="models/M_1")
        async with (
            asyncio.timeout(20),
            session.engine_session(replace(place, checkpoint=checkpoint)) as (_, key),
        ):
            assert key == 7
            await enough.wait()

    asyncio.run(scenario())
    assert set(noted) == {(7, 7, 5)} and ended == [(7, 7, 5)]
