"""Whatever dies, and however: nothing it started is left, neither processes nor shared memory."""

import contextlib
import os
import re
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psutil
import pytest

from selfreward.config import EngineSettings
from tests.tiny_model import make_tiny_model

DEADLINE_S = 20
SHARED_MEMORY = Path("/dev/shm")

SERVE = """
import asyncio, sys
from pathlib import Path
from selfreward.config import EngineSettings
from selfreward.engines import serve

async def main():
    settings = EngineSettings.model_validate_json(sys.argv[1])
    async with serve(Path(sys.argv[2]), settings, log_dir=Path(sys.argv[3]), seed=0) as engine:
        print("ready", flush=True)
        if sys.argv[4:] == ["leave"]:
            sys.stdin.readline()
        else:
            await engine.died.wait()
            print("died", flush=True)
    print("left", flush=True)

asyncio.run(main())
"""
SPAWN = """
import asyncio, sys
from pathlib import Path
from selfreward.children import spawn

async def main():
    log = Path(sys.argv[2])
    child = spawn([sys.executable, "-c", sys.argv[1]], log)
    while "holding" not in (log.read_text() if log.exists() else ""):
        await asyncio.sleep(0.01)
    print("ready", flush=True)
    if sys.argv[3] == "kill":
        sys.stdin.readline()
        child.kill()
    await child.wait()
    print("left", flush=True)

asyncio.run(main())
"""
HOLD_SHARED_MEMORY = """
import threading, time
from multiprocessing.shared_memory import SharedMemory

# Threads and much memory: such a process is a zombie to /proc long before it lets go of anything.
for _ in range(8):
    threading.Thread(target=time.sleep, args=(1000,), daemon=True).start()
ballast = b"x" * (1 << 28)
segment = SharedMemory(create=True, size=1 << 20)
print("holding", segment.name, flush=True)
time.sleep(1000)
"""

Parent = "subprocess.Popen[str]"


class Tree:
    """A parent and everything below it, watched by file descriptors that survive the reuse of an id."""

    def __init__(self, parent: int) -> None:
        self.root = psutil.Process(parent)
        self.below = self.root.children(recursive=True)
        self._fds = {os.pidfd_open(process.pid): " ".join(process.cmdline()) for process in self.below}

    def named(self, part: str) -> int:
        """The process whose command line has `part`."""
        return next(process.pid for process in self.below if part in " ".join(process.cmdline()))

    def segments(self) -> set[str]:
        """Names of the shared memory that the processes have mapped, without what is unlinked already."""
        maps = [Path(f"/proc/{process.pid}/maps").read_text() for process in self.below]
        names = re.findall(r"/dev/shm/((?:psm_|sem\.mp-)\S+)$", "\n".join(maps), re.MULTILINE)
        return set(names) & shared_memory()

    def survivors(self) -> list[str]:
        """Command lines of what still lives after the deadline."""
        end = time.monotonic() + DEADLINE_S
        with selectors.DefaultSelector() as selector:
            for fd in self._fds:
                selector.register(fd, selectors.EVENT_READ)
            while selector.get_map() and time.monotonic() < end:
                for key, _ in selector.select(end - time.monotonic()):
                    selector.unregister(key.fd)
            return [self._fds[int(fd)] for fd in selector.get_map()]

    def close(self) -> None:
        """End what is left, parent first, and drop the descriptors."""
        with contextlib.suppress(psutil.NoSuchProcess):
            self.root.kill()
        for fd in self._fds:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(fd, signal.SIGKILL)
            os.close(fd)


def start(script: str, *arguments: str) -> Parent:
    """Run a script in a session of its own and wait until it says that it is ready."""
    parent = subprocess.Popen(
        [sys.executable, "-c", script, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert parent.stdout is not None
    assert parent.stdout.readline() == "ready\n"
    return parent


def shared_memory() -> set[str]:
    """Names of the segments and semaphores of this machine."""
    return {path.name for path in SHARED_MEMORY.iterdir()}


@pytest.fixture
def serving(tmp_path: Path) -> Iterator[tuple[Parent, Tree]]:
    """A parent with a running engine that has a grandchild in a session of its own, as vLLM has them."""
    settings = EngineSettings(type="fake", extra_args={"detach": True})
    parent = start(SERVE, settings.model_dump_json(), str(tmp_path), str(tmp_path / "logs"))
    tree = Tree(parent.pid)
    yield parent, tree
    tree.close()
    parent.communicate()


def test_nothing_outlives_a_killed_parent(serving: tuple[Parent, Tree]) -> None:
    parent, tree = serving
    assert len(tree.below) >= 3
    parent.kill()
    parent.wait(DEADLINE_S)
    assert tree.survivors() == []


def test_nothing_outlives_a_killed_guard_and_the_parent_learns_of_it(serving: tuple[Parent, Tree]) -> None:
    parent, tree = serving
    os.kill(tree.named("selfreward.guard"), signal.SIGKILL)
    said, _ = parent.communicate(timeout=DEADLINE_S)
    assert said.split() == ["died", "left"]
    assert tree.survivors() == []


@pytest.mark.slow
@pytest.mark.parametrize("way", ["leave", "kill"])
def test_vllm_leaves_no_process_and_no_shared_memory(tmp_path: Path, way: str) -> None:
    settings = EngineSettings(type="vllm", max_model_len=256, max_num_seqs=4, cpu_kv_cache_gib=1, memory=0.3)
    model = make_tiny_model(tmp_path / "model")
    parent = start(SERVE, settings.model_dump_json(), str(model), str(tmp_path / "logs"), way)
    with closing(Tree(parent.pid)) as tree:
        segments = tree.segments()
        assert segments
        if way == "kill":
            parent.kill()
        parent.communicate("go\n", timeout=DEADLINE_S)
        assert tree.survivors() == []
        assert not segments & shared_memory()


@pytest.mark.parametrize("way", ["kill", "parent", "guard"])
def test_shared_memory_of_a_killed_child_is_given_back(tmp_path: Path, way: str) -> None:
    log = tmp_path / "child.log"
    parent = start(SPAWN, HOLD_SHARED_MEMORY, str(log), way)
    segment = log.read_text().split()[1]
    with closing(Tree(parent.pid)) as tree:
        if way == "parent":
            parent.kill()
        if way == "guard":
            os.kill(tree.named("selfreward.guard"), signal.SIGKILL)
        parent.communicate("go\n", timeout=DEADLINE_S)
        assert tree.survivors() == []
        assert segment not in shared_memory()
