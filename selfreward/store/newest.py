"""The newest rows of a stage, with the time at which each was written: a rate for who looks only once."""

from typing import Any

from sqlalchemy import ScalarSelect, literal, select

from selfreward.store.anchors import anchor_judgements, anchors_of
from selfreward.store.consistency import previous_judges
from selfreward.store.meta import comparisons_of
from selfreward.store.rows import AnySelect
from selfreward.store.schema import (
    Answer,
    AnswerComparison,
    Candidate,
    Checkpoint,
    Iteration,
    Judge,
    Judgement,
    JudgementComparison,
    Prompt,
    RankedReply,
    ReplyJudgement,
)
from selfreward.types import IterationRow, PromptStatus, Split, StageName

NEWEST = 500
"""Rows that are looked at."""


def judge_of(iteration: IterationRow) -> ScalarSelect[Any]:
    """Whose judgements of the iteration's candidates count."""
    return select(Iteration.judge_id).where(Iteration.id == iteration.id).scalar_subquery()


def newest_of(stage: StageName, iteration: IterationRow, limit: int = NEWEST) -> AnySelect | None:
    """(when it was written, its tokens) of the newest rows of a stage; None where rows tell no time.

    By key, from its end, or by an index that begins with the iteration where there is one. Of judgements
    and of what is measured the newest of all runs are looked at: there is one daemon as a rule, and where
    there are two, each is told a rate over less of the last minute.
    """
    if iteration.t == 0 and stage in _OF_REPLIES:
        return _of_replies(iteration, limit, _OF_REPLIES[stage])
    builder = _BUILDERS.get(stage)
    return None if builder is None else builder(iteration, limit)


def _prompts(iteration: IterationRow, limit: int) -> AnySelect:
    mine = (Prompt.iteration_id == iteration.id) & (Prompt.status == PromptStatus.ACCEPTED)
    return select(Prompt.created_at, literal(0)).where(mine).order_by(Prompt.id.desc()).limit(limit)


def _candidates(iteration: IterationRow, limit: int) -> AnySelect:
    query = select(Candidate.created_at, Candidate.token_count)
    mine = Candidate.iteration_id == iteration.data_iteration_id
    return query.where(mine).order_by(Candidate.id.desc()).limit(limit)


def _judgements(iteration: IterationRow, limit: int) -> AnySelect:
    last = select(Judgement.id).order_by(Judgement.id.desc()).limit(limit).subquery()
    return (
        select(Judgement.created_at, Judgement.token_count)
        .join(last, last.c.id == Judgement.id)
        .join(Candidate, Candidate.id == Judgement.candidate_id)
        .where(
            Candidate.iteration_id == iteration.data_iteration_id,
            Judgement.judge_id == judge_of(iteration),
        )
        .order_by(Judgement.id.desc())
    )


def _judgements_before(iteration: IterationRow, limit: int) -> AnySelect:
    """Of the model before M_t."""
    last = select(Judgement.id).order_by(Judgement.id.desc()).limit(limit).subquery()
    return (
        select(Judgement.created_at, Judgement.token_count)
        .join(last, last.c.id == Judgement.id)
        .join(Candidate, Candidate.id == Judgement.candidate_id)
        .where(
            Candidate.iteration_id == iteration.data_iteration_id,
            Judgement.judge_id.in_(previous_judges(iteration)),
        )
        .order_by(Judgement.id.desc())
    )


def _anchors(iteration: IterationRow, limit: int) -> AnySelect:
    query = select(Candidate.created_at, Candidate.token_count)
    mine = query.where(anchors_of(iteration.data_iteration_id))
    return mine.order_by(Candidate.id.desc()).limit(limit)


def _anchor_judgements(iteration: IterationRow, limit: int) -> AnySelect:
    return anchor_judgements(iteration).order_by(Judgement.id.desc()).limit(limit)


def _judgement_comparisons(iteration: IterationRow, limit: int) -> AnySelect:
    return comparisons_of(iteration).order_by(JudgementComparison.id.desc()).limit(limit)


def _answers(iteration: IterationRow, limit: int) -> AnySelect:
    last = select(Answer.id).order_by(Answer.id.desc()).limit(limit).subquery()
    query = select(Answer.created_at, Answer.token_count).join(last, last.c.id == Answer.id)
    return query.where(Answer.checkpoint_id == iteration.checkpoint_id).order_by(Answer.id.desc())


def _of_replies(iteration: IterationRow, limit: int, split: Split | None = None) -> AnySelect:
    """Judgements of ranked replies; in the bootstrap the SFT baseline judges two kinds of them at once."""
    last = select(ReplyJudgement.id).order_by(ReplyJudgement.id.desc()).limit(limit).subquery()
    query = (
        select(ReplyJudgement.created_at, ReplyJudgement.token_count)
        .join(last, last.c.id == ReplyJudgement.id)
        .where(ReplyJudgement.judge_id.in_(_judges(iteration)))
        .order_by(ReplyJudgement.id.desc())
    )
    if split is None:
        return query
    of_seed = query.join(RankedReply, RankedReply.id == ReplyJudgement.reply_id)
    by_baseline = ReplyJudgement.judge_id.not_in(
        select(Judge.id).where(Judge.checkpoint_id == iteration.checkpoint_id)
    )
    return of_seed.join(Prompt, Prompt.id == RankedReply.prompt_id).where(Prompt.split == split, by_baseline)


def _comparisons(iteration: IterationRow, limit: int) -> AnySelect:
    row = AnswerComparison
    last = select(row.id).order_by(row.id.desc()).limit(limit).subquery()
    query = select(row.created_at, literal(0)).join(last, last.c.id == row.id)
    return query.where(row.judge_id.in_(_judges(iteration))).order_by(row.id.desc())


def _judges(iteration: IterationRow) -> AnySelect:
    """Ways of judging of M_t, in the bootstrap also of the SFT baseline."""
    beside = (Checkpoint.run_id == iteration.run_id) & (Checkpoint.version == iteration.t)
    mine = (Checkpoint.id == iteration.checkpoint_id) | beside
    return select(Judge.id).join(Checkpoint, Checkpoint.id == Judge.checkpoint_id).where(mine)


_BUILDERS = {
    StageName.SELF_INSTRUCT: _prompts,
    StageName.SAMPLE: _candidates,
    StageName.JUDGE: _judgements,
    StageName.META_JUDGE: _judgement_comparisons,
    StageName.JUDGE_PREVIOUS: _judgements_before,
    StageName.ANCHOR: _anchors,
    StageName.JUDGE_ANCHOR: _anchor_judgements,
    StageName.ANSWER_HELD_OUT: _answers,
    StageName.JUDGE_HELD_OUT: _of_replies,
    StageName.COMPARE: _comparisons,
}
_OF_REPLIES = {StageName.JUDGE: Split.TRAIN, StageName.MEASURE_BASELINE: Split.HELD_OUT}
