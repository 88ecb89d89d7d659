"""Who takes a part of an iteration's work from M_t: endpoints of somebody else's, or a reward model."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from typing import Any

from selfreward.config import EndpointSettings
from selfreward.engines.base import Engine
from selfreward.engines.endpoint import connect
from selfreward.stages.workplace import Workplace


@asynccontextmanager
async def endpoints(place: Workplace) -> AsyncIterator[tuple[Engine | None, Any]]:
    """(who writes prompts, who judges); None where M_t does that itself.

    An engine each, but a RewardScorer where the judge is a reward model. Nothing is asked of an endpoint
    before the first request. Raises BadInput for an address that is none, for a key that is not set and for
    what is no reward model.
    """
    writer = place.settings.self_instruct.endpoint
    async with _connected(place, writer) as writing, _judge(place) as judging:
        yield writing, judging


def _judge(place: Workplace) -> AbstractAsyncContextManager[Any]:
    if place.settings.judge.type == "reward_model":
        from selfreward.stages.reward_scorer import reward_scorer

        return reward_scorer(place)
    return _connected(place, place.settings.judge.endpoint)


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
