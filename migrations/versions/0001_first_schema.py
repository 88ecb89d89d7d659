"""first schema"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

Id = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
Json = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")
Utc = sa.DateTime(timezone=True)

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
              WHERE training_metric.iteration_id = iteration.id) AS steps,
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
        WHERE training_metric.attempt = (
            SELECT max(latest.attempt) FROM training_metric AS latest
            WHERE latest.iteration_id = training_metric.iteration_id
        )
        GROUP BY run.name, iteration.t, training_metric.step
    """,
}


def upgrade() -> None:
    op.create_table(
        "run",
        sa.Column("id", Id, autoincrement=True, nullable=False),
        sa.Column("name", sa.Text(), nullable=False, comment="Slug that commands take with --run."),
        sa.Column("parent_run_id", Id, nullable=True, comment="The run this one was forked from."),
        sa.Column(
            "parent_iteration",
            sa.Integer(),
            nullable=True,
            comment="The iteration of the parent it starts from.",
        ),
        sa.Column("created_at", Utc, nullable=False, comment="UTC."),
        sa.ForeignKeyConstraint(["parent_run_id"], ["run.id"], name=op.f("fk_run_parent_run_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_run")),
        sa.UniqueConstraint("name", name=op.f("uq_run_name")),
        comment="A line of iterations.",
    )
    op.create_table(
        "setting",
        sa.Column("hash", sa.Text(), nullable=False, comment="sha256 of the canonical JSON."),
        sa.Column("body", Json, nullable=False, comment="Every setting, defaults included."),
        sa.Column("created_at", Utc, nullable=False, comment="UTC."),
        sa.PrimaryKeyConstraint("hash", name=op.f("pk_setting")),
        comment="A resolved configuration, stored once.",
    )
    op.create_table(
        "checkpoint",
        sa.Column("id", Id, autoincrement=True, nullable=False),
        sa.Column("run_id", Id, nullable=False, comment="The run that made it."),
        sa.Column("version", sa.Integer(), nullable=False, comment="t of M_t."),
        sa.Column("name", sa.Text(), nullable=False, comment="M_t as text."),
        sa.Column("kind", sa.Text(), nullable=False, comment="base, sft or dpo: what made it."),
        sa.Column("path", sa.Text(), nullable=False, comment="Directory, relative to the run's directory."),
        sa.Column(
            "digest",
            sa.Text(),
            nullable=False,
            comment="sha256 over its manifest: two equal digests are the same model.",
        ),
        sa.Column("parent_id", Id, nullable=True, comment="The checkpoint it was trained from."),
        sa.Column("created_at", Utc, nullable=False, comment="UTC."),
        sa.ForeignKeyConstraint(["parent_id"], ["checkpoint.id"], name=op.f("fk_checkpoint_parent_id")),
        sa.ForeignKeyConstraint(["run_id"], ["run.id"], name=op.f("fk_checkpoint_run_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_checkpoint")),
        sa.UniqueConstraint("run_id", "name", name=op.f("uq_checkpoint_run_id_name")),
        comment="A model on disk: M_version of a run.",
    )
    op.create_table(
        "control_request",
        sa.Column("id", Id, autoincrement=True, nullable=False),
        sa.Column("run_id", Id, nullable=False, comment="Its run."),
        sa.Column("action", sa.Text(), nullable=False, comment="pause, resume or stop."),
        sa.Column("requested_at", Utc, nullable=False, comment="UTC."),
        sa.Column("handled_at", Utc, nullable=True, comment="UTC, when the daemon took it up."),
        sa.ForeignKeyConstraint(["run_id"], ["run.id"], name=op.f("fk_control_request_run_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_control_request")),
        comment="What a user asked of the daemon.",
    )
    with op.batch_alter_table("control_request", schema=None) as batch_op:
        batch_op.create_index(
            "ix_control_request_open",
            ["run_id", "id"],
            unique=False,
            sqlite_where=sa.text("handled_at IS NULL"),
            postgresql_where=sa.text("handled_at IS NULL"),
        )

    op.create_table(
        "lease",
        sa.Column("run_id", Id, autoincrement=False, nullable=False, comment="The run."),
        sa.Column("owner", sa.Text(), nullable=False, comment="host:pid of the daemon."),
        sa.Column(
            "boot_id",
            sa.Text(),
            nullable=False,
            comment="The kernel's boot id: tells a reboot from a running daemon.",
        ),
        sa.Column("pid", sa.Integer(), nullable=False, comment="Its process id."),
        sa.Column(
            "pid_started",
            Id,
            nullable=False,
            comment="Kernel ticks at which that process started: pids are reused.",
        ),
        sa.Column("fence", sa.Integer(), nullable=False, comment="Grows by one with each owner."),
        sa.Column("heartbeat_at", Utc, nullable=False, comment="UTC, last sign of life."),
        sa.Column(
            "heartbeat_monotonic",
            sa.Float(precision=53),
            nullable=False,
            comment="The same on the host's monotonic clock, which no clock change moves.",
        ),
        sa.Column("released_at", Utc, nullable=True, comment="UTC, when its owner gave it back."),
        sa.ForeignKeyConstraint(["run_id"], ["run.id"], name=op.f("fk_lease_run_id")),
        sa.PrimaryKeyConstraint("run_id", name=op.f("pk_lease")),
        comment="Who runs a run. Taking it increments fence; every write carries the fence.",
    )
    op.create_table(
        "iteration",
        sa.Column("id", Id, autoincrement=True, nullable=False),
        sa.Column("run_id", Id, nullable=False, comment="Its run."),
        sa.Column("t", sa.Integer(), nullable=False, comment="Number in the run, from 1."),
        sa.Column("checkpoint_id", Id, nullable=False, comment="M_t, the model that works in it."),
        sa.Column("setting_hash", sa.Text(), nullable=False, comment="The settings in force."),
        sa.Column(
            "data_iteration_id",
            Id,
            nullable=True,
            comment="Whose prompts and candidates it uses; itself unless forked with reuse.",
        ),
        sa.Column("status", sa.Text(), nullable=False, comment="running, done, halted or failed."),
        sa.Column("started_at", Utc, nullable=False, comment="UTC."),
        sa.Column("finished_at", Utc, nullable=True, comment="UTC."),
        sa.ForeignKeyConstraint(
            ["checkpoint_id"], ["checkpoint.id"], name=op.f("fk_iteration_checkpoint_id")
        ),
        sa.ForeignKeyConstraint(
            ["data_iteration_id"], ["iteration.id"], name=op.f("fk_iteration_data_iteration_id")
        ),
        sa.ForeignKeyConstraint(["run_id"], ["run.id"], name=op.f("fk_iteration_run_id")),
        sa.ForeignKeyConstraint(["setting_hash"], ["setting.hash"], name=op.f("fk_iteration_setting_hash")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_iteration")),
        sa.UniqueConstraint("run_id", "t", name=op.f("uq_iteration_run_id_t")),
        comment="Iteration t of a run: what M_t wrote, answered and judged, and the training after it.",
    )
    op.create_table(
        "judge",
        sa.Column("id", Id, autoincrement=True, nullable=False),
        sa.Column("type", sa.Text(), nullable=False, comment="rubric."),
        sa.Column("checkpoint_id", Id, nullable=False, comment="The model that judges."),
        sa.Column("template", sa.Text(), nullable=False, comment="Name of the prompt template."),
        sa.Column("template_digest", sa.Text(), nullable=False, comment="sha256 of the template's text."),
        sa.Column("parameters", Json, nullable=False, comment="Sampling parameters and format."),
        sa.Column("digest", sa.Text(), nullable=False, comment="sha256 over type, template and parameters."),
        sa.Column("created_at", Utc, nullable=False, comment="UTC."),
        sa.ForeignKeyConstraint(["checkpoint_id"], ["checkpoint.id"], name=op.f("fk_judge_checkpoint_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_judge")),
        sa.UniqueConstraint("checkpoint_id", "digest", name=op.f("uq_judge_checkpoint_id_digest")),
        comment="A way of judging: a template, its parameters, and the checkpoint that judges.",
    )
    op.create_table(
        "engine_session",
        sa.Column("id", Id, autoincrement=True, nullable=False),
        sa.Column("iteration_id", Id, nullable=False, comment="The iteration it served."),
        sa.Column("checkpoint_id", Id, nullable=False, comment="The model it served."),
        sa.Column("engine", sa.Text(), nullable=False, comment="vllm or fake."),
        sa.Column(
            "seed",
            sa.Integer(),
            nullable=False,
            comment="The server's sampling seed, fresh for every session.",
        ),
        sa.Column("started_at", Utc, nullable=False, comment="UTC, when it was asked to start."),
        sa.Column("ready_at", Utc, nullable=True, comment="UTC, when it answered."),
        sa.Column("finished_at", Utc, nullable=True, comment="UTC; NULL when it died with the daemon."),
        sa.Column("prompt_tokens", sa.Integer(), nullable=True, comment="Prompt tokens it read."),
        sa.Column("generated_tokens", sa.Integer(), nullable=True, comment="Tokens it wrote."),
        sa.ForeignKeyConstraint(
            ["checkpoint_id"], ["checkpoint.id"], name=op.f("fk_engine_session_checkpoint_id")
        ),
        sa.ForeignKeyConstraint(
            ["iteration_id"], ["iteration.id"], name=op.f("fk_engine_session_iteration_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_engine_session")),
        comment="One life of an inference server, with the seed it sampled from.",
    )
    op.create_table(
        "event",
        sa.Column("id", Id, autoincrement=True, nullable=False),
        sa.Column("run_id", Id, nullable=False, comment="Its run."),
        sa.Column("iteration_id", Id, nullable=True, comment="The iteration it concerns."),
        sa.Column("at", Utc, nullable=False, comment="UTC."),
        sa.Column(
            "kind",
            sa.Text(),
            nullable=False,
            comment="started, stopped, paused, resumed, stage_done, halted, failed, …",
        ),
        sa.Column("message", sa.Text(), nullable=False, comment="One sentence."),
        sa.Column("data", Json, nullable=False, comment="Figures that go with it."),
        sa.ForeignKeyConstraint(["iteration_id"], ["iteration.id"], name=op.f("fk_event_iteration_id")),
        sa.ForeignKeyConstraint(["run_id"], ["run.id"], name=op.f("fk_event_run_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_event")),
        comment="What the daemon did, and why.",
    )
    with op.batch_alter_table("event", schema=None) as batch_op:
        batch_op.create_index("ix_event_run", ["run_id", "id"], unique=False)

    op.create_table(
        "prompt",
        sa.Column("id", Id, autoincrement=True, nullable=False),
        sa.Column("run_id", Id, nullable=False, comment="Its run."),
        sa.Column("iteration_id", Id, nullable=True, comment="The iteration that wrote it; NULL for seeds."),
        sa.Column("source", sa.Text(), nullable=False, comment="seed or self_instruct."),
        sa.Column("origin", sa.Text(), nullable=True, comment="Seeds: the file it came from."),
        sa.Column("draw", sa.Integer(), nullable=True, comment="Which request of the iteration wrote it."),
        sa.Column(
            "draw_index", sa.Integer(), nullable=True, comment="Which of that request's replies it is."
        ),
        sa.Column("text", sa.Text(), nullable=False, comment="The instruction."),
        sa.Column("text_hash", sa.Text(), nullable=False, comment="sha256 of the text."),
        sa.Column("reference", sa.Text(), nullable=True, comment="Seeds: a good answer, where there is one."),
        sa.Column("status", sa.Text(), nullable=False, comment="accepted or rejected."),
        sa.Column(
            "reject_reason",
            sa.Text(),
            nullable=True,
            comment="empty, cut_off, too_short, too_long, keyword, bad_start, similar or surplus.",
        ),
        sa.Column(
            "nearest_prompt_id", Id, nullable=True, comment="The most similar prompt when it was written."
        ),
        sa.Column(
            "nearest_rouge_l",
            sa.Float(precision=53),
            nullable=True,
            comment="ROUGE-L F with that prompt, 0 to 1.",
        ),
        sa.Column("created_at", Utc, nullable=False, comment="UTC."),
        sa.ForeignKeyConstraint(["iteration_id"], ["iteration.id"], name=op.f("fk_prompt_iteration_id")),
        sa.ForeignKeyConstraint(
            ["nearest_prompt_id"], ["prompt.id"], name=op.f("fk_prompt_nearest_prompt_id")
        ),
        sa.ForeignKeyConstraint(["run_id"], ["run.id"], name=op.f("fk_prompt_run_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_prompt")),
        sa.UniqueConstraint(
            "iteration_id", "draw", "draw_index", name=op.f("uq_prompt_iteration_id_draw_draw_index")
        ),
        comment="An instruction: a seed, or written by the model, kept or turned away.",
    )
    with op.batch_alter_table("prompt", schema=None) as batch_op:
        batch_op.create_index("ix_prompt_work", ["iteration_id", "status", "id"], unique=False)
        batch_op.create_index(
            "uq_prompt_seed",
            ["run_id", "text_hash"],
            unique=True,
            sqlite_where=sa.text("source = 'seed'"),
            postgresql_where=sa.text("source = 'seed'"),
        )

    op.create_table(
        "stage",
        sa.Column("id", Id, autoincrement=True, nullable=False),
        sa.Column("iteration_id", Id, nullable=False, comment="Its iteration."),
        sa.Column("name", sa.Text(), nullable=False, comment="self_instruct, sample, judge, pair, train, …"),
        sa.Column("status", sa.Text(), nullable=False, comment="pending, running, done, halted or failed."),
        sa.Column("attempts", sa.Integer(), nullable=False, comment="How often it was started."),
        sa.Column(
            "cursor",
            sa.Integer(),
            nullable=False,
            comment="No item with an id up to this one is missing: where a resume looks on.",
        ),
        sa.Column("detail", sa.Text(), nullable=False, comment="How it ended, in words."),
        sa.Column("error", sa.Text(), nullable=True, comment="Why it failed last."),
        sa.Column("started_at", Utc, nullable=True, comment="UTC, first start."),
        sa.Column("finished_at", Utc, nullable=True, comment="UTC."),
        sa.ForeignKeyConstraint(["iteration_id"], ["iteration.id"], name=op.f("fk_stage_iteration_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_stage")),
        sa.UniqueConstraint("iteration_id", "name", name=op.f("uq_stage_iteration_id_name")),
        comment="One step of an iteration.",
    )
    op.create_table(
        "training_metric",
        sa.Column("iteration_id", Id, nullable=False, comment="The iteration that trains."),
        sa.Column(
            "attempt", sa.Integer(), nullable=False, comment="Which start of the train stage reported it."
        ),
        sa.Column("step", sa.Integer(), nullable=False, comment="Optimiser step, from 1."),
        sa.Column("name", sa.Text(), nullable=False, comment="loss, learning_rate, rewards/margins, …"),
        sa.Column("value", sa.Float(precision=53), nullable=False, comment="The number."),
        sa.ForeignKeyConstraint(
            ["iteration_id"], ["iteration.id"], name=op.f("fk_training_metric_iteration_id")
        ),
        sa.PrimaryKeyConstraint("iteration_id", "attempt", "step", "name", name=op.f("pk_training_metric")),
        comment="One number of one optimiser step, as the trainer reported it.",
    )
    op.create_table(
        "candidate",
        sa.Column("id", Id, autoincrement=True, nullable=False),
        sa.Column("iteration_id", Id, nullable=False, comment="The iteration that sampled it."),
        sa.Column("prompt_id", Id, nullable=False, comment="The prompt it answers."),
        sa.Column("candidate_index", sa.Integer(), nullable=False, comment="0 to N-1."),
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
        sa.ForeignKeyConstraint(["iteration_id"], ["iteration.id"], name=op.f("fk_candidate_iteration_id")),
        sa.ForeignKeyConstraint(["prompt_id"], ["prompt.id"], name=op.f("fk_candidate_prompt_id")),
        sa.ForeignKeyConstraint(["session_id"], ["engine_session.id"], name=op.f("fk_candidate_session_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_candidate")),
        sa.UniqueConstraint(
            "prompt_id", "candidate_index", name=op.f("uq_candidate_prompt_id_candidate_index")
        ),
        comment="One of the N answers to a prompt.",
    )
    with op.batch_alter_table("candidate", schema=None) as batch_op:
        batch_op.create_index("ix_candidate_work", ["iteration_id", "id"], unique=False)

    op.create_table(
        "item_failure",
        sa.Column("stage_id", Id, nullable=False, comment="The stage."),
        sa.Column(
            "item_id",
            Id,
            autoincrement=False,
            nullable=False,
            comment="Id of the prompt (sample) or candidate (judge).",
        ),
        sa.Column("attempts", sa.Integer(), nullable=False, comment="Failed tries so far."),
        sa.Column("last_error", sa.Text(), nullable=False, comment="What the last one said."),
        sa.ForeignKeyConstraint(["stage_id"], ["stage.id"], name=op.f("fk_item_failure_stage_id")),
        sa.PrimaryKeyConstraint("stage_id", "item_id", name=op.f("pk_item_failure")),
        comment="Failed tries of one item of a stage; at the cap it is marked failed and passed over.",
    )
    op.create_table(
        "pair_decision",
        sa.Column("iteration_id", Id, nullable=False, comment="The iteration that decided."),
        sa.Column("prompt_id", Id, nullable=False, comment="The prompt."),
        sa.Column(
            "outcome",
            sa.Text(),
            nullable=False,
            comment="paired, unscored, tie, twins, below_margin or pair_too_long.",
        ),
        sa.ForeignKeyConstraint(
            ["iteration_id"], ["iteration.id"], name=op.f("fk_pair_decision_iteration_id")
        ),
        sa.ForeignKeyConstraint(["prompt_id"], ["prompt.id"], name=op.f("fk_pair_decision_prompt_id")),
        sa.PrimaryKeyConstraint("iteration_id", "prompt_id", name=op.f("pk_pair_decision")),
        comment="For each prompt, whether it gave a pair, and if not, why.",
    )
    op.create_table(
        "prompt_demonstration",
        sa.Column("prompt_id", Id, nullable=False, comment="The new prompt."),
        sa.Column(
            "position", sa.Integer(), nullable=False, comment="Place among the demonstrations, from 0."
        ),
        sa.Column("demonstration_id", Id, nullable=False, comment="The prompt that was shown."),
        sa.ForeignKeyConstraint(
            ["demonstration_id"], ["prompt.id"], name=op.f("fk_prompt_demonstration_demonstration_id")
        ),
        sa.ForeignKeyConstraint(["prompt_id"], ["prompt.id"], name=op.f("fk_prompt_demonstration_prompt_id")),
        sa.PrimaryKeyConstraint("prompt_id", "position", name=op.f("pk_prompt_demonstration")),
        comment="The demonstrations a prompt was written from.",
    )
    op.create_table(
        "judgement",
        sa.Column("id", Id, autoincrement=True, nullable=False),
        sa.Column("candidate_id", Id, nullable=False, comment="What is judged."),
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
        sa.Column("token_count", sa.Integer(), nullable=False, comment="Tokens of the reply."),
        sa.Column("finish_reason", sa.Text(), nullable=False, comment="As the engine said: stop, length, …"),
        sa.Column("created_at", Utc, nullable=False, comment="UTC."),
        sa.CheckConstraint(
            "(score IS NOT NULL) = (status = 'read')", name=op.f("ck_judgement_score_iff_read")
        ),
        sa.CheckConstraint(
            "score IS NULL OR (score >= 0 AND score <= 5)", name=op.f("ck_judgement_score_range")
        ),
        sa.ForeignKeyConstraint(["candidate_id"], ["candidate.id"], name=op.f("fk_judgement_candidate_id")),
        sa.ForeignKeyConstraint(["judge_id"], ["judge.id"], name=op.f("fk_judgement_judge_id")),
        sa.ForeignKeyConstraint(["session_id"], ["engine_session.id"], name=op.f("fk_judgement_session_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_judgement")),
        sa.UniqueConstraint(
            "candidate_id", "judge_id", "sample", name=op.f("uq_judgement_candidate_id_judge_id_sample")
        ),
        comment="One sampled judgement of one candidate. Unreadable ones are kept with score NULL.",
    )
    op.create_table(
        "preference_pair",
        sa.Column("id", Id, autoincrement=True, nullable=False),
        sa.Column("iteration_id", Id, nullable=False, comment="The iteration that trains on it."),
        sa.Column("prompt_id", Id, nullable=False, comment="The prompt both answer."),
        sa.Column("judge_id", Id, nullable=False, comment="Whose scores made it."),
        sa.Column("chosen_id", Id, nullable=False, comment="The better candidate."),
        sa.Column("rejected_id", Id, nullable=False, comment="The worse candidate."),
        sa.Column(
            "chosen_score", sa.Float(precision=53), nullable=False, comment="Mean score of the chosen one."
        ),
        sa.Column(
            "rejected_score",
            sa.Float(precision=53),
            nullable=False,
            comment="Mean score of the rejected one.",
        ),
        sa.Column("margin", sa.Float(precision=53), nullable=False, comment="chosen_score - rejected_score."),
        sa.Column(
            "soft_label",
            sa.Float(precision=53),
            nullable=True,
            comment="Probability that chosen is better; NULL for a hard label.",
        ),
        sa.Column(
            "excluded",
            sa.Text(),
            nullable=True,
            comment="Why it was left out of training (too_long); NULL if it was not.",
        ),
        sa.Column("created_at", Utc, nullable=False, comment="UTC."),
        sa.CheckConstraint("chosen_id <> rejected_id", name=op.f("ck_preference_pair_two_candidates")),
        sa.CheckConstraint("chosen_score > rejected_score", name=op.f("ck_preference_pair_no_tie")),
        sa.ForeignKeyConstraint(["chosen_id"], ["candidate.id"], name=op.f("fk_preference_pair_chosen_id")),
        sa.ForeignKeyConstraint(
            ["iteration_id"], ["iteration.id"], name=op.f("fk_preference_pair_iteration_id")
        ),
        sa.ForeignKeyConstraint(["judge_id"], ["judge.id"], name=op.f("fk_preference_pair_judge_id")),
        sa.ForeignKeyConstraint(["prompt_id"], ["prompt.id"], name=op.f("fk_preference_pair_prompt_id")),
        sa.ForeignKeyConstraint(
            ["rejected_id"], ["candidate.id"], name=op.f("fk_preference_pair_rejected_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_preference_pair")),
        sa.UniqueConstraint(
            "iteration_id", "prompt_id", name=op.f("uq_preference_pair_iteration_id_prompt_id")
        ),
        comment="A preference pair: what the next checkpoint is trained on.",
    )
    for name, query in VIEWS.items():
        op.execute(f"CREATE VIEW {name} AS {query}")


def downgrade() -> None:
    for name in VIEWS:
        op.execute(f"DROP VIEW {name}")
    op.drop_table("preference_pair")
    op.drop_table("judgement")
    op.drop_table("prompt_demonstration")
    op.drop_table("pair_decision")
    op.drop_table("item_failure")
    with op.batch_alter_table("candidate", schema=None) as batch_op:
        batch_op.drop_index("ix_candidate_work")

    op.drop_table("candidate")
    op.drop_table("training_metric")
    op.drop_table("stage")
    with op.batch_alter_table("prompt", schema=None) as batch_op:
        batch_op.drop_index(
            "uq_prompt_seed",
            sqlite_where=sa.text("source = 'seed'"),
            postgresql_where=sa.text("source = 'seed'"),
        )
        batch_op.drop_index("ix_prompt_work")

    op.drop_table("prompt")
    with op.batch_alter_table("event", schema=None) as batch_op:
        batch_op.drop_index("ix_event_run")

    op.drop_table("event")
    op.drop_table("engine_session")
    op.drop_table("judge")
    op.drop_table("iteration")
    op.drop_table("lease")
    with op.batch_alter_table("control_request", schema=None) as batch_op:
        batch_op.drop_index(
            "ix_control_request_open",
            sqlite_where=sa.text("handled_at IS NULL"),
            postgresql_where=sa.text("handled_at IS NULL"),
        )

    op.drop_table("control_request")
    op.drop_table("checkpoint")
    op.drop_table("setting")
    op.drop_table("run")
