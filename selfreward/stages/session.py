"""An engine serving M_t for the length of an iteration's generation: recorded as a row, and watched."""

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path

from selfreward.crash import crash_point
from selfreward.engines import serve
from selfreward.engines.base import Engine, EngineStatistics, ServedEngine
from selfreward.errors import EngineError, SelfRewardError, StoreError
from selfreward.stages.pump import first_of
from selfreward.stages.workplace import Drained, Workplace

LOOKS = 10
"""Within the time after which a server counts as hanging …"""
LONGEST_PAUSE_S = 10.0
"""… or more, so that the pauses between them are no longer than this."""
LAST_FIGURES_S = 5.0
NOTE_EVERY_S = 5.0
"""Who watches the run learns from these notes how fast tokens are made."""


@asynccontextmanager
async def engine_session(place: Workplace) -> AsyncIterator[tuple[ServedEngine, int]]:
    """(engine, session id). The server is gone, and its memory free, when the block is left.

    Every session samples from a fresh seed, which is recorded: a server that starts anew with the same
    seed would write the same texts again. Raises Drained when asked to stop while it starts.
    """
    runs, kind = place.store.runs, place.engine.type
    seed = secrets.randbelow(2**31)
    session = await asyncio.to_thread(runs.begin_session, place.iteration.id, place.checkpoint.id, kind, seed)
    crash_point("engine:starting")
    place.reporter.say(f"starting the engine on {place.checkpoint.name}", engine=kind)
    async with served(place, place.model_path, seed) as engine:
        await asyncio.to_thread(runs.session_ready, session)
        crash_point("engine:ready")
        place.reporter.say("the engine answers")
        noting = asyncio.create_task(_note(place, engine, session))
        try:
            yield engine, session
        finally:
            noting.cancel()
            await asyncio.wait([noting])
            await _close(place, engine, session)


@asynccontextmanager
async def served(place: Workplace, model: Path, seed: int) -> AsyncIterator[ServedEngine]:
    """A server of `model` with as much at once as it is trusted with now. One that hangs counts as dead.

    Raises Drained when asked to stop while it starts.
    """
    async with AsyncExitStack() as stack:
        server = serve(model, place.engine, log_dir=place.directory / "logs", seed=seed)
        engine = await _unless_stopped(place, asyncio.create_task(stack.enter_async_context(server)))
        watching = asyncio.create_task(_watch(place, engine))
        try:
            yield engine
        finally:
            watching.cancel()
            await asyncio.wait([watching])
            if not watching.cancelled():
                watching.result()


async def _unless_stopped(place: Workplace, starting: "asyncio.Task[ServedEngine]") -> ServedEngine:
    try:
        await first_of(asyncio.wait([starting]), place.stop.wait())
        if not starting.done():
            raise Drained
        return starting.result()
    finally:
        if not starting.done():
            starting.cancel()
            await asyncio.wait([starting])


async def _watch(place: Workplace, engine: ServedEngine) -> None:
    """Declare the server dead when it has work and makes no token, or does not tell, for too long."""
    limit = place.engine.stall_timeout_s
    pause = min(limit / LOOKS, LONGEST_PAUSE_S)
    still, before, seen = 0.0, asyncio.get_running_loop().time(), None
    while still < limit:
        await asyncio.sleep(pause)  # counters have no event to wait for
        figures = await _figures(engine, limit)
        if engine.died.is_set():
            return
        now = asyncio.get_running_loop().time()
        # At most two pauses are counted: a process that slept as a whole has not been watching.
        still, before = still + min(now - before, 2 * pause), now
        if figures is not None and (not figures.running + figures.waiting or _made(figures) != seen):
            still, seen = 0.0, _made(figures)
    await _declare_hanging(place, engine, still)


async def _note(place: Workplace, engine: Engine, session: int) -> None:
    """Write down from time to time what the server has done, as long as it lives and that can be written."""
    while True:
        await asyncio.sleep(NOTE_EVERY_S)
        figures = await _figures(engine, NOTE_EVERY_S)
        if figures is not None:
            with suppress(SelfRewardError):  # the work goes on without
                read, written = _made(figures)
                await asyncio.to_thread(place.store.runs.note_session, session, read, written)


def _made(figures: EngineStatistics) -> tuple[int, int]:
    return figures.prompt_tokens, figures.generated_tokens


async def _figures(engine: Engine, patience_s: float) -> EngineStatistics | None:
    """None when the server cannot tell."""
    with suppress(EngineError, TimeoutError):
        async with asyncio.timeout(patience_s):
            return await engine.statistics()
    return None


async def _declare_hanging(place: Workplace, engine: ServedEngine, still_s: float) -> None:
    cause = f"hangs: it has requests and has made no token for {still_s:.0f} s (engine.stall_timeout_s)"
    engine.declare_dead(cause)
    place.reporter.say(f"the engine {cause}", level="warning")
    with suppress(SelfRewardError):  # the death is what counts; who waits for the engine hears of it
        await asyncio.to_thread(
            place.store.journal.event,
            place.run.id,
            "engine_stalled",
            f"the engine {cause}",
            place.iteration.id,
            seconds=round(still_s, 1),
        )


async def _close(place: Workplace, engine: Engine, session: int) -> None:
    """Record what the server did, as far as it can still tell and anybody can still write it down."""
    figures = await _figures(engine, LAST_FIGURES_S)
    read, written = (figures.prompt_tokens, figures.generated_tokens) if figures else (None, None)
    with suppress(StoreError):
        await asyncio.to_thread(place.store.runs.end_session, session, read, written)
