"""The queries behind an export, and the scores that belong to a page of what they find."""

from sqlalchemy import Connection, func, select
from sqlalchemy.orm import aliased

from selfreward.store.exported import Source
from selfreward.store.rows import AnyRow, AnySelect
from selfreward.store.schema import (
    Candidate,
    Checkpoint,
    Judge,
    Judgement,
    PreferencePair,
    Prompt,
    ReplyJudgement,
    SftExample,
)
from selfreward.types import CandidateStatus

_CHOSEN, _REJECTED = aliased(Candidate), aliased(Candidate)
PAIR_KEY = (PreferencePair.prompt_id, PreferencePair.chosen_id, PreferencePair.rejected_id)
"""In whose order the index has an iteration's pairs: by id each page would sort."""
PAIRS = (
    select(
        *PAIR_KEY,
        PreferencePair.id.label("pair_id"),
        Prompt.text.label("prompt"),
        _CHOSEN.text.label("chosen"),
        _REJECTED.text.label("rejected"),
        PreferencePair.chosen_score,
        PreferencePair.rejected_score,
        PreferencePair.margin,
        PreferencePair.soft_label,
        PreferencePair.origin,
        PreferencePair.excluded,
        PreferencePair.judge_id,
        Checkpoint.name.label("judged_by"),
    )
    .join(Prompt, Prompt.id == PreferencePair.prompt_id)
    .join(_CHOSEN, _CHOSEN.id == PreferencePair.chosen_id)
    .join(_REJECTED, _REJECTED.id == PreferencePair.rejected_id)
    .outerjoin(Judge, Judge.id == PreferencePair.judge_id)
    .outerjoin(Checkpoint, Checkpoint.id == Judge.checkpoint_id)
)
CANDIDATES = (
    select(
        Candidate.id.label("candidate_id"),
        Prompt.text.label("prompt"),
        Candidate.text,
        Candidate.status,
        Candidate.finish_reason,
        Candidate.token_count,
        Candidate.mean_logprob,
        Candidate.candidate_index,
        Candidate.prompt_id,
        Checkpoint.name.label("anchor_of"),
    )
    .join(Prompt, Prompt.id == Candidate.prompt_id)
    .outerjoin(Checkpoint, Checkpoint.id == Candidate.checkpoint_id)
)
EXAMPLES = (
    select(
        SftExample.id.label("example_id"),
        SftExample.kind,
        SftExample.prompt_id,
        SftExample.input,
        SftExample.completion,
        SftExample.score,
        Checkpoint.name.label("written_by"),
    )
    .outerjoin(ReplyJudgement, ReplyJudgement.id == SftExample.reply_judgement_id)
    .outerjoin(Judge, Judge.id == ReplyJudgement.judge_id)
    .outerjoin(Checkpoint, Checkpoint.id == Judge.checkpoint_id)
)


def candidates_of(source: Source) -> AnySelect:
    return CANDIDATES.where(Candidate.iteration_id == source.data_iteration_id)


def scores_of(
    connection: Connection, source: Source, rows: list[AnyRow]
) -> dict[int, tuple[float | None, int, int]]:
    """Mean score, judgements and readable ones of each candidate of a page, by its id.

    A range is one way into the index, where each id would be one; what lies between them is left alone.
    """
    query = (
        select(Judgement.candidate_id, func.avg(Judgement.score), func.count(), func.count(Judgement.score))
        .where(
            Judgement.candidate_id.between(rows[0].candidate_id, rows[-1].candidate_id),
            Judgement.judge_id == source.judge_id,
        )
        .group_by(Judgement.candidate_id)
    )
    return {key: (mean, asked, read) for key, mean, asked, read in connection.execute(query)}


def judgements_of(source: Source, rows: list[AnyRow]) -> AnySelect:
    return (
        select(
            Judgement.id.label("judgement_id"),
            Judgement.candidate_id,
            Judgement.sample,
            Judgement.raw_text,
            Judgement.status,
            Judgement.score,
            Judgement.probabilities,
            Judgement.lost_mass,
            Judgement.token_count,
            Judgement.finish_reason,
        )
        .where(
            Judgement.candidate_id.between(rows[0].candidate_id, rows[-1].candidate_id),
            Judgement.judge_id == source.judge_id,
        )
        .order_by(Judgement.candidate_id, Judgement.sample)
    )


def best_answers(
    connection: Connection, source: Source, rows: list[AnyRow], min_scores: int
) -> dict[int, AnyRow]:
    """The best answer to each prompt of a page, by the prompt's id."""
    mean = func.avg(Judgement.score).label("score")
    query = (
        select(Candidate.id, Candidate.prompt_id, Candidate.text, mean)
        .join(Judgement, Judgement.candidate_id == Candidate.id)
        .where(
            Candidate.prompt_id.between(rows[0].key, rows[-1].key),
            Candidate.checkpoint_id.is_(None),
            Candidate.status == CandidateStatus.OK,
            Judgement.judge_id == source.judge_id,
            Judgement.score.is_not(None),
        )
        .group_by(Candidate.id)
        .having(func.count() >= min_scores)
        .order_by(Candidate.prompt_id, mean, Candidate.candidate_index.desc())
    )
    return {row.prompt_id: row for row in connection.execute(query)}  # the last of each prompt is its best
