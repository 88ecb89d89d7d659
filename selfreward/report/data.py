"""What a report is made of: every figure of every checkpoint, and which of them differ measurably."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property

from selfreward.errors import BadInput
from selfreward.report.metrics import ASSISTANT_FIGURES, Description
from selfreward.types import CheckpointRow, EvaluationRow, GateResult, Metric, Suite


class Change(StrEnum):
    """A measured difference. Where none was measured there is no Change."""

    HIGHER = "higher"
    LOWER = "lower"


@dataclass(frozen=True, kw_only=True)
class ReportData:
    """All that a report shows of one run. Raises BadInput when nothing has been evaluated."""

    run: str
    rows: Sequence[EvaluationRow]
    checkpoints: Sequence[CheckpointRow]
    """In order: M_0, M_0_ift where there is one, M_1, M_2, …"""
    pairs: Mapping[int, int] = field(default_factory=dict)
    """Preference pairs of iteration t, from which M_{t+1} was trained."""
    gates: Sequence[tuple[int, GateResult]] = ()
    """What the gates of iteration t found."""
    score_histogram: Mapping[str, Mapping[int, int]] = field(default_factory=dict)
    """Checkpoint → rounded score, 0–5 → how many of its held-out judgements gave it."""

    def __post_init__(self) -> None:
        if not self.rows or not self.checkpoints:
            raise BadInput(
                f"nothing has been evaluated yet in run {self.run!r}",
                "Evaluate its checkpoints: selfreward eval",
            )

    @cached_property
    def _figures(self) -> dict[tuple[str, Suite, Metric], EvaluationRow]:
        return {(row.checkpoint, row.suite, row.metric): row for row in self.rows}

    def figure(self, checkpoint: str, described: Description) -> EvaluationRow | None:
        """What was measured; None when nothing was."""
        row = self.recorded(checkpoint, described)
        return row if row is not None and row.value is not None else None

    def recorded(self, checkpoint: str, described: Description) -> EvaluationRow | None:
        """The same, or the row that says that nothing could be measured."""
        return self._figures.get((checkpoint, described.suite, described.metric))

    def measured(self, described: Description) -> bool:
        """Whether any checkpoint has this figure."""
        return any(self.figure(checkpoint.name, described) for checkpoint in self.checkpoints)

    def parent(self, checkpoint: CheckpointRow) -> str | None:
        """Name of the checkpoint it was trained from."""
        return next((other.name for other in self.checkpoints if other.id == checkpoint.parent_id), None)

    def previous(self, checkpoint: CheckpointRow) -> str | None:
        """Name of M_{t−1}; what it was trained from for the SFT baseline, which stands beside the line."""
        name = f"M_{checkpoint.version - 1}"
        return name if any(other.name == name for other in self.checkpoints) else self.parent(checkpoint)

    def trained_pairs(self, checkpoint: CheckpointRow) -> int | None:
        """Preference pairs it was trained on; None where pairs had no part in it."""
        return self.pairs.get(checkpoint.version - 1) if checkpoint.kind.from_pairs else None

    def change(self, checkpoint: CheckpointRow, described: Description) -> Change | None:
        """Higher or lower than M_{t−1}, when the figure has a direction and the intervals do not overlap.

        A win rate is a comparison already: it is held against 50%.
        """
        row, before = self.figure(checkpoint.name, described), self.previous(checkpoint)
        if row is None or row.low is None or row.high is None or not described.directed:
            return None
        if described.metric in {Metric.WIN_RATE_PREVIOUS, Metric.WIN_RATE_FIRST}:
            return _apart(row.low, row.high, 0.5, 0.5)
        other = self.figure(before, described) if before else None
        if other is None or other.low is None or other.high is None:
            return None
        return _apart(row.low, row.high, other.low, other.high)


def assistant_figures(data: ReportData) -> tuple[Description, ...]:
    """The assistant's lines; an independent judge has some only where it judged."""
    return tuple(
        described
        for described in ASSISTANT_FIGURES
        if described.suite is not Suite.INDEPENDENT or data.measured(described)
    )


def _apart(low: float, high: float, other_low: float, other_high: float) -> Change | None:
    if low > other_high:
        return Change.HIGHER
    return Change.LOWER if high < other_low else None
