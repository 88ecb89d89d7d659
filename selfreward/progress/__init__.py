"""Where a run stands: gathered from its rows for the terminal, the pages and /metrics.

`gather` is the door. It reads the database alone, in milliseconds however long the run is, so that a screen
can look every second for days.
"""

from selfreward.progress.figures import (
    Activity,
    Histogram,
    Mood,
    RunStatus,
    StageProgress,
    TokenRates,
    TrainingProgress,
)
from selfreward.progress.gathering import gather
from selfreward.progress.plain import as_json
from selfreward.progress.rates import Meter

__all__ = [
    "Activity",
    "Histogram",
    "Meter",
    "Mood",
    "RunStatus",
    "StageProgress",
    "TokenRates",
    "TrainingProgress",
    "as_json",
    "gather",
]
