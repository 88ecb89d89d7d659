"""What a comparison of two runs is made of: scores of shared candidates, pairs, verdicts of position."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import column, func, select, table

from selfreward.comparing import PositionBias, Triple
from selfreward.store.database import Database
from selfreward.store.schema import (
    Candidate,
    CandidateTally,
    Checkpoint,
    Judge,
    Judgement,
    PairDecision,
    PreferencePair,
)

OWN = "ai"
BIAS = table(
    "position_bias",
    *(column(name) for name in ("run", "t", "judge_id", "comparisons", "first_share", "flipped_share")),
)


@dataclass(frozen=True, kw_only=True)
class PairFigures:
    """The pairs that an iteration trains on, in figures."""

    pairs: int
    imported: int
    prompts: int
    """Of its own with a pair."""
    mean_margin: float | None
    soft_label: float | None
    soft_labels: int


class Comparing:
    """Queries for comparing runs."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def candidates(self, data_iteration_id: int) -> int:
        """How many candidates an iteration has."""
        mine = CandidateTally.iteration_id == data_iteration_id
        query = select(func.coalesce(func.sum(CandidateTally.candidates), 0)).where(mine)
        with self._database.read() as connection:
            return int(connection.execute(query).scalar_one())

    def scores(self, data_iteration_id: int, judge_id: int) -> Mapping[int, Mapping[int, float]]:
        """Prompt → candidate → mean of the scores that a judge gave it; unread ones are left out."""
        query = (
            select(Candidate.prompt_id, Candidate.id, func.avg(Judgement.score))
            .join(Judgement, Judgement.candidate_id == Candidate.id)
            .where(
                Candidate.iteration_id == data_iteration_id,
                Judgement.judge_id == judge_id,
                Judgement.score.is_not(None),
            )
            .group_by(Candidate.prompt_id, Candidate.id)
        )
        found: dict[int, dict[int, float]] = defaultdict(dict)
        with self._database.read() as connection:
            for prompt_id, candidate_id, score in connection.execute(query):
                found[prompt_id][candidate_id] = float(score)
        return found

    def judge(self, judge_id: int | None) -> str | None:
        """Who judges and how, in words: M_1, rubric, judge_rubric.jinja; None where nobody does."""
        query = (
            select(Checkpoint.name, Judge.type, Judge.template)
            .outerjoin(Checkpoint, Checkpoint.id == Judge.checkpoint_id)
            .where(Judge.id == judge_id)
        )
        with self._database.read() as connection:
            row = connection.execute(query).one_or_none()
        if row is None:
            return None
        name, kind, template = row
        return ", ".join(part for part in (name or "another model", kind.replace("_", " "), template) if part)

    def triples(self, iteration_id: int) -> list[Triple]:
        """The pairs that an iteration trains on, as (prompt, chosen, rejected)."""
        query = select(PreferencePair.prompt_id, PreferencePair.chosen_id, PreferencePair.rejected_id).where(
            PreferencePair.iteration_id == iteration_id, PreferencePair.excluded.is_(None)
        )
        with self._database.read() as connection:
            return [(row[0], row[1], row[2]) for row in connection.execute(query)]

    def pair_figures(self, iteration_id: int) -> PairFigures:
        """The same in figures."""
        own = PreferencePair.origin == OWN
        query = select(
            func.count(),
            func.count().filter(~own),
            func.count(PreferencePair.prompt_id.distinct()).filter(own),
            func.avg(PreferencePair.margin),
            func.avg(PreferencePair.soft_label),
            func.count(PreferencePair.soft_label),
        ).where(PreferencePair.iteration_id == iteration_id, PreferencePair.excluded.is_(None))
        with self._database.read() as connection:
            pairs, imported, prompts, margin, label, labels = connection.execute(query).one()
        return PairFigures(
            pairs=pairs,
            imported=imported,
            prompts=prompts,
            mean_margin=margin,
            soft_label=label,
            soft_labels=labels,
        )

    def outcomes(self, iteration_id: int) -> dict[str, int]:
        """Outcome → prompts that came to it, commonest first."""
        query = (
            select(PairDecision.outcome, func.count())
            .where(PairDecision.iteration_id == iteration_id)
            .group_by(PairDecision.outcome)
        )
        with self._database.read() as connection:
            rows = [(outcome, count) for outcome, count in connection.execute(query)]
        return dict(sorted(rows, key=lambda row: (-row[1], row[0])))

    def position_bias(self, run: str, t: int, judge_id: int | None) -> PositionBias | None:
        """Of an iteration whose judge compares candidates; None for any other."""
        mine = (BIAS.c.run == run) & (BIAS.c.t == t) & (BIAS.c.judge_id == judge_id)
        query = select(BIAS.c.comparisons, BIAS.c.first_share, BIAS.c.flipped_share).where(mine)
        with self._database.read() as connection:
            row = connection.execute(query).one_or_none()
        return None if row is None else PositionBias(**row._asdict())
