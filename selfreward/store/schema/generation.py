"""What an iteration makes: prompts, candidates, judgements, preference pairs, numbers of the training."""

from datetime import datetime
from typing import Any

from sqlalchemy import CheckConstraint, ForeignKey, Index, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from selfreward.store.schema.base import Id, Table, key, refers_to


class Prompt(Table):
    """An instruction."""

    __tablename__ = "prompt"
    __table_args__ = (
        UniqueConstraint("iteration_id", "draw", "draw_index"),
        Index("ix_prompt_work", "iteration_id", "status", "id"),
        Index(
            "ix_prompt_rejected",
            "reject_reason",
            "id",
            sqlite_where=text("reject_reason IS NOT NULL"),
            postgresql_where=text("reject_reason IS NOT NULL"),
        ),
        Index(
            "uq_prompt_seed",
            "run_id",
            "text_hash",
            unique=True,
            sqlite_where=text("source = 'seed'"),
            postgresql_where=text("source = 'seed'"),
        ),
        Index(
            "uq_prompt_imported",
            "run_id",
            "text_hash",
            unique=True,
            sqlite_where=text("source = 'imported'"),
            postgresql_where=text("source = 'imported'"),
        ),
        {"comment": "An instruction: a seed, or written by the model, kept or turned away."},
    )

    id: Mapped[int] = key()
    run_id: Mapped[int] = refers_to("run.id", "Its run.")
    iteration_id: Mapped[int | None] = refers_to(
        "iteration.id", "The iteration that wrote it; NULL for seeds and imported ones."
    )
    source: Mapped[str] = mapped_column(comment="seed, self_instruct or imported (with preferences).")
    origin: Mapped[str | None] = mapped_column(comment="Seeds and imported ones: the file it came from.")
    draw: Mapped[int | None] = mapped_column(comment="Which request of the iteration wrote it.")
    draw_index: Mapped[int | None] = mapped_column(comment="Which of that request's replies it is.")
    text: Mapped[str] = mapped_column(comment="The instruction.")
    text_hash: Mapped[str] = mapped_column(comment="sha256 of the text.")
    reference: Mapped[str | None] = mapped_column(comment="Seeds: a good answer, where there is one.")
    split: Mapped[str | None] = mapped_column(
        comment="Seeds: train, or held_out (only for measuring); NULL for what a model wrote."
    )
    status: Mapped[str] = mapped_column(comment="accepted or rejected.")
    reject_reason: Mapped[str | None] = mapped_column(
        comment="empty, cut_off, too_short, too_long, keyword, bad_start, similar or surplus."
    )
    nearest_prompt_id: Mapped[int | None] = refers_to(
        "prompt.id", "The most similar prompt when it was written."
    )
    nearest_rouge_l: Mapped[float | None] = mapped_column(comment="ROUGE-L F with that prompt, 0 to 1.")
    created_at: Mapped[datetime] = mapped_column(comment="UTC.")


class PromptDemonstration(Table):
    """Which prompts were shown when a prompt was written."""

    __tablename__ = "prompt_demonstration"
    __table_args__ = ({"comment": "The demonstrations a prompt was written from."},)

    prompt_id: Mapped[int] = mapped_column(
        Id, ForeignKey("prompt.id"), primary_key=True, comment="The new prompt."
    )
    position: Mapped[int] = mapped_column(primary_key=True, comment="Place among the demonstrations, from 0.")
    demonstration_id: Mapped[int] = refers_to("prompt.id", "The prompt that was shown.")


class Candidate(Table):
    """An answer."""

    __tablename__ = "candidate"
    __table_args__ = (
        UniqueConstraint("prompt_id", "candidate_index"),
        Index("ix_candidate_work", "iteration_id", "id"),
        Index(
            "ix_candidate_anchor",
            "iteration_id",
            "id",
            sqlite_where=text("checkpoint_id IS NOT NULL"),
            postgresql_where=text("checkpoint_id IS NOT NULL"),
        ),
        {"comment": "An answer to a prompt: one of M_t's N, an earlier model's, or an imported one."},
    )

    id: Mapped[int] = key()
    iteration_id: Mapped[int | None] = refers_to(
        "iteration.id", "The iteration that sampled it; NULL for an imported one."
    )
    checkpoint_id: Mapped[int | None] = refers_to(
        "checkpoint.id", "The earlier model that wrote it, as an anchor; NULL: M_t did, or it is imported."
    )
    prompt_id: Mapped[int] = refers_to("prompt.id", "The prompt it answers.")
    candidate_index: Mapped[int] = mapped_column(comment="0 to N-1; anchors come after those.")
    session_id: Mapped[int | None] = refers_to("engine_session.id", "The engine session that wrote it.")
    text: Mapped[str] = mapped_column(comment="The answer.")
    status: Mapped[str] = mapped_column(
        comment="ok, truncated (cut off at max_tokens), empty, too_long or failed."
    )
    finish_reason: Mapped[str] = mapped_column(comment="As the engine said: stop, length, …; or imported.")
    token_count: Mapped[int] = mapped_column(comment="Tokens of the answer; 0 if imported.")
    mean_logprob: Mapped[float | None] = mapped_column(comment="Mean log-probability of its tokens, nats.")
    created_at: Mapped[datetime] = mapped_column(comment="UTC.")


class Judge(Table):
    """Who judges, and how."""

    __tablename__ = "judge"
    __table_args__ = (
        UniqueConstraint("checkpoint_id", "digest"),
        {"comment": "A way of judging: a template, its parameters, and the checkpoint that judges."},
    )

    id: Mapped[int] = key()
    type: Mapped[str] = mapped_column(
        comment=(
            "rubric (scores one reply), pairwise (compares two), reward_model or meta (compares judgements)."
        )
    )
    checkpoint_id: Mapped[int | None] = refers_to(
        "checkpoint.id", "The model that judges; NULL for a judge that is not of this run (see parameters)."
    )
    template: Mapped[str] = mapped_column(comment="Name of the prompt template.")
    template_digest: Mapped[str] = mapped_column(comment="sha256 of the template's text.")
    parameters: Mapped[dict[str, Any]] = mapped_column(comment="Sampling parameters and format.")
    digest: Mapped[str] = mapped_column(comment="sha256 over type, template and parameters.")
    created_at: Mapped[datetime] = mapped_column(comment="UTC.")


class Judgement(Table):
    """One judgement of one candidate."""

    __tablename__ = "judgement"
    __table_args__ = (
        UniqueConstraint("candidate_id", "judge_id", "sample"),
        CheckConstraint("score IS NULL OR (score >= 0 AND score <= 5)", name="score_range"),
        CheckConstraint("(score IS NOT NULL) = (status = 'read')", name="score_iff_read"),
        {"comment": "One sampled judgement of one candidate. Unreadable ones are kept with score NULL."},
    )

    id: Mapped[int] = key()
    candidate_id: Mapped[int] = refers_to("candidate.id", "What is judged.")
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
    reward: Mapped[float | None] = mapped_column(
        comment="A reward model's raw reward, of which the score is 5·sigmoid; NULL for other judges."
    )
    token_count: Mapped[int] = mapped_column(comment="Tokens of the reply.")
    finish_reason: Mapped[str] = mapped_column(comment="As the engine said: stop, length, …")
    created_at: Mapped[datetime] = mapped_column(comment="UTC.")


class PreferencePair(Table):
    """Chosen over rejected."""

    __tablename__ = "preference_pair"
    __table_args__ = (
        UniqueConstraint("iteration_id", "prompt_id", "chosen_id", "rejected_id"),
        CheckConstraint("chosen_id <> rejected_id", name="two_candidates"),
        CheckConstraint("chosen_score > rejected_score", name="no_tie"),
        Index("ix_preference_pair_margin", "iteration_id", "margin", "prompt_id", "excluded"),
        Index("ix_preference_pair_prompt", "prompt_id"),
        {"comment": "A preference pair: what the next checkpoint is trained on."},
    )

    id: Mapped[int] = key()
    iteration_id: Mapped[int] = refers_to("iteration.id", "The iteration that trains on it.")
    prompt_id: Mapped[int] = refers_to("prompt.id", "The prompt both answer.")
    judge_id: Mapped[int | None] = refers_to("judge.id", "Whose scores made it; NULL for an imported one.")
    chosen_id: Mapped[int] = refers_to("candidate.id", "The better candidate.")
    rejected_id: Mapped[int] = refers_to("candidate.id", "The worse candidate.")
    origin: Mapped[str] = mapped_column(
        server_default="ai", comment="ai (a judge's scores), or the imported file it came from."
    )
    chosen_score: Mapped[float | None] = mapped_column(comment="Mean score of the chosen one, if it has any.")
    rejected_score: Mapped[float | None] = mapped_column(
        comment="Mean score of the rejected one, if it has any."
    )
    margin: Mapped[float | None] = mapped_column(comment="chosen_score - rejected_score, if both are there.")
    soft_label: Mapped[float | None] = mapped_column(
        comment="Probability that chosen is better; NULL for a hard label."
    )
    excluded: Mapped[str | None] = mapped_column(
        comment="Why it was left out of training (too_long, imported_share, balance); NULL if it was not."
    )
    created_at: Mapped[datetime] = mapped_column(comment="UTC.")


class PairDecision(Table):
    """What became of each prompt."""

    __tablename__ = "pair_decision"
    __table_args__ = (
        Index("ix_pair_decision_outcome", "iteration_id", "outcome", "prompt_id"),
        Index("ix_pair_decision_best", "iteration_id", "best_score", "prompt_id"),
        Index("ix_pair_decision_prompt", "prompt_id"),
        {"comment": "For each prompt, whether it gave a pair, and if not, why."},
    )

    iteration_id: Mapped[int] = mapped_column(
        Id, ForeignKey("iteration.id"), primary_key=True, comment="The iteration that decided."
    )
    prompt_id: Mapped[int] = mapped_column(
        Id, ForeignKey("prompt.id"), primary_key=True, comment="The prompt."
    )
    outcome: Mapped[str] = mapped_column(
        comment="paired, unscored, tie, twins, below_margin, unanchored, surplus or pair_too_long."
    )
    best_score: Mapped[float | None] = mapped_column(
        comment="Mean score of the best of the candidates that took part; NULL when unscored."
    )
    worst_score: Mapped[float | None] = mapped_column(
        comment="Mean score of the worst of them; NULL when unscored."
    )


class TrainingMetric(Table):
    """One number of one training step."""

    __tablename__ = "training_metric"
    __table_args__ = ({"comment": "One number of one optimiser step, as the trainer reported it."},)

    iteration_id: Mapped[int] = mapped_column(
        Id, ForeignKey("iteration.id"), primary_key=True, comment="The iteration that trains."
    )
    stage: Mapped[str] = mapped_column(
        primary_key=True,
        server_default="train",
        comment="Which stage trains: train, or baseline in the bootstrap.",
    )
    attempt: Mapped[int] = mapped_column(
        primary_key=True, comment="Which start of the train stage reported it."
    )
    step: Mapped[int] = mapped_column(primary_key=True, comment="Optimiser step, from 1.")
    name: Mapped[str] = mapped_column(primary_key=True, comment="loss, learning_rate, rewards/margins, …")
    value: Mapped[float] = mapped_column(comment="The number.")
