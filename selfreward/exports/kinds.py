"""What can be exported: the kinds of data sets, the formats, and which rows of a run are wanted."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from selfreward.store.exported import (
    Exported,
    ExportedCandidate,
    ExportedExample,
    ExportedJudgement,
    ExportedPair,
    Source,
)
from selfreward.store.exporting import Exporting
from selfreward.store.schema import Candidate, PreferencePair, Prompt, SftExample
from selfreward.types import PromptStatus


class Kind(StrEnum):
    """A kind of data set."""

    PAIRS = "pairs"
    CANDIDATES = "candidates"
    JUDGEMENTS = "judgements"
    SFT = "sft"


class Format(StrEnum):
    """How a data set is written."""

    PARQUET = "parquet"
    JSONL = "jsonl"
    HF = "hf"
    """Arrow files and their description, as `datasets` saves them to a disk."""


ROWS: dict[Kind, type[Exported]] = {
    Kind.PAIRS: ExportedPair,
    Kind.CANDIDATES: ExportedCandidate,
    Kind.JUDGEMENTS: ExportedJudgement,
    Kind.SFT: ExportedExample,
}


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """Which rows of a run to export."""

    kind: Kind
    iteration: int | None
    """None: every iteration."""
    with_excluded: bool = False
    """Pairs: those too that were left out of training."""
    least_score: float | None = None
    """Best answers: only those whose mean score is at least this."""

    @property
    def stem(self) -> str:
        """What the data files are called."""
        return self.kind if self.iteration is None else f"{self.kind}-iteration-{self.iteration}"


def rows_of(exporting: Exporting, wanted: Wanted, source: Source, min_scores: int) -> Iterator[Exported]:
    """The wanted rows of one iteration. `min_scores`: readable judgements that a best answer needs."""
    match wanted.kind:
        case Kind.PAIRS:
            return exporting.pairs(source, wanted.with_excluded)
        case Kind.CANDIDATES:
            return exporting.candidates(source)
        case Kind.JUDGEMENTS:
            return exporting.judgements(source)
        case Kind.SFT if source.t == 0:
            return exporting.examples(source)
        case Kind.SFT:
            return exporting.best(source, wanted.least_score, min_scores)


def expected(exporting: Exporting, wanted: Wanted, source: Source) -> int | None:
    """At most how many rows that will be, for a progress bar; None where counting would take too long."""
    match wanted.kind:
        case Kind.PAIRS:
            return exporting.count(PreferencePair, PreferencePair.iteration_id == source.iteration_id)
        case Kind.CANDIDATES:
            return exporting.count(Candidate, Candidate.iteration_id == source.data_iteration_id)
        case Kind.JUDGEMENTS:
            return None
        case Kind.SFT if source.t == 0:
            return exporting.count(
                SftExample, SftExample.iteration_id == source.iteration_id, SftExample.kept.is_(True)
            )
        case Kind.SFT:
            return exporting.count(
                Prompt,
                Prompt.iteration_id == source.data_iteration_id,
                Prompt.status == PromptStatus.ACCEPTED,
            )
