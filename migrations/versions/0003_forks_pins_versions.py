"""forks share seeds, checkpoints are pinned or removed, stages name their libraries, trainings resume"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

Id = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
Json = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")
Utc = sa.DateTime(timezone=True)

# Who judges an iteration is told by the iteration: a fork may have the same candidates judged by another.
ITERATION_SUMMARY = """
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
      ON trained.run_id = iteration.run_id AND trained.name = 'M_' || (iteration.t + 1)
    LEFT JOIN (
        SELECT
            candidate.iteration_id AS iteration_id,
            judgement.judge_id AS judge_id,
            count(*) AS judgements,
            count(judgement.score) AS readable,
            avg(judgement.score) AS mean_score
        FROM judgement
        JOIN candidate ON candidate.id = judgement.candidate_id
        GROUP BY candidate.iteration_id, judgement.judge_id
    ) AS judged
      ON judged.iteration_id = iteration.data_iteration_id
     AND judged.judge_id = iteration.judge_id
    WHERE iteration.status <> 'pending'
"""
SCORE_HISTOGRAM = """
    SELECT
        run.name AS run,
        iteration.t AS t,
        judgement.score AS score,
        count(*) AS judgements
    FROM iteration
    JOIN run ON run.id = iteration.run_id
    JOIN candidate ON candidate.iteration_id = iteration.data_iteration_id
    JOIN judgement ON judgement.candidate_id = candidate.id AND judgement.judge_id = iteration.judge_id
    GROUP BY run.name, iteration.t, judgement.score
"""
# The last of those that have judged its candidates; until now there was one.
WHO_JUDGED = """
    UPDATE iteration SET judge_id = (
        SELECT max(judge.id) FROM judge
        WHERE judge.checkpoint_id = iteration.checkpoint_id
          AND EXISTS (
            SELECT 1 FROM candidate
            JOIN judgement ON judgement.candidate_id = candidate.id AND judgement.judge_id = judge.id
            WHERE candidate.iteration_id = iteration.data_iteration_id
        )
    )
"""

# A training that was resumed goes on in the middle: a step is told by the last attempt that came to it.
TRAINING_CURVE = """
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
      AND NOT EXISTS (
        SELECT 1 FROM training_metric AS later
        WHERE later.iteration_id = training_metric.iteration_id
          AND later.stage = 'train'
          AND later.attempt > training_metric.attempt
          AND later.step <= training_metric.step
    )
    GROUP BY run.name, iteration.t, training_metric.step
"""

VIEWS = {
    "iteration_summary": ITERATION_SUMMARY,
    "score_histogram": SCORE_HISTOGRAM,
    "training_curve": TRAINING_CURVE,
}


def upgrade() -> None:
    _add_reference("run", "seeds_run_id", "run", SEEDS_RUN)
    _add_reference("iteration", "judge_id", "judge", JUDGED_BY)
    op.add_column("stage", sa.Column("versions", Json, nullable=True, comment=VERSIONS))
    op.add_column(
        "checkpoint",
        sa.Column("pinned", sa.Boolean(), nullable=False, server_default=sa.false(), comment=PINNED),
    )
    op.add_column("checkpoint", sa.Column("removed_at", Utc, nullable=True, comment=REMOVED))
    if op.get_bind().dialect.name == "postgresql":
        op.alter_column(
            "lease", "boot_id", existing_type=sa.Text(), comment=BOOT, existing_comment=BOOT_BEFORE
        )
        op.alter_column(
            "checkpoint", "path", existing_type=sa.Text(), comment=PATH, existing_comment=PATH_BEFORE
        )
    op.execute(WHO_JUDGED)
    for name, query in VIEWS.items():
        op.execute(f"DROP VIEW {name}")
        op.execute(f"CREATE VIEW {name} AS {query}")


def _add_reference(table: str, column: str, target: str, comment: str) -> None:
    """SQLite takes a reference with a new column, and would copy the table for one that comes later."""
    name = f"fk_{table}_{column}"
    if op.get_bind().dialect.name == "sqlite":
        reference = f"CONSTRAINT {name} REFERENCES {target} (id)"
        op.execute(f"ALTER TABLE {table} ADD COLUMN {column} INTEGER {reference}")
        return
    op.add_column(table, sa.Column(column, Id, nullable=True, comment=comment))
    op.create_foreign_key(name, table, target, [column], ["id"])


def downgrade() -> None:
    raise NotImplementedError("forks would lose their seeds: restore a backup")


SEEDS_RUN = "The run whose seeds it uses; NULL: its own. A fork uses those of the run it comes from."
JUDGED_BY = "Whose judgements of its candidates count; NULL before there are any."
VERSIONS = "Versions of Python, selfreward and the libraries it used, when it was last started."
PINNED = "Whether a user keeps its files from retention."
REMOVED = "UTC, when retention removed its files; the row stays."
BOOT_BEFORE = "The kernel's boot id: tells a reboot from a running daemon."
BOOT = "Kernel boot and process namespace: where its process id means something."
PATH_BEFORE = "Directory, relative to the run's directory."
PATH = "Directory, relative to that of the run from which all forks come."
