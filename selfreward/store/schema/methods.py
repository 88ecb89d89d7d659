"""What the neighbouring methods store: comparisons, imported preferences, agreement, meta-judging."""

from datetime import datetime

from sqlalchemy import CheckConstraint, ForeignKey, Index, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from selfreward.store.schema.base import Id, Table, key, refers_to

READ = "(probability_first IS NOT NULL) = (status = 'read')"
PROBABILITY = "probability_first IS NULL OR (probability_first >= 0 AND probability_first <= 1)"


class CandidateComparison(Table):
    """Two candidates of one prompt, in one order."""

    __tablename__ = "candidate_comparison"
    __table_args__ = (
        UniqueConstraint("judge_id", "first_id", "second_id"),
        CheckConstraint("first_id <> second_id", name="two_candidates"),
        CheckConstraint(READ, name="probability_iff_read"),
        CheckConstraint(PROBABILITY, name="probability_range"),
        Index("ix_candidate_comparison_iteration", "iteration_id", "judge_id"),
        {"comment": "Which of two candidates of a prompt a judge prefers, shown in one order."},
    )

    id: Mapped[int] = key()
    iteration_id: Mapped[int] = refers_to("iteration.id", "The iteration that had them compared.")
    judge_id: Mapped[int] = refers_to("judge.id", "Who compares, and how.")
    first_id: Mapped[int] = refers_to("candidate.id", "The candidate that was shown first.")
    second_id: Mapped[int] = refers_to("candidate.id", "The candidate that was shown second.")
    session_id: Mapped[int | None] = refers_to("engine_session.id", "The engine session that compared.")
    status: Mapped[str] = mapped_column(comment="read, unreadable, too_long or failed.")
    probability_first: Mapped[float | None] = mapped_column(
        comment="P(1) / (P(1) + P(2)): that the first is better, 0 to 1; NULL unless the status is read."
    )
    lost_mass: Mapped[float | None] = mapped_column(comment="Probability of everything but 1 and 2.")
    raw_text: Mapped[str] = mapped_column(comment="The judge's reasoning; empty when it was only asked.")
    token_count: Mapped[int] = mapped_column(comment="Tokens it wrote.")
    created_at: Mapped[datetime] = mapped_column(comment="UTC.")


class ImportedPreference(Table):
    """A preference of people, or of another model."""

    __tablename__ = "imported_preference"
    __table_args__ = (
        UniqueConstraint("run_id", "prompt_id", "chosen_id", "rejected_id"),
        CheckConstraint("chosen_id <> rejected_id", name="two_candidates"),
        {"comment": "A preference that a user has imported; iterations draw preference pairs from these."},
    )

    id: Mapped[int] = key()
    run_id: Mapped[int] = refers_to("run.id", "Its run.")
    prompt_id: Mapped[int] = refers_to("prompt.id", "The prompt, imported with it.")
    chosen_id: Mapped[int] = refers_to("candidate.id", "The better answer.")
    rejected_id: Mapped[int] = refers_to("candidate.id", "The worse answer.")
    origin: Mapped[str] = mapped_column(comment="Name of the file it came from.")
    chosen_score: Mapped[float | None] = mapped_column(
        comment="Score of the chosen one, where the file has it."
    )
    rejected_score: Mapped[float | None] = mapped_column(
        comment="Score of the rejected one, where the file has it."
    )
    soft_label: Mapped[float | None] = mapped_column(
        comment="Probability that chosen is better, where the file has it; NULL for a hard label."
    )
    created_at: Mapped[datetime] = mapped_column(comment="UTC.")


class Consistency(Table):
    """How far two judges agree about one prompt."""

    __tablename__ = "consistency"
    __table_args__ = (
        {"comment": "Agreement of M_t's ranking of a prompt's candidates with that of the model before it."},
    )

    iteration_id: Mapped[int] = mapped_column(
        Id, ForeignKey("iteration.id"), primary_key=True, comment="The iteration that trains on it."
    )
    prompt_id: Mapped[int] = mapped_column(
        Id, ForeignKey("prompt.id"), primary_key=True, comment="The prompt."
    )
    judge_id: Mapped[int] = refers_to("judge.id", "M_t as a judge.")
    previous_judge_id: Mapped[int] = refers_to("judge.id", "The model before it as a judge.")
    tau: Mapped[float | None] = mapped_column(
        comment="Kendall's tau of the two rankings, -1 to 1; NULL where one of them says nothing."
    )
    candidates: Mapped[int] = mapped_column(comment="Candidates that both have scored.")


class JudgementComparison(Table):
    """Two judgements of one candidate, in one order."""

    __tablename__ = "judgement_comparison"
    __table_args__ = (
        UniqueConstraint("judge_id", "first_id", "second_id"),
        CheckConstraint("first_id <> second_id", name="two_judgements"),
        CheckConstraint(READ, name="probability_iff_read"),
        CheckConstraint(PROBABILITY, name="probability_range"),
        Index("ix_judgement_comparison_iteration", "iteration_id", "judge_id"),
        {"comment": "Which of two judgements of one candidate a model prefers, shown in one order."},
    )

    id: Mapped[int] = key()
    iteration_id: Mapped[int] = refers_to("iteration.id", "The iteration that had them compared.")
    judge_id: Mapped[int] = refers_to("judge.id", "Who compares, and how: a judge of type meta.")
    first_id: Mapped[int] = refers_to("judgement.id", "The judgement that was shown first.")
    second_id: Mapped[int] = refers_to("judgement.id", "The judgement that was shown second.")
    session_id: Mapped[int | None] = refers_to("engine_session.id", "The engine session that compared.")
    status: Mapped[str] = mapped_column(comment="read, unreadable, too_long or failed.")
    probability_first: Mapped[float | None] = mapped_column(
        comment="That the first is better, 0 to 1; NULL unless the status is read."
    )
    raw_text: Mapped[str] = mapped_column(comment="What the model wrote; empty when it was only asked.")
    token_count: Mapped[int] = mapped_column(comment="Tokens it wrote.")
    created_at: Mapped[datetime] = mapped_column(comment="UTC.")


class JudgementPair(Table):
    """Best over worst judgement of one candidate."""

    __tablename__ = "judgement_pair"
    __table_args__ = (
        UniqueConstraint("iteration_id", "candidate_id"),
        CheckConstraint("chosen_id <> rejected_id", name="two_judgements"),
        {"comment": "A preference pair of judgements: what the next checkpoint learns to judge from."},
    )

    id: Mapped[int] = key()
    iteration_id: Mapped[int] = refers_to("iteration.id", "The iteration that trains on it.")
    candidate_id: Mapped[int] = refers_to("candidate.id", "The candidate both judge.")
    chosen_id: Mapped[int] = refers_to("judgement.id", "The better judgement.")
    rejected_id: Mapped[int] = refers_to("judgement.id", "The worse judgement.")
    chosen_elo: Mapped[float] = mapped_column(comment="Elo rating of the chosen one.")
    rejected_elo: Mapped[float] = mapped_column(comment="Elo rating of the rejected one.")
    excluded: Mapped[str | None] = mapped_column(
        comment="Why it was left out of training (too_long); NULL if it was not."
    )
    created_at: Mapped[datetime] = mapped_column(comment="UTC.")
