"""ranked replies, the bootstrap's examples, evaluations, health gates"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

Id = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
Json = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")
Utc = sa.DateTime(timezone=True)

# Every view goes away while the tables below it change; all but these come back as they were.
OLD_VIEWS = ("iteration_summary", "score_histogram", "pair_outcomes", "training_curve")
VIEWS = {
    "iteration_summary": """
        SELECT
            run.name AS run,
            iteration.t AS t,
            checkpoint.name AS checkpoint,
            iteration.status AS status,
            (SELECT count(*) FROM prompt
              WHERE prompt.iteration_id = iteration.data_iteration_id
                AND prompt.status = 'accepted') AS prompts,
            (SELECT count(*) FROM prompt
              WHERE prompt.iteration_id = iteration.data_iteration_id
                AND prompt.status = 'rejected') AS rejected_prompts,
            (SELECT count(*) FROM candidate
              WHERE candidate.iteration_id = iteration.data_iteration_id) AS candidates,
            judged.judgements AS judgements,
            judged.readable AS readable,
            judged.mean_score AS mean_score,
            (SELECT count(*) FROM preference_pair
              WHERE preference_pair.iteration_id = iteration.id
                AND preference_pair.excluded IS NULL) AS pairs,
            (SELECT avg(preference_pair.margin) FROM preference_pair
              WHERE preference_pair.iteration_id = iteration.id
                AND preference_pair.excluded IS NULL) AS mean_margin,
            (SELECT max(training_metric.step) FROM training_metric
              WHERE training_metric.iteration_id = iteration.id
                AND training_metric.stage = 'train') AS steps,
            trained.name AS trained,
            iteration.started_at AS started_at,
            iteration.finished_at AS finished_at
        FROM iteration
        JOIN run ON run.id = iteration.run_id
        JOIN checkpoint ON checkpoint.id = iteration.checkpoint_id
        LEFT JOIN checkpoint AS trained
          ON trained.run_id = iteration.run_id AND trained.version = iteration.t + 1
        LEFT JOIN (
            SELECT
                candidate.iteration_id AS iteration_id,
                judge.checkpoint_id AS checkpoint_id,
                count(*) AS judgements,
                count(judgement.score) AS readable,
                avg(judgement.score) AS mean_score
            FROM judgement
            JOIN candidate ON candidate.id = judgement.candidate_id
            JOIN judge ON judge.id = judgement.judge_id
            GROUP BY candidate.iteration_id, judge.checkpoint_id
        ) AS judged
          ON judged.iteration_id = iteration.data_iteration_id
         AND judged.checkpoint_id = iteration.checkpoint_id
        WHERE iteration.status <> 'pending'
    """,
    "score_histogram": """
        SELECT
            run.name AS run,
            iteration.t AS t,
            judgement.score AS score,
            count(*) AS judgements
        FROM iteration
        JOIN run ON run.id = iteration.run_id
        JOIN candidate ON candidate.iteration_id = iteration.data_iteration_id
        JOIN judgement ON judgement.candidate_id = candidate.id
        JOIN judge ON judge.id = judgement.judge_id AND judge.checkpoint_id = iteration.checkpoint_id
        GROUP BY run.name, iteration.t, judgement.score
    """,
    "pair_outcomes": """
        SELECT
            run.name AS run,
            iteration.t AS t,
            pair_decision.outcome AS outcome,
            count(*) AS prompts
        FROM pair_decision
        JOIN iteration ON iteration.id = pair_decision.iteration_id
        JOIN run ON run.id = iteration.run_id
        GROUP BY run.name, iteration.t, pair_decision.outcome
    """,
    "training_curve": """
        SELECT
            run.name AS run,
            iteration.t AS t,
            training_metric.step AS step,
            max(training_metric.value) FILTER (WHERE training_metric.name = 'loss') AS loss,
            max(training_metric.value) FILTER (WHERE training_metric.name = 'rewards/margins') AS margin,
            max(training_metric.value) FILTER (WHERE training_metric.name = 'rewards/accuracies') AS accuracy,
            max(training_metric.value) FILTER (WHERE training_metric.name = 'learning_rate') AS learning_rate,
            max(training_metric.value) FILTER (WHERE training_metric.name = 'grad_norm') AS grad_norm
        FROM training_metric
        JOIN iteration ON iteration.id = training_metric.iteration_id
        JOIN run ON run.id = iteration.run_id
        WHERE training_metric.stage = 'train'
          AND training_metric.attempt = (
            SELECT max(latest.attempt) FROM training_metric AS latest
            WHERE latest.iteration_id = training_metric.iteration_id AND latest.stage = 'train'
        )
        GROUP BY run.name, iteration.t, training_metric.step
    """,
    "held_out_scores": """
        SELECT
            run.name AS run,
            checkpoint.name AS checkpoint,
            reply_judgement.score AS score,
            count(*) AS judgements
        FROM reply_judgement
        JOIN judge ON judge.id = reply_judgement.judge_id
        JOIN checkpoint ON checkpoint.id = judge.checkpoint_id
        JOIN run ON run.id = checkpoint.run_id
        JOIN ranked_reply ON ranked_reply.id = reply_judgement.reply_id
        JOIN prompt ON prompt.id = ranked_reply.prompt_id
        WHERE prompt.split = 'held_out' AND ranked_reply.canary_of IS NULL
        GROUP BY run.name, checkpoint.name, reply_judgement.score
    """,
    "bootstrap_examples": """
        SELECT
            run.name AS run,
            sft_example.kind AS kind,
            coalesce(sft_example.drop_reason, 'kept') AS outcome,
            count(*) AS examples
        FROM sft_example
        JOIN iteration ON iteration.id = sft_example.iteration_id
        JOIN run ON run.id = iteration.run_id
        GROUP BY run.name, sft_example.kind, coalesce(sft_example.drop_reason, 'kept')
    """,
}

# (table, column, type, comment before, comment now)
COMMENTS = (
    (
        "checkpoint",
        "name",
        sa.Text(),
        "M_t as text.",
        "M_t as text; M_0_ift is the SFT baseline of the bootstrap.",
    ),
    (
        "iteration",
        "t",
        sa.Integer(),
        "Number in the run, from 1.",
        "Number in the run; 0 is the bootstrap M_0 → M_1.",
    ),
    (
        "iteration",
        "status",
        sa.Text(),
        "running, done, halted or failed.",
        "running, done, halted or failed; pending: only its model is measured.",
    ),
    (
        "item_failure",
        "item_id",
        Id,
        "Id of the prompt (sample) or candidate (judge).",
        "Id of the prompt, candidate, reply or answer.",
    ),
    (
        "judge",
        "type",
        sa.Text(),
        "rubric.",
        "rubric (scores one reply) or pairwise (compares two).",
    ),
)
PROBABILITIES = "P(0) to P(5) where the score is an expectation, as a JSON array; NULL where it was sampled."
JUDGE_BEFORE = "The model that judges."
JUDGE_NOW = "The model that judges; NULL for a judge that is not of this run (see parameters)."


def upgrade() -> None:
    for name in OLD_VIEWS:
        op.execute(f"DROP VIEW {name}")
    op.create_table(
        "evaluation",
        sa.Column("id", Id, autoincrement=True, nullable=False),
        sa.Column("run_id", Id, nullable=False, comment="Its run."),
        sa.Column(
            "checkpoint", sa.Text(), nullable=False, comment="Name of the checkpoint that was measured."
        ),
        sa.Column(
            "suite",
            sa.Text(),
            nullable=False,
            comment="judge, assistant (compared by itself) or assistant_independent (by another judge).",
        ),
        sa.Column(
            "metric",
            sa.Text(),
            nullable=False,
            comment="readable_share, pairwise_accuracy, win_rate_first, …",
        ),
        sa.Column(
            "value",
            sa.Float(precision=53),
            nullable=True,
            comment="The figure; NULL when nothing could be measured.",
        ),
        sa.Column("low", sa.Float(precision=53), nullable=True, comment="Lower end of its 95% interval."),
        sa.Column("high", sa.Float(precision=53), nullable=True, comment="Upper end of its 95% interval."),
        sa.Column("n", sa.Integer(), nullable=False, comment="Items it was measured on."),
        sa.Column("created_at", Utc, nullable=False, comment="UTC."),
        sa.ForeignKeyConstraint(
            ["run_id", "checkpoint"],
            ["checkpoint.run_id", "checkpoint.name"],
            name=op.f("fk_evaluation_run_id"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_evaluation")),
        sa.UniqueConstraint(
            "run_id",
            "checkpoint",
            "suite",
            "metric",
            name=op.f("uq_evaluation_run_id_checkpoint_suite_metric"),
        ),
        comment="One figure of one checkpoint with its 95% interval.",
    )
    op.create_table(
        "gate_check",
        sa.Column("iteration_id", Id, nullable=False, comment="The iteration."),
        sa.Column("gate", sa.Text(), nullable=False, comment="readable_share, tie_share, spread, …"),
        sa.Column(
            "state",
            sa.Text(),
            nullable=False,
            comment="ok, warn, pause, accepted (paused, then let through by a user) or skipped.",
        ),
        sa.Column("value", sa.Float(precision=53), nullable=True, comment="What was found."),
        sa.Column("limit_value", sa.Float(precision=53), nullable=True, comment="What it was held against."),
        sa.Column("message", sa.Text(), nullable=False, comment="The finding and what to try, in words."),
        sa.Column("checked_at", Utc, nullable=False, comment="UTC."),
        sa.ForeignKeyConstraint(["iteration_id"], ["iteration.id"], name=op.f("fk_gate_check_iteration_id")),
        sa.PrimaryKeyConstraint("iteration_id", "gate", name=op.f("pk_gate_check")),
        comment="What each health gate found in an iteration, before it trained.",
    )
    op.create_table(
        "answer",
        sa.Column("id", Id, autoincrement=True, nullable=False),
        sa.Column("checkpoint_id", Id, nullable=False, comment="Who answers."),
        sa.Column("prompt_id", Id, nullable=False, comment="The held-out seed."),
        sa.Column("session_id", Id, nullable=True, comment="The engine session that wrote it."),
        sa.Column("text", sa.Text(), nullable=False, comment="The answer."),
        sa.Column(
            "status",
            sa.Text(),
            nullable=False,
            comment="ok, truncated (cut off at max_tokens), empty, too_long or failed.",
        ),
        sa.Column("finish_reason", sa.Text(), nullable=False, comment="As the engine said: stop, length, …"),
        sa.Column("token_count", sa.Integer(), nullable=False, comment="Tokens of the answer."),
        sa.Column(
            "mean_logprob",
            sa.Float(precision=53),
            nullable=True,
            comment="Mean log-probability of its tokens, nats.",
        ),
        sa.Column("created_at", Utc, nullable=False, comment="UTC."),
        sa.ForeignKeyConstraint(["checkpoint_id"], ["checkpoint.id"], name=op.f("fk_answer_checkpoint_id")),
        sa.ForeignKeyConstraint(["prompt_id"], ["prompt.id"], name=op.f("fk_answer_prompt_id")),
        sa.ForeignKeyConstraint(["session_id"], ["engine_session.id"], name=op.f("fk_answer_session_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_answer")),
        sa.UniqueConstraint("checkpoint_id", "prompt_id", name=op.f("uq_answer_checkpoint_id_prompt_id")),
        comment="A checkpoint's answer to a held-out prompt: what an assistant is measured on.",
    )
    op.create_table(
        "ranked_reply",
        sa.Column("id", Id, autoincrement=True, nullable=False),
        sa.Column("prompt_id", Id, nullable=False, comment="The seed it replies to."),
        sa.Column(
            "position",
            sa.Integer(),
            nullable=False,
            comment="Place among the seed's replies, from 0, best first.",
        ),
        sa.Column("text", sa.Text(), nullable=False, comment="The reply."),
        sa.Column(
            "rank",
            sa.Integer(),
            nullable=False,
            comment="By people; 0 is best, and equal ranks are possible.",
        ),
        sa.Column(
            "score", sa.Float(precision=53), nullable=True, comment="0 to 5, where the seed brings a score."
        ),
        sa.Column(
            "justification", sa.Text(), nullable=True, comment="Why that score, where the seed says so."
        ),
        sa.Column(
            "canary_of",
            Id,
            nullable=True,
            comment="The reply it repeats with an order to the judge added; NULL for a real one.",
        ),
        sa.Column("created_at", Utc, nullable=False, comment="UTC."),
        sa.ForeignKeyConstraint(["canary_of"], ["ranked_reply.id"], name=op.f("fk_ranked_reply_canary_of")),
        sa.ForeignKeyConstraint(["prompt_id"], ["prompt.id"], name=op.f("fk_ranked_reply_prompt_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_ranked_reply")),
        sa.UniqueConstraint("prompt_id", "position", name=op.f("uq_ranked_reply_prompt_id_position")),
        comment="A reply to a seed that people have ranked among others: what a judge is measured on.",
    )
    op.create_table(
        "answer_comparison",
        sa.Column("id", Id, autoincrement=True, nullable=False),
        sa.Column("judge_id", Id, nullable=False, comment="Who compares, and how."),
        sa.Column("first_id", Id, nullable=False, comment="The answer that was shown first."),
        sa.Column("second_id", Id, nullable=False, comment="The answer that was shown second."),
        sa.Column("session_id", Id, nullable=True, comment="The engine session that compared."),
        sa.Column(
            "verdict", sa.Text(), nullable=True, comment="first or second; NULL when it could not be read."
        ),
        sa.Column(
            "probability_first",
            sa.Float(precision=53),
            nullable=True,
            comment="P(first) against P(second); NULL when the judge only wrote its verdict.",
        ),
        sa.Column(
            "raw_text",
            sa.Text(),
            nullable=False,
            comment="What the judge wrote; empty when it was only asked.",
        ),
        sa.Column("created_at", Utc, nullable=False, comment="UTC."),
        sa.ForeignKeyConstraint(["first_id"], ["answer.id"], name=op.f("fk_answer_comparison_first_id")),
        sa.ForeignKeyConstraint(["judge_id"], ["judge.id"], name=op.f("fk_answer_comparison_judge_id")),
        sa.ForeignKeyConstraint(["second_id"], ["answer.id"], name=op.f("fk_answer_comparison_second_id")),
        sa.ForeignKeyConstraint(
            ["session_id"], ["engine_session.id"], name=op.f("fk_answer_comparison_session_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_answer_comparison")),
        sa.UniqueConstraint(
            "judge_id", "first_id", "second_id", name=op.f("uq_answer_comparison_judge_id_first_id_second_id")
        ),
        comment="Which of two answers to a held-out prompt a judge prefers, shown in one order.",
    )
    op.create_table(
        "reply_judgement",
        sa.Column("id", Id, autoincrement=True, nullable=False),
        sa.Column("reply_id", Id, nullable=False, comment="What is judged."),
        sa.Column("judge_id", Id, nullable=False, comment="Who judges, and how."),
        sa.Column("sample", sa.Integer(), nullable=False, comment="0 to K-1."),
        sa.Column("session_id", Id, nullable=True, comment="The engine session that wrote it."),
        sa.Column("raw_text", sa.Text(), nullable=False, comment="The judge's reply, whole."),
        sa.Column(
            "status", sa.Text(), nullable=False, comment="read, unreadable, out_of_range, too_long or failed."
        ),
        sa.Column(
            "score", sa.Float(precision=53), nullable=True, comment="0 to 5; NULL unless the status is read."
        ),
        sa.Column(
            "probabilities",
            Json,
            nullable=True,
            comment=PROBABILITIES,
        ),
        sa.Column(
            "lost_mass",
            sa.Float(precision=53),
            nullable=True,
            comment="Probability of everything but the six scores, where the score is an expectation.",
        ),
        sa.Column("token_count", sa.Integer(), nullable=False, comment="Tokens of the reply."),
        sa.Column("finish_reason", sa.Text(), nullable=False, comment="As the engine said: stop, length, …"),
        sa.Column("created_at", Utc, nullable=False, comment="UTC."),
        sa.CheckConstraint(
            "(score IS NOT NULL) = (status = 'read')", name=op.f("ck_reply_judgement_score_iff_read")
        ),
        sa.CheckConstraint(
            "score IS NULL OR (score >= 0 AND score <= 5)", name=op.f("ck_reply_judgement_score_range")
        ),
        sa.ForeignKeyConstraint(["judge_id"], ["judge.id"], name=op.f("fk_reply_judgement_judge_id")),
        sa.ForeignKeyConstraint(["reply_id"], ["ranked_reply.id"], name=op.f("fk_reply_judgement_reply_id")),
        sa.ForeignKeyConstraint(
            ["session_id"], ["engine_session.id"], name=op.f("fk_reply_judgement_session_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_reply_judgement")),
        sa.UniqueConstraint(
            "reply_id", "judge_id", "sample", name=op.f("uq_reply_judgement_reply_id_judge_id_sample")
        ),
        comment="One judgement of one ranked reply, to choose training examples or to measure a judge.",
    )
    op.create_table(
        "sft_example",
        sa.Column("id", Id, autoincrement=True, nullable=False),
        sa.Column("iteration_id", Id, nullable=False, comment="The bootstrap, iteration 0."),
        sa.Column(
            "kind", sa.Text(), nullable=False, comment="ift (to answer a prompt) or eft (to judge a reply)."
        ),
        sa.Column("prompt_id", Id, nullable=False, comment="The seed it is made of."),
        sa.Column(
            "position", sa.Integer(), nullable=False, comment="eft: place of the judged reply; ift: 0."
        ),
        sa.Column("reply_id", Id, nullable=True, comment="eft: the reply that is judged."),
        sa.Column(
            "reply_judgement_id",
            Id,
            nullable=True,
            comment="eft: the judgement by the SFT baseline; NULL where the seed brought its own.",
        ),
        sa.Column("score", sa.Float(precision=53), nullable=True, comment="eft: the score that is taught."),
        sa.Column("input", sa.Text(), nullable=False, comment="What the model is shown."),
        sa.Column("completion", sa.Text(), nullable=False, comment="What it learns to reply."),
        sa.Column("kept", sa.Boolean(), nullable=False, comment="Whether it is trained on."),
        sa.Column(
            "drop_reason",
            sa.Text(),
            nullable=True,
            comment="too_long, unreadable, disagrees, common_score or surplus; NULL when kept.",
        ),
        sa.Column("created_at", Utc, nullable=False, comment="UTC."),
        sa.CheckConstraint("kept = (drop_reason IS NULL)", name=op.f("ck_sft_example_kept_or_why")),
        sa.ForeignKeyConstraint(["iteration_id"], ["iteration.id"], name=op.f("fk_sft_example_iteration_id")),
        sa.ForeignKeyConstraint(["prompt_id"], ["prompt.id"], name=op.f("fk_sft_example_prompt_id")),
        sa.ForeignKeyConstraint(["reply_id"], ["ranked_reply.id"], name=op.f("fk_sft_example_reply_id")),
        sa.ForeignKeyConstraint(
            ["reply_judgement_id"], ["reply_judgement.id"], name=op.f("fk_sft_example_reply_judgement_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_sft_example")),
        sa.UniqueConstraint(
            "iteration_id",
            "kind",
            "prompt_id",
            "position",
            name=op.f("uq_sft_example_iteration_id_kind_prompt_id_position"),
        ),
        comment="An example of the bootstrap (iteration 0): trained on, or dropped and why.",
    )

    with op.batch_alter_table("judge") as batch:
        batch.alter_column(
            "checkpoint_id",
            existing_type=Id,
            nullable=True,
            comment=JUDGE_NOW,
            existing_comment=JUDGE_BEFORE,
        )
    with op.batch_alter_table("training_metric") as batch:
        batch.add_column(
            sa.Column(
                "stage",
                sa.Text(),
                server_default="train",
                nullable=False,
                comment="Which stage trains: train, or baseline in the bootstrap.",
            )
        )
        batch.drop_constraint("pk_training_metric", type_="primary")
        batch.create_primary_key("pk_training_metric", ["iteration_id", "stage", "attempt", "step", "name"])
    _probability_columns("judgement")
    op.add_column(
        "prompt",
        sa.Column(
            "split",
            sa.Text(),
            nullable=True,
            comment="Seeds: train, or held_out (only for measuring); NULL for what a model wrote.",
        ),
    )
    op.execute("UPDATE prompt SET split = 'train' WHERE source = 'seed'")
    for table, column, kind, before, now in COMMENTS:
        _comment(table, column, kind, before, now)
    for name, query in VIEWS.items():
        op.execute(f"CREATE VIEW {name} AS {query}")


def downgrade() -> None:
    raise NotImplementedError("rows of the bootstrap and the evaluations would be lost: restore a backup")


def _probability_columns(table: str) -> None:
    op.add_column(
        table,
        sa.Column(
            "probabilities",
            Json,
            nullable=True,
            comment=PROBABILITIES,
        ),
    )
    op.add_column(
        table,
        sa.Column(
            "lost_mass",
            sa.Float(precision=53),
            nullable=True,
            comment="Probability of everything but the six scores, where the score is an expectation.",
        ),
    )


def _comment(table: str, column: str, kind: sa.types.TypeEngine, before: str, now: str) -> None:
    """SQLite keeps no comments, and would copy the table for one."""
    if op.get_bind().dialect.name == "postgresql":
        op.alter_column(table, column, existing_type=kind, comment=now, existing_comment=before)
