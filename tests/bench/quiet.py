"""Was the machine quiet? How much of its processors other programs took while something was measured.

Two threads of vLLM that wait for each other lose far more to a busy neighbour than the neighbour takes:
a figure measured beside one says little, and the report says so.
"""

import os
from dataclasses import dataclass

import psutil  # type: ignore[import-untyped, unused-ignore]

QUIET = 0.05
"""Others may take this share of all processors before a measurement is called disturbed."""


@dataclass(frozen=True, kw_only=True)
class Reading:
    """Where the processors' time went. Shares of all processors, 0–1."""

    others: float
    """Other programs, and what a host takes from a virtual machine."""
    ours: dict[str, float]
    """By the names of our processes."""

    def __str__(self) -> str:
        mine = ", ".join(f"{name} {share:.0%}" for name, share in sorted(self.ours.items()) if share >= 0.005)
        return f"{mine}, other programs {self.others:.0%}"


class Meter:
    """Runs from its creation, for this process and whatever descends from it."""

    def __init__(self) -> None:
        self._busy, self._ours, self._all = _busy(), _tree(), _all()

    def read(self) -> Reading:
        """The shares since the start. Our processes must still be running when it is asked."""
        everything = max(_all() - self._all, 1e-9)
        now = _tree()
        ours = {name: (now[name] - self._ours.get(name, 0.0)) / everything for name in now}
        others = (_busy() - self._busy) / everything - sum(ours.values())
        return Reading(others=min(1.0, max(0.0, others)), ours=ours)


def _busy() -> float:
    """Seconds in which any processor worked, stolen time included: a neighbour of the virtual machine's."""
    times = psutil.cpu_times()
    return float(sum(times) - times.idle - times.iowait - times.guest - times.guest_nice)


def _all() -> float:
    times = psutil.cpu_times()
    return float(sum(times) - times.guest - times.guest_nice)


def _tree() -> dict[str, float]:
    """Processor seconds of this process and its living descendants, by name."""
    seconds: dict[str, float] = {}
    me = psutil.Process(os.getpid())
    for process in (me, *me.children(recursive=True)):
        try:
            times = process.cpu_times()
            name = _name(process, me)
            seconds[name] = seconds.get(name, 0.0) + times.user + times.system
        except (psutil.NoSuchProcess, psutil.ZombieProcess):
            continue
    return seconds


def _name(process: psutil.Process, me: psutil.Process) -> str:
    """vLLM names two of its processes; its server is known by its module."""
    if process.pid == me.pid:
        return "this process"
    command = process.cmdline()
    if "vllm.entrypoints.openai.api_server" in command and "selfreward.guard" not in command:
        return "API server"
    return next((word for word in command[:1] if word.startswith("VLLM::")), "others of ours")
