"""The tables: the one definition of the schema. Migrations are checked against it, docs are made from it."""

from datetime import UTC, datetime
from typing import Any, ClassVar

from sqlalchemy import (
    JSON,
    BigInteger,
    CheckConstraint,
    DateTime,
    Dialect,
    Float,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    MetaData,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects import postgresql
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.types import TypeDecorator

Id = BigInteger().with_variant(Integer, "sqlite")
Json = JSON(none_as_null=True).with_variant(postgresql.JSONB(none_as_null=True), "postgresql")


class UtcDateTime(TypeDecorator[datetime]):
    """Times in UTC, aware in Python on every database (SQLite would hand back naive ones)."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return None if value is None else value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return value.replace(tzinfo=UTC) if value is not None and value.tzinfo is None else value


class Table(DeclarativeBase):
    """Base of all tables. Constraint names are fixed so that migrations can name them."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map: ClassVar[dict[Any, Any]] = {
        datetime: UtcDateTime,
        str: Text,
        float: Float(53),
        dict[str, Any]: Json,
        list[float]: Json,
    }


def _key() -> Mapped[int]:
    return mapped_column(Id, primary_key=True, autoincrement=True)


def _ref(target: str, comment: str) -> Any:
    return mapped_column(Id, ForeignKey(target), comment=comment)


class Run(Table):
    """A line of iterations M_1, M_2, …"""

    __tablename__ = "run"
    __table_args__ = ({"comment": "A line of iterations."},)

    id: Mapped[int] = _key()
    name: Mapped[str] = mapped_column(unique=True, comment="Slug that commands take with --run.")
    parent_run_id: Mapped[int | None] = _ref("run.id", "The run this one was forked from.")
    parent_iteration: Mapped[int | None] = mapped_column(
        comment="The iteration of the parent it starts from."
    )
    created_at: Mapped[datetime] = mapped_column(comment="UTC.")


class Setting(Table):
    """A resolved configuration."""

    __tablename__ = "setting"
    __table_args__ = ({"comment": "A resolved configuration, stored once."},)

    hash: Mapped[str] = mapped_column(primary_key=True, comment="sha256 of the canonical JSON.")
    body: Mapped[dict[str, Any]] = mapped_column(comment="Every setting, defaults included.")
    created_at: Mapped[datetime] = mapped_column(comment="UTC.")


class Checkpoint(Table):
    """M_t."""

    __tablename__ = "checkpoint"
    __table_args__ = (
        UniqueConstraint("run_id", "name"),
        {"comment": "A model on disk: M_version of a run."},
    )

    id: Mapped[int] = _key()
    run_id: Mapped[int] = _ref("run.id", "The run that made it.")
    version: Mapped[int] = mapped_column(comment="t of M_t.")
    name: Mapped[str] = mapped_column(comment="M_t as text; M_0_ift is the SFT baseline of the bootstrap.")
    kind: Mapped[str] = mapped_column(comment="base, sft or dpo: what made it.")
    path: Mapped[str] = mapped_column(comment="Directory, relative to the run's directory.")
    digest: Mapped[str] = mapped_column(
        comment="sha256 over its manifest: two equal digests are the same model."
    )
    parent_id: Mapped[int | None] = _ref("checkpoint.id", "The checkpoint it was trained from.")
    created_at: Mapped[datetime] = mapped_column(comment="UTC.")


class Iteration(Table):
    """Iteration t."""

    __tablename__ = "iteration"
    __table_args__ = (
        UniqueConstraint("run_id", "t"),
        {"comment": "Iteration t of a run: what M_t wrote, answered and judged, and the training after it."},
    )

    id: Mapped[int] = _key()
    run_id: Mapped[int] = _ref("run.id", "Its run.")
    t: Mapped[int] = mapped_column(comment="Number in the run; 0 is the bootstrap M_0 → M_1.")
    checkpoint_id: Mapped[int] = _ref("checkpoint.id", "M_t, the model that works in it.")
    setting_hash: Mapped[str] = mapped_column(ForeignKey("setting.hash"), comment="The settings in force.")
    data_iteration_id: Mapped[int | None] = _ref(
        "iteration.id", "Whose prompts and candidates it uses; itself unless forked with reuse."
    )
    status: Mapped[str] = mapped_column(
        comment="running, done, halted or failed; pending: only its model is measured."
    )
    started_at: Mapped[datetime] = mapped_column(comment="UTC.")
    finished_at: Mapped[datetime | None] = mapped_column(comment="UTC.")


class Stage(Table):
    """One step of an iteration."""

    __tablename__ = "stage"
    __table_args__ = (
        UniqueConstraint("iteration_id", "name"),
        {"comment": "One step of an iteration."},
    )

    id: Mapped[int] = _key()
    iteration_id: Mapped[int] = _ref("iteration.id", "Its iteration.")
    name: Mapped[str] = mapped_column(comment="self_instruct, sample, judge, pair, train, …")
    status: Mapped[str] = mapped_column(comment="pending, running, done, halted or failed.")
    attempts: Mapped[int] = mapped_column(comment="How often it was started.")
    cursor: Mapped[int] = mapped_column(
        comment="No item with an id up to this one is missing: where a resume looks on."
    )
    detail: Mapped[str] = mapped_column(comment="How it ended, in words.")
    error: Mapped[str | None] = mapped_column(comment="Why it failed last.")
    started_at: Mapped[datetime | None] = mapped_column(comment="UTC, first start.")
    finished_at: Mapped[datetime | None] = mapped_column(comment="UTC.")


class EngineSession(Table):
    """One life of an inference server."""

    __tablename__ = "engine_session"
    __table_args__ = ({"comment": "One life of an inference server, with the seed it sampled from."},)

    id: Mapped[int] = _key()
    iteration_id: Mapped[int] = _ref("iteration.id", "The iteration it served.")
    checkpoint_id: Mapped[int] = _ref("checkpoint.id", "The model it served.")
    engine: Mapped[str] = mapped_column(comment="vllm or fake.")
    seed: Mapped[int] = mapped_column(comment="The server's sampling seed, fresh for every session.")
    started_at: Mapped[datetime] = mapped_column(comment="UTC, when it was asked to start.")
    ready_at: Mapped[datetime | None] = mapped_column(comment="UTC, when it answered.")
    finished_at: Mapped[datetime | None] = mapped_column(comment="UTC; NULL when it died with the daemon.")
    prompt_tokens: Mapped[int | None] = mapped_column(comment="Prompt tokens it read.")
    generated_tokens: Mapped[int | None] = mapped_column(comment="Tokens it wrote.")


class Prompt(Table):
    """An instruction."""

    __tablename__ = "prompt"
    __table_args__ = (
        UniqueConstraint("iteration_id", "draw", "draw_index"),
        Index("ix_prompt_work", "iteration_id", "status", "id"),
        Index(
            "uq_prompt_seed",
            "run_id",
            "text_hash",
            unique=True,
            sqlite_where=text("source = 'seed'"),
            postgresql_where=text("source = 'seed'"),
        ),
        {"comment": "An instruction: a seed, or written by the model, kept or turned away."},
    )

    id: Mapped[int] = _key()
    run_id: Mapped[int] = _ref("run.id", "Its run.")
    iteration_id: Mapped[int | None] = _ref("iteration.id", "The iteration that wrote it; NULL for seeds.")
    source: Mapped[str] = mapped_column(comment="seed or self_instruct.")
    origin: Mapped[str | None] = mapped_column(comment="Seeds: the file it came from.")
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
    nearest_prompt_id: Mapped[int | None] = _ref("prompt.id", "The most similar prompt when it was written.")
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
    demonstration_id: Mapped[int] = _ref("prompt.id", "The prompt that was shown.")


class RankedReply(Table):
    """A reply to a seed that people have ranked."""

    __tablename__ = "ranked_reply"
    __table_args__ = (
        UniqueConstraint("prompt_id", "position"),
        {"comment": "A reply to a seed that people have ranked among others: what a judge is measured on."},
    )

    id: Mapped[int] = _key()
    prompt_id: Mapped[int] = _ref("prompt.id", "The seed it replies to.")
    position: Mapped[int] = mapped_column(comment="Place among the seed's replies, from 0, best first.")
    text: Mapped[str] = mapped_column(comment="The reply.")
    rank: Mapped[int] = mapped_column(comment="By people; 0 is best, and equal ranks are possible.")
    score: Mapped[float | None] = mapped_column(comment="0 to 5, where the seed brings a score.")
    justification: Mapped[str | None] = mapped_column(comment="Why that score, where the seed says so.")
    canary_of: Mapped[int | None] = _ref(
        "ranked_reply.id", "The reply it repeats with an order to the judge added; NULL for a real one."
    )
    created_at: Mapped[datetime] = mapped_column(comment="UTC.")


class Candidate(Table):
    """An answer."""

    __tablename__ = "candidate"
    __table_args__ = (
        UniqueConstraint("prompt_id", "candidate_index"),
        Index("ix_candidate_work", "iteration_id", "id"),
        {"comment": "One of the N answers to a prompt."},
    )

    id: Mapped[int] = _key()
    iteration_id: Mapped[int] = _ref("iteration.id", "The iteration that sampled it.")
    prompt_id: Mapped[int] = _ref("prompt.id", "The prompt it answers.")
    candidate_index: Mapped[int] = mapped_column(comment="0 to N-1.")
    session_id: Mapped[int | None] = _ref("engine_session.id", "The engine session that wrote it.")
    text: Mapped[str] = mapped_column(comment="The answer.")
    status: Mapped[str] = mapped_column(
        comment="ok, truncated (cut off at max_tokens), empty, too_long or failed."
    )
    finish_reason: Mapped[str] = mapped_column(comment="As the engine said: stop, length, …")
    token_count: Mapped[int] = mapped_column(comment="Tokens of the answer.")
    mean_logprob: Mapped[float | None] = mapped_column(comment="Mean log-probability of its tokens, nats.")
    created_at: Mapped[datetime] = mapped_column(comment="UTC.")


class Judge(Table):
    """Who judges, and how."""

    __tablename__ = "judge"
    __table_args__ = (
        UniqueConstraint("checkpoint_id", "digest"),
        {"comment": "A way of judging: a template, its parameters, and the checkpoint that judges."},
    )

    id: Mapped[int] = _key()
    type: Mapped[str] = mapped_column(comment="rubric (scores one reply) or pairwise (compares two).")
    checkpoint_id: Mapped[int | None] = _ref(
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

    id: Mapped[int] = _key()
    candidate_id: Mapped[int] = _ref("candidate.id", "What is judged.")
    judge_id: Mapped[int] = _ref("judge.id", "Who judges, and how.")
    sample: Mapped[int] = mapped_column(comment="0 to K-1.")
    session_id: Mapped[int | None] = _ref("engine_session.id", "The engine session that wrote it.")
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


class ReplyJudgement(Table):
    """One judgement of one ranked reply."""

    __tablename__ = "reply_judgement"
    __table_args__ = (
        UniqueConstraint("reply_id", "judge_id", "sample"),
        CheckConstraint("score IS NULL OR (score >= 0 AND score <= 5)", name="score_range"),
        CheckConstraint("(score IS NOT NULL) = (status = 'read')", name="score_iff_read"),
        {"comment": "One judgement of one ranked reply, to choose training examples or to measure a judge."},
    )

    id: Mapped[int] = _key()
    reply_id: Mapped[int] = _ref("ranked_reply.id", "What is judged.")
    judge_id: Mapped[int] = _ref("judge.id", "Who judges, and how.")
    sample: Mapped[int] = mapped_column(comment="0 to K-1.")
    session_id: Mapped[int | None] = _ref("engine_session.id", "The engine session that wrote it.")
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

    id: Mapped[int] = _key()
    iteration_id: Mapped[int] = _ref("iteration.id", "The bootstrap, iteration 0.")
    kind: Mapped[str] = mapped_column(comment="ift (to answer a prompt) or eft (to judge a reply).")
    prompt_id: Mapped[int] = _ref("prompt.id", "The seed it is made of.")
    position: Mapped[int] = mapped_column(comment="eft: place of the judged reply; ift: 0.")
    reply_id: Mapped[int | None] = _ref("ranked_reply.id", "eft: the reply that is judged.")
    reply_judgement_id: Mapped[int | None] = _ref(
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

    id: Mapped[int] = _key()
    checkpoint_id: Mapped[int] = _ref("checkpoint.id", "Who answers.")
    prompt_id: Mapped[int] = _ref("prompt.id", "The held-out seed.")
    session_id: Mapped[int | None] = _ref("engine_session.id", "The engine session that wrote it.")
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

    id: Mapped[int] = _key()
    judge_id: Mapped[int] = _ref("judge.id", "Who compares, and how.")
    first_id: Mapped[int] = _ref("answer.id", "The answer that was shown first.")
    second_id: Mapped[int] = _ref("answer.id", "The answer that was shown second.")
    session_id: Mapped[int | None] = _ref("engine_session.id", "The engine session that compared.")
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

    id: Mapped[int] = _key()
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


class PreferencePair(Table):
    """Chosen over rejected."""

    __tablename__ = "preference_pair"
    __table_args__ = (
        UniqueConstraint("iteration_id", "prompt_id"),
        CheckConstraint("chosen_id <> rejected_id", name="two_candidates"),
        CheckConstraint("chosen_score > rejected_score", name="no_tie"),
        {"comment": "A preference pair: what the next checkpoint is trained on."},
    )

    id: Mapped[int] = _key()
    iteration_id: Mapped[int] = _ref("iteration.id", "The iteration that trains on it.")
    prompt_id: Mapped[int] = _ref("prompt.id", "The prompt both answer.")
    judge_id: Mapped[int] = _ref("judge.id", "Whose scores made it.")
    chosen_id: Mapped[int] = _ref("candidate.id", "The better candidate.")
    rejected_id: Mapped[int] = _ref("candidate.id", "The worse candidate.")
    chosen_score: Mapped[float] = mapped_column(comment="Mean score of the chosen one.")
    rejected_score: Mapped[float] = mapped_column(comment="Mean score of the rejected one.")
    margin: Mapped[float] = mapped_column(comment="chosen_score - rejected_score.")
    soft_label: Mapped[float | None] = mapped_column(
        comment="Probability that chosen is better; NULL for a hard label."
    )
    excluded: Mapped[str | None] = mapped_column(
        comment="Why it was left out of training (too_long); NULL if it was not."
    )
    created_at: Mapped[datetime] = mapped_column(comment="UTC.")


class PairDecision(Table):
    """What became of each prompt."""

    __tablename__ = "pair_decision"
    __table_args__ = ({"comment": "For each prompt, whether it gave a pair, and if not, why."},)

    iteration_id: Mapped[int] = mapped_column(
        Id, ForeignKey("iteration.id"), primary_key=True, comment="The iteration that decided."
    )
    prompt_id: Mapped[int] = mapped_column(
        Id, ForeignKey("prompt.id"), primary_key=True, comment="The prompt."
    )
    outcome: Mapped[str] = mapped_column(
        comment="paired, unscored, tie, twins, below_margin or pair_too_long."
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


class ItemFailure(Table):
    """Failed tries of one item."""

    __tablename__ = "item_failure"
    __table_args__ = (
        {"comment": "Failed tries of one item of a stage; at the cap it is marked failed and passed over."},
    )

    stage_id: Mapped[int] = mapped_column(Id, ForeignKey("stage.id"), primary_key=True, comment="The stage.")
    item_id: Mapped[int] = mapped_column(
        Id, primary_key=True, autoincrement=False, comment="Id of the prompt, candidate, reply or answer."
    )
    attempts: Mapped[int] = mapped_column(comment="Failed tries so far.")
    last_error: Mapped[str] = mapped_column(comment="What the last one said.")


class Event(Table):
    """What the daemon did, and why."""

    __tablename__ = "event"
    __table_args__ = (
        Index("ix_event_run", "run_id", "id"),
        {"comment": "What the daemon did, and why."},
    )

    id: Mapped[int] = _key()
    run_id: Mapped[int] = _ref("run.id", "Its run.")
    iteration_id: Mapped[int | None] = _ref("iteration.id", "The iteration it concerns.")
    at: Mapped[datetime] = mapped_column(comment="UTC.")
    kind: Mapped[str] = mapped_column(
        comment="started, stopped, paused, resumed, stage_done, halted, failed, …"
    )
    message: Mapped[str] = mapped_column(comment="One sentence.")
    data: Mapped[dict[str, Any]] = mapped_column(comment="Figures that go with it.")


class Lease(Table):
    """Who runs the run."""

    __tablename__ = "lease"
    __table_args__ = (
        {"comment": "Who runs a run. Taking it increments fence; every write carries the fence."},
    )

    run_id: Mapped[int] = mapped_column(
        Id, ForeignKey("run.id"), primary_key=True, autoincrement=False, comment="The run."
    )
    owner: Mapped[str] = mapped_column(comment="host:pid of the daemon.")
    boot_id: Mapped[str] = mapped_column(
        comment="The kernel's boot id: tells a reboot from a running daemon."
    )
    pid: Mapped[int] = mapped_column(comment="Its process id.")
    pid_started: Mapped[int] = mapped_column(
        Id, comment="Kernel ticks at which that process started: pids are reused."
    )
    fence: Mapped[int] = mapped_column(comment="Grows by one with each owner.")
    heartbeat_at: Mapped[datetime] = mapped_column(comment="UTC, last sign of life.")
    heartbeat_monotonic: Mapped[float] = mapped_column(
        comment="The same on the host's monotonic clock, which no clock change moves."
    )
    released_at: Mapped[datetime | None] = mapped_column(comment="UTC, when its owner gave it back.")


class ControlRequest(Table):
    """What the user asked of the daemon."""

    __tablename__ = "control_request"
    __table_args__ = (
        Index(
            "ix_control_request_open",
            "run_id",
            "id",
            sqlite_where=text("handled_at IS NULL"),
            postgresql_where=text("handled_at IS NULL"),
        ),
        {"comment": "What a user asked of the daemon."},
    )

    id: Mapped[int] = _key()
    run_id: Mapped[int] = _ref("run.id", "Its run.")
    action: Mapped[str] = mapped_column(comment="pause, resume or stop.")
    requested_at: Mapped[datetime] = mapped_column(comment="UTC.")
    handled_at: Mapped[datetime | None] = mapped_column(comment="UTC, when the daemon took it up.")
