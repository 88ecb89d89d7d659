"""Candidates as people look at them: each with its judgements and the pairs that it is part of."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from sqlalchemy import ColumnElement, Connection, func, select

from selfreward.store.browse_pairs import INDEPENDENT
from selfreward.store.browsed import CandidateDetail, JudgementDetail, PairRef
from selfreward.store.schema import (
    Candidate,
    Checkpoint,
    Iteration,
    Judge,
    Judgement,
    PreferencePair,
    Prompt,
    Run,
)
from selfreward.types import CandidateStatus, JudgementStatus

WRITER, JUDGING = (Checkpoint.__table__.alias(name) for name in ("writer", "judging"))


def candidates_of(
    connection: Connection, of_these: ColumnElement[bool], judge_id: int | None
) -> list[CandidateDetail]:
    """Candidates by index, each with what was said about it. Imported ones are of the prompt's run."""
    query = (
        select(
            Candidate.id,
            Candidate.prompt_id,
            Candidate.candidate_index.label("index"),
            Run.name.label("run"),
            Iteration.t,
            Candidate.text,
            Candidate.status,
            Candidate.finish_reason,
            Candidate.token_count,
            Candidate.mean_logprob,
            WRITER.c.name.label("written_by"),
            Candidate.checkpoint_id.is_not(None).label("anchor"),
        )
        .join(Prompt, Prompt.id == Candidate.prompt_id)
        .outerjoin(Iteration, Iteration.id == Candidate.iteration_id)
        .join(Run, Run.id == func.coalesce(Iteration.run_id, Prompt.run_id))
        .outerjoin(WRITER, WRITER.c.id == func.coalesce(Candidate.checkpoint_id, Iteration.checkpoint_id))
        .where(of_these)
        .order_by(Candidate.candidate_index)
    )
    rows = connection.execute(query).all()
    ids = [row.id for row in rows]
    judgements, pairs = _judgements(connection, ids), _pair_refs(connection, ids)
    return [_candidate(row._asdict(), judgements[row.id], pairs[row.id], judge_id) for row in rows]


def _candidate(
    found: dict[str, Any],
    judgements: Sequence[JudgementDetail],
    pairs: Sequence[PairRef],
    judge_id: int | None,
) -> CandidateDetail:
    scores = [row.score for row in judgements if row.judge_id == judge_id and row.score is not None]
    return CandidateDetail(
        **found | {"status": CandidateStatus(found["status"]), "anchor": bool(found["anchor"])},
        judgements=tuple(judgements),
        judge_id=judge_id,
        mean_score=fmean(scores) if scores else None,
        pairs=tuple(pairs),
    )


def _judgements(connection: Connection, candidate_ids: Sequence[int]) -> Mapping[int, list[JudgementDetail]]:
    """Judgements by candidate, by judge and sample."""
    query = (
        select(
            Judgement.candidate_id,
            Judgement.id,
            Judgement.judge_id,
            func.coalesce(JUDGING.c.name, INDEPENDENT).label("judged_by"),
            Judgement.sample,
            Judgement.status,
            Judgement.score,
            Judgement.reward,
            Judgement.raw_text,
            Judgement.probabilities,
            Judgement.lost_mass,
            Judgement.token_count,
            Judgement.finish_reason,
        )
        .join(Judge, Judge.id == Judgement.judge_id)
        .outerjoin(JUDGING, JUDGING.c.id == Judge.checkpoint_id)
        .where(Judgement.candidate_id.in_(candidate_ids))
        .order_by(Judgement.candidate_id, Judgement.judge_id, Judgement.sample)
    )
    found: dict[int, list[JudgementDetail]] = defaultdict(list)
    for row in connection.execute(query):
        values = row._asdict()
        candidate = values.pop("candidate_id")
        chances = None if row.probabilities is None else tuple(row.probabilities)
        values |= {"status": JudgementStatus(row.status), "probabilities": chances}
        found[candidate].append(JudgementDetail(**values))
    return found


def _pair_refs(connection: Connection, candidate_ids: Sequence[int]) -> Mapping[int, list[PairRef]]:
    """The pairs that candidates are part of: found by their prompt, which has an index."""
    prompts = select(Candidate.prompt_id).where(Candidate.id.in_(candidate_ids))
    query = (
        select(
            PreferencePair.id,
            Run.name.label("run"),
            Iteration.t.label("number"),  # rows have a `t` of their own
            PreferencePair.chosen_id,
            PreferencePair.rejected_id,
        )
        .join(Iteration, Iteration.id == PreferencePair.iteration_id)
        .join(Run, Run.id == Iteration.run_id)
        .where(PreferencePair.prompt_id.in_(prompts))
        .order_by(PreferencePair.id)
    )
    found: dict[int, list[PairRef]] = defaultdict(list)
    for row in connection.execute(query):
        for key, role in ((row.chosen_id, "chosen"), (row.rejected_id, "rejected")):
            found[key].append(PairRef(id=row.id, run=row.run, t=row.number, role=role))
    return found
