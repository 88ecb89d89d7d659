"""Named places at which this process can be made to die, so that tests can prove that nothing is lost there.

    SELFREWARD_CRASH_AT=sample:stored:2 selfreward start

kills the process with SIGKILL the second time it comes to that place; a fourth part names another signal
(`sample:stored:1:TERM`). Child processes inherit the variable and count for themselves. Standard library
only: every room may import it.
"""

import os
import signal
from collections import Counter
from functools import cache

VARIABLE = "SELFREWARD_CRASH_AT"

PUMPS = (
    "self_instruct",
    "sample",
    "judge",
    "answer_held_out",
    "judge_held_out",
    "compare",
    "compare_independent",
    "measure_baseline",
    "meta_judge",
    "judge_previous",
    "anchor",
    "judge_anchor",
)
POINTS = frozenset(
    {
        *(f"{pump}:asked" for pump in PUMPS),  # its results are here, and are not stored
        *(f"{pump}:stored" for pump in PUMPS),
        "self_instruct:storing",  # in the transaction, just before its commit: this and the like
        "sample:storing",
        "judge:storing",
        "answer_held_out:storing",
        "judge_held_out:storing",
        "compare:storing",
        "anchor:storing",
        "meta_judge:storing",
        "meta_judge:paired",
        "consistency:storing",
        "write:storing",  # any write transaction at all
        "pair:stored",
        "mix:stored",  # some imported preferences are pairs of the iteration, others not yet
        "check:stored",
        "evaluate:stored",
        "examples:stored",
        "baseline:published",
        "engine:starting",
        "engine:ready",
        "train:job_written",
        "train:step",  # in the child: this and the next
        "train:saved",
        "model:assembled",  # in the child, a conversion's too: this and the next three
        "model:summed",
        "model:synced",
        "model:renamed",
        "train:told",  # in the daemon again
        "train:published",
        "train:recorded",
        "train_reward:published",
        "train_reward:recorded",
        "retention:marked",
        "lease:taken",
        "lease:beat",
        "migration:begun",
        "migration:done",
        "backup:copied",
    }
)
"""Every place there is, as stage:point."""

_seen: Counter[str] = Counter()


def crash_point(name: str) -> None:
    """Die here if this is where the environment says so; else nothing, at the price of a dict lookup."""
    wanted = _wanted()
    if wanted is None or wanted[0] != name:
        return
    _seen[name] += 1
    if _seen[name] == wanted[1]:
        os.kill(os.getpid(), wanted[2])


@cache
def _wanted() -> tuple[str, int, signal.Signals] | None:
    """(stage:point, how many times, signal) of the environment; None when it names no place."""
    value = os.environ.get(VARIABLE)
    if not value:
        return None
    stage, point, *rest = value.split(":")
    count = int(rest[0]) if rest else 1
    return f"{stage}:{point}", count, signal.Signals[f"SIG{rest[1] if len(rest) > 1 else 'KILL'}"]
