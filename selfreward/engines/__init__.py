"""Serving one checkpoint behind the OpenAI-compatible API. Nothing outside knows which engine it is."""

import importlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from selfreward.config import EngineSettings
    from selfreward.engines.base import ServedEngine

# By name: importing one engine must not load the other's libraries, nor the fake server the settings.
MODULES = {
    "vllm": "selfreward.engines.vllm",
    "fake": "selfreward.engines.fake",
}


@asynccontextmanager
async def serve(
    checkpoint: Path, settings: "EngineSettings", *, log_dir: Path, seed: int
) -> "AsyncIterator[ServedEngine]":
    """A server of `checkpoint`, healthy when the block is entered and gone when it is left.

    `seed` seeds the sampling: the same seed after a restart would draw the same texts again.
    The server writes to `log_dir`/engine-<n>.log. Raises EngineError when it does not start.
    """
    from selfreward.engines.server import serving

    prepare = importlib.import_module(MODULES[settings.type]).prepare
    async with serving(prepare, checkpoint, settings, log_dir=log_dir, seed=seed) as engine:
        yield engine
