"""The bootstrap and the measuring: ranked replies, examples, held-out answers, figures, gates."""

from datetime import datetime

from sqlalchemy import CheckConstraint, ForeignKey, ForeignKeyConstraint, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from selfreward.store.schema.base import Id, Table, key, refers_to


class RankedReply(Table):
    """A reply to a seed that people have ranked."""

    __tablename__ = "ranked_reply"
    __table_args__ = (
        UniqueConstraint("prompt_id", "position"),
        {"comment": "A reply to a seed that people have ranked among others: what a judge is measured on."},
    )

    id: Mapped[int] = key()
    prompt_id: Mapped[int] = refers_to("prompt.id", "The seed it replies to.")
    position: Mapped[int] = mapped_column(comment="Place among the seed's replies, from 0, best first.")
    text: Mapped[str] = mapped_column(comment="The reply.")
    rank: Mapped[int] = mapped_column(comment="By people; 0 is best, and equal ranks are possible.")
    score: Mapped[float | None] = mapped_column(comment="0 to 5, where the seed brings a score.")
    justification: Mapped[str | None] = mapped_column(comment="Why that score, where the seed says so.")
    canary_of: Mapped[int | None] = refers_to(
        "ranked_reply.id", "The reply it repeats with an order to the judge added; NULL for a real one."
    )
    created_at: Mapped[datetime] = mapped_column(comment="UTC.")


class ReplyJudgement(Table):
    """One judgement of one ranked reply."""

    __tablename__ = "reply_judgement"
    __table_args__ = (
        UniqueConstraint("reply_id", "judge_id", "sample"),
        CheckConstraint("score IS NULL OR (score >= 0 AND score <= 5)", name="score_range"),
        CheckConstraint("(score IS NOT NULL) = (status = 'read')", name="score_iff_read"),
        {"comment": "One judgement of one ranked reply, to choose training examples or to measure a judge."},
    )

    id: Mapped[int] = key()
    reply_id: Mapped[int] = refers_to("ranked_reply.id", "What is judged.")
    judge_id: Mapped[int] = refers_to("judge.id", "Who judges, and how.")
    sample: Mapped[int] = mapped_column(comment="0 to K-1.")
    session_id: Mapped[int | None] = refers_to("engine_session.id", "The engine session that wrote it.")
    raw_text: Mapped[str] = mapped_column(comment="The judge's reply, whole.")
    status: Mapped[str] = mapped_column(comment="read, unreadable, out_of_range, too_long or failed.")
    score: Mapped[float | None] = mapped_column(comment="0 to 5; NULL unless the status is read.")
    probabilities: Mapped[list[float] | None] = mapped_column(
        comment="P(0) to P(5) where the score is an expectation, as a JSON array; NULL where it was sampled."
    )
    lost_mass: Mapped[float | None] = mapped_column(
        comment="Probability of everything but the six scores, where the score is an expectation."
    )
    token_count: Mapped[int] = mapped_column(comment="Tokens of the reply.")
    finish_reason: Mapped[str] = mapped_column(comment="As the engine said: stop, length, …")
    created_at: Mapped[datetime] = mapped_column(comment="UTC.")


class SftExample(Table):
    """One example of the bootstrap, kept or dropped."""

    __tablename__ = "sft_example"
    __table_args__ = (
        UniqueConstraint("iteration_id", "kind", "prompt_id", "position"),
        CheckConstraint("kept = (drop_reason IS NULL)", name="kept_or_why"),
        {"comment": "An example of the bootstrap (iteration 0): trained on, or dropped and why."},
    )

    id: Mapped[int] = key()
    iteration_id: Mapped[int] = refers_to("iteration.id", "The bootstrap, iteration 0.")
    kind: Mapped[str] = mapped_column(comment="ift (to answer a prompt) or eft (to judge a reply).")
    prompt_id: Mapped[int] = refers_to("prompt.id", "The seed it is made of.")
    position: Mapped[int] = mapped_column(comment="eft: place of the judged reply; ift: 0.")
    reply_id: Mapped[int | None] = refers_to("ranked_reply.id", "eft: the reply that is judged.")
    reply_judgement_id: Mapped[int | None] = refers_to(
        "reply_judgement.id", "eft: the judgement by the SFT baseline; NULL where the seed brought its own."
    )
    score: Mapped[float | None] = mapped_column(comment="eft: the score that is taught.")
    input: Mapped[str] = mapped_column(comment="What the model is shown.")
    completion: Mapped[str] = mapped_column(comment="What it learns to reply.")
    kept: Mapped[bool] = mapped_column(comment="Whether it is trained on.")
    drop_reason: Mapped[str | None] = mapped_column(
        comment="too_long, unreadable, disagrees, common_score or surplus; NULL when kept."
    )
    created_at: Mapped[datetime] = mapped_column(comment="UTC.")


class Answer(Table):
    """A checkpoint's answer to a held-out prompt."""

    __tablename__ = "answer"
    __table_args__ = (
        UniqueConstraint("checkpoint_id", "prompt_id"),
        {"comment": "A checkpoint's answer to a held-out prompt: what an assistant is measured on."},
    )

    id: Mapped[int] = key()
    checkpoint_id: Mapped[int] = refers_to("checkpoint.id", "Who answers.")
    prompt_id: Mapped[int] = refers_to("prompt.id", "The held-out seed.")
    session_id: Mapped[int | None] = refers_to("engine_session.id", "The engine session that wrote it.")
    text: Mapped[str] = mapped_column(comment="The answer.")
    status: Mapped[str] = mapped_column(
        comment="ok, truncated (cut off at max_tokens), empty, too_long or failed."
    )
    finish_reason: Mapped[str] = mapped_column(comment="As the engine said: stop, length, …")
    token_count: Mapped[int] = mapped_column(comment="Tokens of the answer.")
    mean_logprob: Mapped[float | None] = mapped_column(comment="Mean log-probability of its tokens, nats.")
    created_at: Mapped[datetime] = mapped_column(comment="UTC.")


class AnswerComparison(Table):
    """Two answers to one held-out prompt, in one order."""

    __tablename__ = "answer_comparison"
    __table_args__ = (
        UniqueConstraint("judge_id", "first_id", "second_id"),
        {"comment": "Which of two answers to a held-out prompt a judge prefers, shown in one order."},
    )

    id: Mapped[int] = key()
    judge_id: Mapped[int] = refers_to("judge.id", "Who compares, and how.")
    first_id: Mapped[int] = refers_to("answer.id", "The answer that was shown first.")
    second_id: Mapped[int] = refers_to("answer.id", "The answer that was shown second.")
    session_id: Mapped[int | None] = refers_to("engine_session.id", "The engine session that compared.")
    verdict: Mapped[str | None] = mapped_column(comment="first or second; NULL when it could not be read.")
    probability_first: Mapped[float | None] = mapped_column(
        comment="P(first) against P(second); NULL when the judge only wrote its verdict."
    )
    raw_text: Mapped[str] = mapped_column(comment="What the judge wrote; empty when it was only asked.")
    created_at: Mapped[datetime] = mapped_column(comment="UTC.")


class Evaluation(Table):
    """One figure of one checkpoint."""

    __tablename__ = "evaluation"
    __table_args__ = (
        UniqueConstraint("run_id", "checkpoint", "suite", "metric"),
        ForeignKeyConstraint(["run_id", "checkpoint"], ["checkpoint.run_id", "checkpoint.name"]),
        {"comment": "One figure of one checkpoint with its 95% interval."},
    )

    id: Mapped[int] = key()
    run_id: Mapped[int] = mapped_column(Id, comment="Its run.")
    checkpoint: Mapped[str] = mapped_column(comment="Name of the checkpoint that was measured.")
    suite: Mapped[str] = mapped_column(
        comment="judge, assistant (compared by itself) or assistant_independent (by another judge)."
    )
    metric: Mapped[str] = mapped_column(comment="readable_share, pairwise_accuracy, win_rate_first, …")
    value: Mapped[float | None] = mapped_column(comment="The figure; NULL when nothing could be measured.")
    low: Mapped[float | None] = mapped_column(comment="Lower end of its 95% interval.")
    high: Mapped[float | None] = mapped_column(comment="Upper end of its 95% interval.")
    n: Mapped[int] = mapped_column(comment="Items it was measured on.")
    created_at: Mapped[datetime] = mapped_column(comment="UTC.")


class GateCheck(Table):
    """What a health gate found."""

    __tablename__ = "gate_check"
    __table_args__ = ({"comment": "What each health gate found in an iteration, before it trained."},)

    iteration_id: Mapped[int] = mapped_column(
        Id, ForeignKey("iteration.id"), primary_key=True, comment="The iteration."
    )
    gate: Mapped[str] = mapped_column(primary_key=True, comment="readable_share, tie_share, spread, …")
    state: Mapped[str] = mapped_column(
        comment="ok, warn, pause, accepted (paused, then let through by a user) or skipped."
    )
    value: Mapped[float | None] = mapped_column(comment="What was found.")
    limit_value: Mapped[float | None] = mapped_column(comment="What it was held against.")
    message: Mapped[str] = mapped_column(comment="The finding and what to try, in words.")
    checked_at: Mapped[datetime] = mapped_column(comment="UTC.")
