"""Add what training at the limit needs"""

from collections.abc import Sequence

import sqlalchemy as sa
import sqlmodel
from alembic import op

revision: str = "0003"
down_revision: str | None = "0002"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

QUEUED = sa.text("state = 'queued'")
SUCCEEDED = sa.text("state = 'succeeded'")
TRIED_AGAIN = sa.text("retry_of IS NOT NULL")
UNJUDGED = sa.text("NOT is_kept")
REMOVED = sa.text("removed_at IS NOT NULL")
BEGINS_ELSEWHERE = sa.text("resume_from_job IS NOT NULL")
DAYS = """
INSERT INTO usage_day (project_id, day, kind, accelerator, attempts, waiting_seconds,
    starting, useful, redone, idle, failed, before_month)
SELECT project_id, day, kind, accelerator, count(*), sum(waiting_seconds),
    sum(starting), sum(useful), sum(redone), sum(idle), sum(failed),
    sum(CASE WHEN started_at < month THEN slots * (month - started_at) ELSE 0.0 END)
FROM (
    SELECT usage_entry.*, job.kind, {day} AS day, {month} AS month
    FROM usage_entry JOIN job ON job.id = usage_entry.job_id
) AS entries
GROUP BY project_id, day, kind, accelerator
"""
CALENDARS = {
    "sqlite": {
        "day": "CAST(usage_entry.finished_at / 86400 AS INTEGER)",
        "month": "CAST(strftime('%s', usage_entry.finished_at, 'unixepoch', 'start of month') AS REAL)",
    },
    "postgresql": {
        "day": "CAST(floor(usage_entry.finished_at / 86400) AS INTEGER)",
        "month": "extract(epoch FROM date_trunc('month', to_timestamp(usage_entry.finished_at) AT TIME ZONE 'UTC')"
        " AT TIME ZONE 'UTC')::double precision",
    },
}


def upgrade() -> None:
    _narrow_indexes()
    _add_days_of_the_ledger()
    with op.batch_alter_table("checkpoint", schema=None) as batch_op:
        batch_op.add_column(sa.Column("is_kept", sa.Boolean(), nullable=False, server_default=sa.false()))
        batch_op.add_column(sa.Column("removed_at", sa.Double(), nullable=True))
        batch_op.add_column(sa.Column("verified_at", sa.Double(), nullable=True))
        batch_op.add_column(sa.Column("damage", sa.Text(), nullable=True))
        batch_op.alter_column("is_kept", server_default=None)
    with op.batch_alter_table("checkpoint", schema=None) as batch_op:
        batch_op.create_index(
            "ix_checkpoint_unjudged", ["created_at", "id"], unique=False, sqlite_where=UNJUDGED, postgresql_where=UNJUDGED
        )
        batch_op.create_index(
            "ix_checkpoint_removed", ["removed_at", "id"], unique=False, sqlite_where=REMOVED, postgresql_where=REMOVED
        )
    op.create_table(
        "sweep",
        sa.Column("id", sqlmodel.sql.sqltypes.AutoString(), nullable=False),
        sa.Column("project_id", sqlmodel.sql.sqltypes.AutoString(), nullable=False),
        sa.Column("name", sqlmodel.sql.sqltypes.AutoString(), nullable=False),
        sa.Column("job", sa.JSON(), nullable=False),
        sa.Column("parameters", sa.JSON(), nullable=False),
        sa.Column("metric", sqlmodel.sql.sqltypes.AutoString(), nullable=False),
        sa.Column("direction", sqlmodel.sql.sqltypes.AutoString(), nullable=False),
        sa.Column("sampler", sqlmodel.sql.sqltypes.AutoString(), nullable=False),
        sa.Column("trials", sa.Integer(), nullable=False),
        sa.Column("parallel", sa.Integer(), nullable=False),
        sa.Column("pruning", sa.JSON(), nullable=True),
        sa.Column("max_gpu_hours", sa.Double(), nullable=True),
        sa.Column("promote", sqlmodel.sql.sqltypes.AutoString(), nullable=True),
        sa.Column("seed", sa.Integer(), nullable=False),
        sa.Column("inputs", sa.JSON(), nullable=False),
        sa.Column("state", sqlmodel.sql.sqltypes.AutoString(), nullable=False),
        sa.Column("message", sa.Text(), nullable=True),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("best", sa.Integer(), nullable=True),
        sa.Column("promoted", sa.JSON(), nullable=True),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("finished_at", sa.Double(), nullable=True),
        sa.ForeignKeyConstraint(
            ["project_id"],
            ["project.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
    )
    with op.batch_alter_table("sweep", schema=None) as batch_op:
        batch_op.create_index(
            "ix_sweep_open",
            ["id"],
            unique=False,
            sqlite_where=sa.text("finished_at IS NULL"),
            postgresql_where=sa.text("finished_at IS NULL"),
        )
        batch_op.create_index("ix_sweep_project", ["project_id", "id"], unique=False)

    op.create_table(
        "trial",
        sa.Column("sweep_id", sqlmodel.sql.sqltypes.AutoString(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("job_id", sqlmodel.sql.sqltypes.AutoString(), nullable=True),
        sa.Column("parameters", sa.JSON(), nullable=False),
        sa.Column("state", sqlmodel.sql.sqltypes.AutoString(), nullable=False),
        sa.Column("results", sa.JSON(), nullable=False),
        sa.Column("message", sa.Text(), nullable=True),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("finished_at", sa.Double(), nullable=True),
        sa.ForeignKeyConstraint(
            ["job_id"],
            ["job.id"],
        ),
        sa.ForeignKeyConstraint(
            ["sweep_id"],
            ["sweep.id"],
        ),
        sa.PrimaryKeyConstraint("sweep_id", "number"),
    )
    with op.batch_alter_table("trial", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_trial_job_id"), ["job_id"], unique=False)

    with op.batch_alter_table("job", schema=None) as batch_op:
        batch_op.add_column(sa.Column("pause_at_step", sa.Integer(), nullable=True))
        batch_op.add_column(sa.Column("is_probe", sa.Boolean(), nullable=False, server_default=sa.false()))
        batch_op.add_column(sa.Column("reproduces", sqlmodel.sql.sqltypes.AutoString(), nullable=True))
        batch_op.add_column(sa.Column("resume_from", sqlmodel.sql.sqltypes.AutoString(), nullable=True))
        batch_op.add_column(sa.Column("resume_from_job", sqlmodel.sql.sqltypes.AutoString(), nullable=True))
        batch_op.add_column(sa.Column("resume_from_step", sa.Integer(), nullable=True))

    with op.batch_alter_table("job", schema=None) as batch_op:
        batch_op.alter_column("is_probe", server_default=None)
        batch_op.create_index(
            "ix_job_resume_from",
            ["resume_from_job"],
            unique=False,
            sqlite_where=BEGINS_ELSEWHERE,
            postgresql_where=BEGINS_ELSEWHERE,
        )

    with op.batch_alter_table("attempt", schema=None) as batch_op:
        batch_op.add_column(sa.Column("manifest", sa.JSON(), nullable=True))
        batch_op.add_column(sa.Column("stalled_at", sa.Double(), nullable=True))

    with op.batch_alter_table("seat", schema=None) as batch_op:
        batch_op.add_column(sa.Column("places", sa.JSON(), nullable=True))

    with op.batch_alter_table("schedule", schema=None) as batch_op:
        batch_op.add_column(sa.Column("failures", sa.Integer(), nullable=False, server_default="0"))
        batch_op.add_column(sa.Column("problem", sa.Text(), nullable=True))
        batch_op.add_column(sa.Column("try_at", sa.Double(), nullable=True))
        batch_op.alter_column("failures", server_default=None)

    with op.batch_alter_table("worker", schema=None) as batch_op:
        batch_op.add_column(sa.Column("host_memory_bytes", sa.BigInteger(), nullable=True))
        batch_op.add_column(sa.Column("gpu_memory_bytes", sa.BigInteger(), nullable=True))


def _add_days_of_the_ledger() -> None:
    op.create_table(
        "usage_day",
        sa.Column("project_id", sqlmodel.sql.sqltypes.AutoString(), nullable=False),
        sa.Column("day", sa.Integer(), nullable=False),
        sa.Column("kind", sqlmodel.sql.sqltypes.AutoString(), nullable=False),
        sa.Column("accelerator", sqlmodel.sql.sqltypes.AutoString(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("waiting_seconds", sa.Double(), nullable=False),
        sa.Column("starting", sa.Double(), nullable=False),
        sa.Column("useful", sa.Double(), nullable=False),
        sa.Column("redone", sa.Double(), nullable=False),
        sa.Column("idle", sa.Double(), nullable=False),
        sa.Column("failed", sa.Double(), nullable=False),
        sa.Column("before_month", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(
            ["project_id"],
            ["project.id"],
        ),
        sa.PrimaryKeyConstraint("project_id", "day", "kind", "accelerator"),
    )
    op.execute(DAYS.format(**CALENDARS[op.get_bind().dialect.name]))


def _narrow_indexes() -> None:
    with op.batch_alter_table("job", schema=None) as batch_op:
        batch_op.drop_index("ix_job_claim")
        batch_op.create_index(
            "ix_job_claim", ["queue", "order_key", "id"], unique=False, sqlite_where=QUEUED, postgresql_where=QUEUED
        )
        batch_op.drop_index("ix_job_waiting")
        batch_op.create_index(
            "ix_job_waiting",
            ["project_id", "queue", "order_key", "id"],
            unique=False,
            sqlite_where=QUEUED,
            postgresql_where=QUEUED,
        )
        batch_op.drop_index("ix_job_project_kind")
        batch_op.create_index("ix_job_project_kind", ["project_id", "kind", "state", "id"], unique=False)
        batch_op.drop_index("ix_job_fingerprint")
        batch_op.create_index(
            "ix_job_fingerprint",
            ["project_id", "fingerprint", "id"],
            unique=False,
            sqlite_where=SUCCEEDED,
            postgresql_where=SUCCEEDED,
        )
        batch_op.drop_index("ix_job_retry_of")
        batch_op.create_index(
            "ix_job_retry_of", ["retry_of"], unique=False, sqlite_where=TRIED_AGAIN, postgresql_where=TRIED_AGAIN
        )


def downgrade() -> None:
    with op.batch_alter_table("checkpoint", schema=None) as batch_op:
        batch_op.drop_index("ix_checkpoint_removed")
        batch_op.drop_index("ix_checkpoint_unjudged")
    with op.batch_alter_table("checkpoint", schema=None) as batch_op:
        batch_op.drop_column("damage")
        batch_op.drop_column("verified_at")
        batch_op.drop_column("removed_at")
        batch_op.drop_column("is_kept")
    op.drop_table("usage_day")
    _widen_indexes()
    with op.batch_alter_table("schedule", schema=None) as batch_op:
        batch_op.drop_column("try_at")
        batch_op.drop_column("problem")
        batch_op.drop_column("failures")

    with op.batch_alter_table("worker", schema=None) as batch_op:
        batch_op.drop_column("gpu_memory_bytes")
        batch_op.drop_column("host_memory_bytes")

    with op.batch_alter_table("attempt", schema=None) as batch_op:
        batch_op.drop_column("stalled_at")
        batch_op.drop_column("manifest")

    with op.batch_alter_table("seat", schema=None) as batch_op:
        batch_op.drop_column("places")

    with op.batch_alter_table("job", schema=None) as batch_op:
        batch_op.drop_index("ix_job_resume_from")
    with op.batch_alter_table("job", schema=None) as batch_op:
        batch_op.drop_column("resume_from_step")
        batch_op.drop_column("resume_from_job")
        batch_op.drop_column("resume_from")
        batch_op.drop_column("reproduces")
        batch_op.drop_column("is_probe")
        batch_op.drop_column("pause_at_step")

    with op.batch_alter_table("trial", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_trial_job_id"))

    op.drop_table("trial")
    with op.batch_alter_table("sweep", schema=None) as batch_op:
        batch_op.drop_index("ix_sweep_project")
        batch_op.drop_index(
            "ix_sweep_open", sqlite_where=sa.text("finished_at IS NULL"), postgresql_where=sa.text("finished_at IS NULL")
        )

    op.drop_table("sweep")


def _widen_indexes() -> None:
    with op.batch_alter_table("job", schema=None) as batch_op:
        batch_op.drop_index("ix_job_retry_of")
        batch_op.create_index("ix_job_retry_of", ["retry_of"], unique=False)
        batch_op.drop_index("ix_job_fingerprint")
        batch_op.create_index("ix_job_fingerprint", ["project_id", "fingerprint"], unique=False)
        batch_op.drop_index("ix_job_project_kind")
        batch_op.create_index("ix_job_project_kind", ["project_id", "kind", "id"], unique=False)
        batch_op.drop_index("ix_job_waiting")
        batch_op.create_index("ix_job_waiting", ["project_id", "state", "queue", "order_key", "id"], unique=False)
        batch_op.drop_index("ix_job_claim")
        batch_op.create_index("ix_job_claim", ["queue", "state", "order_key", "id"], unique=False)
