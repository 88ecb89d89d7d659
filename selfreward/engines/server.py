"""Starting a server process, waiting until it answers, and leaving nothing of it behind."""

import asyncio
import contextlib
import errno
import socket
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from selfreward.children import Child, spawn, tail
from selfreward.config import EngineSettings, Scalar
from selfreward.engines.base import EngineDied, ServedEngine
from selfreward.engines.client import EngineClient
from selfreward.errors import EngineError

HOST = "127.0.0.1"
LOG_LINES = 15
LINES_TO_DIAGNOSE = 400


@dataclass(frozen=True, kw_only=True)
class Launch:
    """A server's command, and what is known about its failures."""

    argv: tuple[str, ...]
    env: Mapping[str, str]
    model: str
    """The name the server gives the checkpoint: its own, so that no other server passes for it."""
    description: str
    advise: Callable[[str], str]
    """What to try, from the text of the log."""


Prepare = Callable[[Path, EngineSettings, int, int], Launch]
"""(checkpoint, settings, port, seed) → Launch. Raises EngineError for what is known to fail."""


@asynccontextmanager
async def serving(
    prepare: Prepare, checkpoint: Path, settings: EngineSettings, *, log_dir: Path, seed: int
) -> AsyncIterator[ServedEngine]:
    """A client of a running, healthy server; its whole process tree is gone when the block is left."""
    if not checkpoint.is_dir():
        raise EngineError(
            f"there is no model directory {checkpoint}",
            "Check the setting `model`, or whether the run's models/ directory was moved.",
        )
    port = free_port(settings.port)
    launch = prepare(checkpoint, settings, port, seed)
    child = spawn(launch.argv, new_log(log_dir), launch.env)
    client = _client(child, launch, settings, port, seed)
    watch = asyncio.ensure_future(client.watch(child.wait()))
    try:
        await _until_healthy(client, child, launch, settings.start_timeout_s)
        yield client
    finally:
        client.declare_dead("was stopped")
        await asyncio.shield(_end(child, client, watch))


def free_port(wanted: int) -> int:
    """`wanted`, or a free loopback port when it is 0. Raises EngineError when `wanted` is taken."""
    with socket.socket() as probe:
        # Connections of an earlier server that linger in TIME_WAIT do not make the port taken.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, wanted))
        except OSError as error:
            reason = "in use" if error.errno == errno.EADDRINUSE else f"not usable ({error.strerror})"
            raise EngineError(
                f"port {wanted} on {HOST} is {reason}",
                "Set engine.port to another one, or to 0 for any free port.",
            ) from error
        return int(probe.getsockname()[1])


def new_log(directory: Path) -> Path:
    """`engine-<n>.log` with the next free n, and `engine-latest.log` pointing to it."""
    directory.mkdir(parents=True, exist_ok=True)
    numbers = [path.stem.removeprefix("engine-") for path in directory.glob("engine-*.log")]
    number = max((int(text) for text in numbers if text.isdigit()), default=0) + 1
    log = directory / f"engine-{number}.log"
    log.touch()
    fresh = directory / f".engine-latest.{number}"
    fresh.unlink(missing_ok=True)
    fresh.symlink_to(log.name)
    fresh.replace(directory / "engine-latest.log")
    return log


def flags(arguments: Mapping[str, Scalar]) -> list[str]:
    """`--key value` for each; true gives the bare flag, false its negation."""
    return [word for key, value in arguments.items() for word in _flag(key, value)]


def _flag(key: str, value: Scalar) -> list[str]:
    name = key.lstrip("-").replace("_", "-")
    if isinstance(value, bool):
        return [f"--{name}" if value else f"--no-{name}"]
    return [f"--{name}", str(value)]


def _client(child: Child, launch: Launch, settings: EngineSettings, port: int, seed: int) -> EngineClient:
    def post_mortem(cause: str) -> EngineDied:
        return EngineDied(*_report(launch, child.log, cause))

    return EngineClient(
        url=f"http://{HOST}:{port}",
        model=launch.model,
        seed=seed,
        description=launch.description,
        request_timeout_s=settings.request_timeout_s,
        concurrency=settings.concurrency,
        post_mortem=post_mortem,
    )


async def _until_healthy(client: EngineClient, child: Child, launch: Launch, timeout_s: float) -> None:
    """Ask until the server is healthy; its end, or the deadline, ends the wait with EngineError."""
    loop = asyncio.get_running_loop()
    deadline, pause = loop.time() + timeout_s, 0.02
    while not (await client.healthy() and child.running):
        if client.died.is_set():
            cause = f"ended with status {await child.wait()} before it was ready"
            raise EngineError(*_report(launch, child.log, cause))
        if loop.time() >= deadline:
            cause = f"was not ready after {timeout_s:g} s (engine.start_timeout_s)"
            raise EngineError(*_report(launch, child.log, cause))
        pause = min(2 * pause, 0.5)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(client.died.wait(), pause)


async def _end(child: Child, client: EngineClient, watch: "asyncio.Future[None]") -> None:
    await asyncio.to_thread(child.kill)
    await watch
    await client.close()


def _report(launch: Launch, log: Path, cause: str) -> tuple[str, str]:
    """(message, hint): what happened, the end of the log, what to try."""
    lines = tail(log, LOG_LINES).strip() or "(nothing)"
    message = f"the engine {cause}: {launch.description}\nThe end of {log}:\n{lines}"
    return message, launch.advise(tail(log, LINES_TO_DIAGNOSE))
