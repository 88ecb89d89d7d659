"""Was the machine quiet? How much of its processors other programs took while something was measured.

Two threads of vLLM that wait for each other lose far more to a busy neighbour than the neighbour takes:
a figure measured beside one says little, and the report says so.
"""

import os

import psutil  # type: ignore[import-untyped, unused-ignore]

QUIET = 0.05
"""Others may take this share of all processors before a measurement is called disturbed."""


class Meter:
    """Runs from its creation, for this process and whatever descends from it."""

    def __init__(self) -> None:
        self._busy, self._ours, self._all = _busy(), _tree(), _all()

    def others(self) -> float:
        """Share 0–1 of the machine's processor time that went to other programs since the start.

        Ours must still be running when it is asked.
        """
        busy, ours, everything = _busy() - self._busy, _tree() - self._ours, _all() - self._all
        return min(1.0, max(0.0, busy - ours) / everything) if everything > 0 else 0.0


def _busy() -> float:
    """Seconds in which any processor worked, stolen time included: a neighbour of the virtual machine's."""
    times = psutil.cpu_times()
    return float(sum(times) - times.idle - times.iowait - times.guest - times.guest_nice)


def _all() -> float:
    times = psutil.cpu_times()
    return float(sum(times) - times.guest - times.guest_nice)


def _tree() -> float:
    """Processor seconds of this process and its living descendants."""
    me = psutil.Process(os.getpid())
    return sum(map(_seconds, [me, *me.children(recursive=True)]))


def _seconds(process: psutil.Process) -> float:
    try:
        times = process.cpu_times()
    except psutil.NoSuchProcess:
        return 0.0
    return float(times.user + times.system)
