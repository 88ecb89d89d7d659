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


def upgrade() -> None:
    _add_reference_to_seeds()
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
    op.execute("DROP VIEW training_curve")
    op.execute(f"CREATE VIEW training_curve AS {TRAINING_CURVE}")


def _add_reference_to_seeds() -> None:
    """SQLite takes a reference with a new column, and would copy the table for one that comes later."""
    if op.get_bind().dialect.name == "sqlite":
        reference = "CONSTRAINT fk_run_seeds_run_id REFERENCES run (id)"
        op.execute(f"ALTER TABLE run ADD COLUMN seeds_run_id INTEGER {reference}")
        return
    op.add_column("run", sa.Column("seeds_run_id", Id, nullable=True, comment=SEEDS_RUN))
    op.create_foreign_key("fk_run_seeds_run_id", "run", "run", ["seeds_run_id"], ["id"])


def downgrade() -> None:
    raise NotImplementedError("forks would lose their seeds: restore a backup")


SEEDS_RUN = "The run whose seeds it uses; NULL: its own. A fork uses those of the run it comes from."
VERSIONS = "Versions of Python, selfreward and the libraries it used, when it was last started."
PINNED = "Whether a user keeps its files from retention."
REMOVED = "UTC, when retention removed its files; the row stays."
BOOT_BEFORE = "The kernel's boot id: tells a reboot from a running daemon."
BOOT = "Kernel boot and process namespace: where its process id means something."
PATH_BEFORE = "Directory, relative to the run's directory."
PATH = "Directory, relative to that of the run from which all forks come."
