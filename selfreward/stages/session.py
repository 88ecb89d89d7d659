"""An engine serving M_t for the length of an iteration's generation, recorded as a row."""

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from selfreward.engines import serve
from selfreward.engines.base import Engine
from selfreward.errors import EngineError
from selfreward.stages.pump import first_of
from selfreward.stages.workplace import Drained, Workplace


@asynccontextmanager
async def engine_session(place: Workplace) -> AsyncIterator[tuple[Engine, int]]:
    """(engine, session id). The server is gone, and its memory free, when the block is left.

    Every session samples from a fresh seed, which is recorded: a server that starts anew with the same
    seed would write the same texts again. Raises Drained when asked to stop while it starts.
    """
    runs, settings = place.store.runs, place.settings.engine
    seed = secrets.randbelow(2**31)
    session = await asyncio.to_thread(
        runs.begin_session, place.iteration.id, place.checkpoint.id, settings.type, seed
    )
    place.reporter.say(f"starting the engine on {place.checkpoint.name}", engine=settings.type)
    async with AsyncExitStack() as stack:
        server = serve(place.model_path, settings, log_dir=place.directory / "logs", seed=seed)
        engine = await _unless_stopped(place, asyncio.create_task(stack.enter_async_context(server)))
        await asyncio.to_thread(runs.session_ready, session)
        place.reporter.say("the engine answers")
        try:
            yield engine, session
        finally:
            await _close(place, engine, session)


async def _unless_stopped(place: Workplace, starting: "asyncio.Task[Engine]") -> Engine:
    try:
        await first_of(asyncio.wait([starting]), place.stop.wait())
        if not starting.done():
            raise Drained
        return starting.result()
    finally:
        if not starting.done():
            starting.cancel()
            await asyncio.wait([starting])


async def _close(place: Workplace, engine: Engine, session: int) -> None:
    """Record what the server did, if it can still tell."""
    try:
        figures = await engine.statistics()
    except EngineError:
        figures = None
    read, written = (figures.prompt_tokens, figures.generated_tokens) if figures else (None, None)
    await asyncio.to_thread(place.store.runs.end_session, session, read, written)
