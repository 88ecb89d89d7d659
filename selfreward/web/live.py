"""Live progress by server-sent events, for as long as somebody looks."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

from fastapi import APIRouter, Request, Response

from selfreward.errors import SelfRewardError
from selfreward.progress import RunStatus, StageProgress
from selfreward.text import printable
from selfreward.types import RunRow, Status
from selfreward.web.kept import Kept, KeptNeeded
from selfreward.web.rendering import NOTHING, duration, number
from selfreward.web.site import RunNeeded

router = APIRouter()

EVERY_S = 1.0
AT_REST_S = 5.0
"""While no daemon works on it."""


@router.get("/runs/{run}/events")
async def events(request: Request, kept: KeptNeeded, run: RunNeeded) -> Response:
    """`progress` events: what to write into which element, until the reader leaves or the server ends."""
    from sse_starlette import EventSourceResponse

    return EventSourceResponse(_stream(kept, run), headers={"Cache-Control": "no-store"})


async def _stream(kept: Kept, run: RunRow) -> AsyncIterator[dict[str, str]]:
    while True:
        try:
            status = await asyncio.to_thread(kept.watching.status, run)
        except SelfRewardError:  # the database is away for a moment: the browser asks again
            return
        yield {"event": "progress", "data": json.dumps(news(status))}
        await asyncio.sleep(EVERY_S if status.running else AT_REST_S)


def news(status: RunStatus) -> dict[str, Any]:
    """What the page shows of it: texts and bars by the ids of their elements, and what it is then."""
    texts = {
        "live-mood": str(status.activity.mood),
        "live-generated": number(status.tokens_per_second.generated, 0),
        "live-read": number(status.tokens_per_second.prompt, 0),
        "live-uptime": duration(status.uptime_s),
        "live-judgements": number(status.histogram.judgements),
        "live-mean": number(status.histogram.mean, 2),
    }
    bars: dict[str, tuple[int, int]] = {}
    for stage in status.stages:
        texts |= {f"live-{stage.name}-{column}": text for column, text in columns(stage).items()}
        bars[f"live-{stage.name}-bar"] = _bar(stage)
    return {"texts": texts, "bars": bars, "page": told(status)}


def _bar(stage: StageProgress) -> tuple[int, int]:
    """(value, max)."""
    if stage.status is Status.DONE:
        return (1, 1)
    return (stage.done, stage.total or max(stage.done, 1))


def columns(stage: StageProgress) -> dict[str, str]:
    """A stage's line of the table."""
    total = "" if stage.total is None else f" of {number(stage.total)}"
    return {
        "status": str(stage.status),
        "done": f"{number(stage.done)}{total}" if stage.unit or stage.done else NOTHING,
        "rate": f"{number(stage.rate)}/s" if stage.rate else NOTHING,
        "left": NOTHING if stage.seconds_left is None else duration(stage.seconds_left),
        "took": duration(stage.seconds),
        "detail": printable((stage.error or stage.detail).partition("\n")[0]),
    }


def told(status: RunStatus) -> str:
    """Changes when there is more to see than what is told live."""
    last = status.events[-1].id if status.events else 0
    return f"{status.iteration.t if status.iteration else '-'}:{last}:{len(status.checkpoints)}"
