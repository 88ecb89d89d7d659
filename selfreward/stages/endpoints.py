"""Endpoints of somebody else's that take a part of an iteration's work: writing prompts, or judging."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext

from selfreward.config import EndpointSettings
from selfreward.engines.base import Engine
from selfreward.engines.endpoint import connect
from selfreward.stages.workplace import Workplace


@asynccontextmanager
async def endpoints(place: Workplace) -> AsyncIterator[tuple[Engine | None, Engine | None]]:
    """(who writes prompts, who judges); None where M_t does that itself.

    Nothing is asked of them before the first request. Raises BadInput for an address that is none and for
    a key that is not set.
    """
    writer, judge = place.settings.self_instruct.endpoint, place.settings.judge.endpoint
    async with _connected(place, writer) as writing, _connected(place, judge) as judging:
        yield writing, judging


def _connected(place: Workplace, endpoint: EndpointSettings) -> AbstractAsyncContextManager[Engine | None]:
    if not endpoint.url:
        return nullcontext()
    return connect(
        endpoint.url,
        endpoint.model,
        api_key_env=endpoint.api_key_env,
        request_timeout_s=place.engine.request_timeout_s,
        concurrency=place.engine.concurrency,
    )
