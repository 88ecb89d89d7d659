"""Does the daemon stay small? Its own memory while it works, what it has loaded, and how fast help comes."""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.bench.figures import Figure, Options

WANTED_MB = 250
WANTED_HELP_S = 0.5
HELP_RUNS = 9
LOOK_EVERY_S = 0.02
LONGEST_S = 300
HEAVY = ("libtorch", "libc10", "torch/_C", "vllm")
# In a process of its own: torch shall not sit beside what is measured.
MAKE_MODEL = "import sys, pathlib, tests.tiny_model as tiny; tiny.make_tiny_model(pathlib.Path(sys.argv[1]))"
PROMPTS = 200
"""Enough rows for the pumps to be busy for a while."""


@dataclass(frozen=True, kw_only=True)
class Watched:
    """A daemon's life as /proc told it."""

    peak_kb: int
    heavy: frozenset[str]
    """Mapped files of libraries that belong into child processes."""
    looks: int
    output: str


def measure(_: Options) -> list[Figure]:
    """A daemon with the fake engine on a tiny model, then `selfreward --help`."""
    with tempfile.TemporaryDirectory(prefix="selfreward-bench-", ignore_cleanup_errors=True) as temporary:
        watched = _watch(_daemon_command(Path(temporary)))
    peak_mb = watched.peak_kb * 1024 / 1e6
    help_s = sorted(_seconds_of_help() for _ in range(HELP_RUNS))
    middle = statistics.median(help_s)
    return [
        Figure(
            name="daemon's peak resident memory",
            reached=f"{peak_mb:.0f} MB",
            wanted=f"< {WANTED_MB} MB",
            reached_it=peak_mb < WANTED_MB,
            note=f"VmHWM of the daemon's own process over {PROMPTS} prompts × 4 candidates × 3 judgements "
            f"with the fake engine, looked at {watched.looks} times",
            data={"peak_mb": peak_mb},
        ),
        Figure(
            name="torch among its mapped files",
            reached=", ".join(sorted(watched.heavy)) or "no",
            wanted="no",
            reached_it=not watched.heavy,
        ),
        Figure(
            name="selfreward --help",
            reached=f"{middle:.2f} s",
            wanted=f"< {WANTED_HELP_S} s",
            reached_it=middle < WANTED_HELP_S,
            note=f"median of {HELP_RUNS}; fastest {help_s[0]:.2f} s, slowest {help_s[-1]:.2f} s",
            data={"seconds": help_s},
        ),
    ]


def _daemon_command(directory: Path) -> list[str]:
    """A run that generates and then stops for lack of pairs: the trainer is a child and not measured here."""
    run, model = directory / "run", directory / "model"
    subprocess.run([sys.executable, "-c", MAKE_MODEL, str(model)], check=True, capture_output=True)
    command = [sys.executable, "-m", "selfreward"]
    wanted = ["--preset", "demo", "--model", str(model)]
    subprocess.run([*command, "init", str(run), *wanted], check=True, capture_output=True)
    settings = {
        "engine.type": "fake",
        "self_instruct.target": PROMPTS,
        "self_instruct.max_attempts": 10 * PROMPTS,
        "bootstrap.mode": "none",
        "train.min_pairs": 1_000_000,
        "iterations": 1,
    }
    overrides = [part for key, value in settings.items() for part in ("--set", f"{key}={value}")]
    return [*command, "start", "--dir", str(run), *overrides]


def _watch(command: Sequence[str]) -> Watched:
    """Run the daemon and look at /proc until it is gone. Raises RuntimeError when it did not get to pairs."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    peak, looks, heavy, deadline = 0, 0, set(), time.monotonic() + LONGEST_S
    try:
        while not _exited(process):
            peak = max(peak, _peak_kb(process.pid))
            heavy |= _heavy_files(process.pid)
            looks += 1
            if time.monotonic() > deadline:
                raise RuntimeError(f"the daemon was not done after {LONGEST_S} s")
        output = process.communicate()[0]
    finally:
        process.kill()
        process.wait()
    if "pairs are too few" not in output:
        raise RuntimeError(f"the daemon did not generate:\n{output[-2000:]}")
    return Watched(peak_kb=peak, heavy=frozenset(heavy), looks=looks, output=output)


def _exited(process: "subprocess.Popen[str]") -> bool:
    """Whether it has exited; waits a moment, which sets the pace of looking."""
    try:
        process.wait(LOOK_EVERY_S)
    except subprocess.TimeoutExpired:
        return False
    return True


def _peak_kb(pid: int) -> int:
    """Greatest resident size so far, in KiB; 0 when the process is gone."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("VmHWM:")), 0)


def _heavy_files(pid: int) -> set[str]:
    """Names of mapped files that only children may load."""
    try:
        lines = Path(f"/proc/{pid}/maps").read_text().splitlines()
    except OSError:
        return set()
    paths = {line.split(maxsplit=5)[5] for line in lines if line.count("/")}
    return {Path(path).name for path in paths if any(mark in path for mark in HEAVY)}


def _seconds_of_help() -> float:
    script = Path(sys.executable).with_name("selfreward")
    command = [str(script)] if script.is_file() else [sys.executable, "-m", "selfreward"]
    began = time.perf_counter()
    subprocess.run([*command, "--help"], check=True, capture_output=True, env={**os.environ})
    return time.perf_counter() - began
