"""Pairs as people look at them, and what each iteration made of a prompt."""

from collections import defaultdict
from collections.abc import Mapping, Sequence

from sqlalchemy import ColumnElement, Connection, Text, case, cast, func, literal, select

from selfreward.store.browsed import DecisionRow, PairRow
from selfreward.store.schema import Checkpoint, Iteration, Judge, PairDecision, PreferencePair, Run
from selfreward.types import PairOutcome

INDEPENDENT = "independent"
"""What a judge is called that is no checkpoint of this database."""
JUDGING, TRAINED = (Checkpoint.__table__.alias(name) for name in ("judging", "trained"))
TRAINED_BY_ITERATION = (TRAINED.c.run_id == Iteration.run_id) & (
    TRAINED.c.name == literal("M_") + cast(Iteration.t + 1, Text)
)
JUDGED_BY = case((Judge.id.is_not(None), func.coalesce(JUDGING.c.name, INDEPENDENT)))
"""Whose judgements they are; NULL where nobody judged."""


def pairs_of(connection: Connection, of_these: ColumnElement[bool]) -> dict[int, tuple[PairRow, ...]]:
    """Pairs with the names that belong to them, by the id of the iteration that trains on them.

    The widest margin comes first, pairs without one last.
    """
    query = (
        select(
            PreferencePair.iteration_id,
            PreferencePair.id,
            Run.name.label("run"),
            Iteration.t,
            PreferencePair.prompt_id,
            PreferencePair.judge_id,
            PreferencePair.chosen_id,
            PreferencePair.rejected_id,
            PreferencePair.origin,
            PreferencePair.chosen_score,
            PreferencePair.rejected_score,
            PreferencePair.margin,
            PreferencePair.soft_label,
            PreferencePair.excluded,
            JUDGED_BY.label("judged_by"),
            TRAINED.c.name.label("trained"),
        )
        .join(Iteration, Iteration.id == PreferencePair.iteration_id)
        .join(Run, Run.id == Iteration.run_id)
        .outerjoin(Judge, Judge.id == PreferencePair.judge_id)
        .outerjoin(JUDGING, JUDGING.c.id == Judge.checkpoint_id)
        .outerjoin(TRAINED, TRAINED_BY_ITERATION & PreferencePair.excluded.is_(None))
        .where(of_these)
        .order_by(PreferencePair.iteration_id, PreferencePair.id)
    )
    found: dict[int, list[PairRow]] = defaultdict(list)
    for row in connection.execute(query):
        values = row._asdict()
        found[values.pop("iteration_id")].append(PairRow(**values))
    return {key: tuple(sorted(rows, key=lambda row: -(row.margin or 0))) for key, rows in found.items()}


def decisions_of(
    connection: Connection, prompt_id: int, pairs: Mapping[int, Sequence[PairRow]]
) -> dict[int | None, DecisionRow]:
    """What each iteration made of a prompt, by the iteration's id, oldest first.

    Of an imported prompt nothing was decided; iterations that took a pair of it are told all the same.
    """
    query = (
        select(
            PairDecision.iteration_id,
            Run.name.label("run"),
            Iteration.t,
            PairDecision.outcome,
            PairDecision.best_score,
            PairDecision.worst_score,
        )
        .join(Iteration, Iteration.id == PairDecision.iteration_id)
        .join(Run, Run.id == Iteration.run_id)
        .where(PairDecision.prompt_id == prompt_id)
    )
    found: dict[int | None, DecisionRow] = {}
    for row in connection.execute(query):
        values = row._asdict()
        mine = pairs.get(values.pop("iteration_id"), ())
        told = {
            "outcome": PairOutcome(row.outcome),
            "pair_id": mine[0].id if mine else None,
            "pairs": len(mine),
        }
        found[row.iteration_id] = DecisionRow(**values | told)
    for key, rows in pairs.items():
        found.setdefault(key, _taken(rows))
    return {key: found[key] for key in sorted(found, key=lambda key: key or 0)}


def _taken(pairs: Sequence[PairRow]) -> DecisionRow:
    first = pairs[0]
    return DecisionRow(
        run=first.run,
        t=first.t,
        outcome=PairOutcome.PAIRED,
        best_score=None,
        worst_score=None,
        pair_id=first.id,
        pairs=len(pairs),
    )
