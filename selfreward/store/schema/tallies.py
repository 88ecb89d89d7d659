"""Counts that are kept as rows are stored, so that summaries of millions of them take milliseconds."""

from sqlalchemy import ForeignKey
from sqlalchemy.orm import Mapped, mapped_column

from selfreward.store.schema.base import Id, Table


class CandidateTally(Table):
    """How many candidates of an iteration ended in which way."""

    __tablename__ = "candidate_tally"
    __table_args__ = ({"comment": "The candidates of an iteration, counted as they are stored."},)

    iteration_id: Mapped[int] = mapped_column(
        Id, ForeignKey("iteration.id"), primary_key=True, comment="The iteration that sampled them."
    )
    status: Mapped[str] = mapped_column(primary_key=True, comment="As candidate.status.")
    candidates: Mapped[int] = mapped_column(Id, comment="How many there are.")
    tokens: Mapped[int] = mapped_column(Id, comment="Their tokens.")


class JudgementTally(Table):
    """How many judgements of an iteration's candidates a judge has given, by score."""

    __tablename__ = "judgement_tally"
    __table_args__ = (
        {"comment": "The judgements of an iteration's candidates, counted as they are stored."},
    )

    iteration_id: Mapped[int] = mapped_column(
        Id, ForeignKey("iteration.id"), primary_key=True, comment="The iteration that sampled the candidates."
    )
    judge_id: Mapped[int] = mapped_column(
        Id, ForeignKey("judge.id"), primary_key=True, comment="Who judges, and how."
    )
    status: Mapped[str] = mapped_column(primary_key=True, comment="As judgement.status.")
    tenth: Mapped[int] = mapped_column(
        primary_key=True, comment="Their score times ten, rounded; 0 unless the status is read."
    )
    judgements: Mapped[int] = mapped_column(Id, comment="How many there are.")
    score_sum: Mapped[float] = mapped_column(comment="Sum of their scores.")
    score_squares: Mapped[float] = mapped_column(comment="Sum of the squares of the scores.")
    tokens: Mapped[int] = mapped_column(Id, comment="Tokens of the replies.")
