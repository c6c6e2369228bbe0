"""Add what scheduling needs"""

from collections.abc import Sequence

import sqlalchemy as sa
import sqlmodel
from alembic import op

revision: str = "0002"
down_revision: str | None = "0001"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    op.create_table(
        "host",
        sa.Column("name", sqlmodel.sql.sqltypes.AutoString(), nullable=False),
        sa.Column("excluded_at", sa.Double(), nullable=True),
        sa.Column("excluded_until", sa.Double(), nullable=True),
        sa.Column("excluded_because", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "strike",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("host", sqlmodel.sql.sqltypes.AutoString(), nullable=False),
        sa.Column("job_id", sqlmodel.sql.sqltypes.AutoString(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("outcome", sqlmodel.sql.sqltypes.AutoString(), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    with op.batch_alter_table("strike", schema=None) as batch_op:
        batch_op.create_index("ix_strike_host", ["host", "at"], unique=False)

    op.create_table(
        "job_tally",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("project_id", sqlmodel.sql.sqltypes.AutoString(), nullable=False),
        sa.Column("queue", sqlmodel.sql.sqltypes.AutoString(), nullable=False),
        sa.Column("state", sqlmodel.sql.sqltypes.AutoString(), nullable=False),
        sa.Column("jobs", sa.Integer(), nullable=False),
        sa.Column("slots", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["project_id"],
            ["project.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "schedule",
        sa.Column("id", sqlmodel.sql.sqltypes.AutoString(), nullable=False),
        sa.Column("project_id", sqlmodel.sql.sqltypes.AutoString(), nullable=False),
        sa.Column("name", sqlmodel.sql.sqltypes.AutoString(), nullable=False),
        sa.Column("cron", sqlmodel.sql.sqltypes.AutoString(), nullable=False),
        sa.Column("timezone", sqlmodel.sql.sqltypes.AutoString(), nullable=False),
        sa.Column("job", sa.JSON(), nullable=True),
        sa.Column("pipeline", sa.JSON(), nullable=True),
        sa.Column("paused", sa.Boolean(), nullable=False),
        sa.Column("overlap", sa.Boolean(), nullable=False),
        sa.Column("next_at", sa.Double(), nullable=True),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(
            ["project_id"],
            ["project.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("project_id", "name"),
    )
    with op.batch_alter_table("schedule", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_schedule_next_at"), ["next_at"], unique=False)
        batch_op.create_index(batch_op.f("ix_schedule_project_id"), ["project_id"], unique=False)

    op.create_table(
        "schedule_slot",
        sa.Column("schedule_id", sqlmodel.sql.sqltypes.AutoString(), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("job_id", sqlmodel.sql.sqltypes.AutoString(), nullable=True),
        sa.Column("pipeline_id", sqlmodel.sql.sqltypes.AutoString(), nullable=True),
        sa.Column("message", sa.Text(), nullable=True),
        sa.Column("made_at", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(
            ["schedule_id"],
            ["schedule.id"],
        ),
        sa.PrimaryKeyConstraint("schedule_id", "at"),
    )
    op.create_table(
        "reservation",
        sa.Column("worker_id", sqlmodel.sql.sqltypes.AutoString(), nullable=False),
        sa.Column("job_id", sqlmodel.sql.sqltypes.AutoString(), nullable=False),
        sa.Column("slots", sa.Integer(), nullable=False),
        sa.Column("accelerator", sqlmodel.sql.sqltypes.AutoString(), nullable=False),
        sa.Column("expires_at", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(
            ["job_id"],
            ["job.id"],
        ),
        sa.PrimaryKeyConstraint("worker_id", "job_id"),
    )
    op.create_table(
        "seat",
        sa.Column("job_id", sqlmodel.sql.sqltypes.AutoString(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("node_rank", sa.Integer(), nullable=False),
        sa.Column("worker_id", sqlmodel.sql.sqltypes.AutoString(), nullable=False),
        sa.Column("slots", sa.JSON(), nullable=False),
        sa.Column("state", sqlmodel.sql.sqltypes.AutoString(), nullable=False),
        sa.Column("outcome", sqlmodel.sql.sqltypes.AutoString(), nullable=True),
        sa.Column("failing_rank", sa.Integer(), nullable=True),
        sa.Column("exit_code", sa.Integer(), nullable=True),
        sa.Column("message", sa.Text(), nullable=True),
        sa.Column("made_at", sa.Double(), nullable=False),
        sa.Column("lease_expires_at", sa.Double(), nullable=True),
        sa.ForeignKeyConstraint(
            ["job_id"],
            ["job.id"],
        ),
        sa.PrimaryKeyConstraint("job_id", "attempt", "node_rank"),
    )
    with op.batch_alter_table("seat", schema=None) as batch_op:
        batch_op.create_index("ix_seat_worker", ["worker_id", "state"], unique=False)

    op.create_table(
        "usage_entry",
        sa.Column("attempt_id", sqlmodel.sql.sqltypes.AutoString(), nullable=False),
        sa.Column("project_id", sqlmodel.sql.sqltypes.AutoString(), nullable=False),
        sa.Column("job_id", sqlmodel.sql.sqltypes.AutoString(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("accelerator", sqlmodel.sql.sqltypes.AutoString(), nullable=False),
        sa.Column("slots", sa.Integer(), nullable=False),
        sa.Column("started_at", sa.Double(), nullable=False),
        sa.Column("finished_at", sa.Double(), nullable=False),
        sa.Column("waiting_seconds", sa.Double(), nullable=False),
        sa.Column("starting", sa.Double(), nullable=False),
        sa.Column("useful", sa.Double(), nullable=False),
        sa.Column("redone", sa.Double(), nullable=False),
        sa.Column("idle", sa.Double(), nullable=False),
        sa.Column("failed", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(
            ["attempt_id"],
            ["attempt.id"],
        ),
        sa.ForeignKeyConstraint(
            ["job_id"],
            ["job.id"],
        ),
        sa.ForeignKeyConstraint(
            ["project_id"],
            ["project.id"],
        ),
        sa.PrimaryKeyConstraint("attempt_id"),
    )
    with op.batch_alter_table("usage_entry", schema=None) as batch_op:
        batch_op.create_index("ix_usage_job", ["job_id", "attempt"], unique=False)
        batch_op.create_index("ix_usage_project", ["project_id", "finished_at"], unique=False)

    with op.batch_alter_table("attempt", schema=None) as batch_op:
        batch_op.add_column(sa.Column("host", sqlmodel.sql.sqltypes.AutoString(), nullable=False, server_default=""))
        batch_op.add_column(sa.Column("accelerator", sqlmodel.sql.sqltypes.AutoString(), nullable=False, server_default="cpu"))
        batch_op.add_column(sa.Column("rendezvous", sqlmodel.sql.sqltypes.AutoString(), nullable=True))
        batch_op.add_column(sa.Column("resumed_from", sqlmodel.sql.sqltypes.AutoString(), nullable=True))
        batch_op.add_column(sa.Column("failing_rank", sa.Integer(), nullable=True))
        batch_op.add_column(sa.Column("first_step_at", sa.Double(), nullable=True))
        batch_op.add_column(sa.Column("last_step_at", sa.Double(), nullable=True))
        batch_op.add_column(sa.Column("queued_at", sa.Double(), nullable=True))
        batch_op.add_column(sa.Column("saved_at", sa.Double(), nullable=True))
        batch_op.alter_column("host", server_default=None)
        batch_op.alter_column("accelerator", server_default=None)

    with op.batch_alter_table("job", schema=None) as batch_op:
        batch_op.add_column(sa.Column("preemptible", sa.Boolean(), nullable=False, server_default=sa.false()))
        batch_op.add_column(sa.Column("time_limit_seconds", sa.Double(), nullable=True))
        batch_op.add_column(sa.Column("start_at", sa.Double(), nullable=True))
        batch_op.add_column(sa.Column("queued_at", sa.Double(), nullable=True))
        batch_op.add_column(sa.Column("avoid_hosts", sa.JSON(), nullable=False, server_default="[]"))
        batch_op.add_column(sa.Column("needs_approval", sa.Boolean(), nullable=False, server_default=sa.false()))
        batch_op.add_column(sa.Column("approved_at", sa.Double(), nullable=True))
        batch_op.add_column(sa.Column("approved_by", sqlmodel.sql.sqltypes.AutoString(), nullable=True))
        batch_op.add_column(sa.Column("retry_of", sqlmodel.sql.sqltypes.AutoString(), nullable=True))
        batch_op.add_column(sa.Column("fingerprint", sqlmodel.sql.sqltypes.AutoString(), nullable=True))
        batch_op.add_column(sa.Column("reused_from", sqlmodel.sql.sqltypes.AutoString(), nullable=True))
        gangs = sa.text("nodes > 1")
        batch_op.create_index("ix_job_gang", ["state", "order_key"], unique=False, sqlite_where=gangs, postgresql_where=gangs)
        batch_op.create_index("ix_job_fingerprint", ["project_id", "fingerprint"], unique=False)
        batch_op.create_index("ix_job_project", ["project_id", "id"], unique=False)
        queued = sa.text("state = 'queued'")
        batch_op.create_index("ix_job_not_before", ["not_before"], unique=False, sqlite_where=queued, postgresql_where=queued)
        batch_op.drop_index("ix_job_claim")
        batch_op.create_index("ix_job_claim", ["queue", "state", "order_key", "id"], unique=False)
        leased = sa.text("lease_expires_at IS NOT NULL")
        batch_op.drop_index("ix_job_lease")
        batch_op.create_index("ix_job_lease", ["lease_expires_at"], unique=False, sqlite_where=leased, postgresql_where=leased)
        piped = sa.text("pipeline_id IS NOT NULL")
        batch_op.drop_index(batch_op.f("ix_job_pipeline_id"))
        batch_op.create_index("ix_job_pipeline", ["pipeline_id", "id"], unique=False, sqlite_where=piped, postgresql_where=piped)
        held = sa.text("state = 'held'")
        batch_op.create_index(
            "ix_job_held", ["reason", "project_id", "queue", "order_key"], unique=False, sqlite_where=held, postgresql_where=held
        )
        discarded = sa.text("stop_requested = 'discarded'")
        batch_op.create_index("ix_job_discarded", ["state"], unique=False, sqlite_where=discarded, postgresql_where=discarded)
        batch_op.create_index(batch_op.f("ix_job_retry_of"), ["retry_of"], unique=False)
        batch_op.create_index("ix_job_waiting", ["project_id", "state", "queue", "order_key", "id"], unique=False)
        batch_op.alter_column("preemptible", server_default=None)
        batch_op.alter_column("avoid_hosts", server_default=None)
        batch_op.alter_column("needs_approval", server_default=None)

    with op.batch_alter_table("pipeline", schema=None) as batch_op:
        batch_op.add_column(sa.Column("reuse", sa.Boolean(), nullable=False, server_default=sa.false()))
        batch_op.alter_column("reuse", server_default=None)

    with op.batch_alter_table("project", schema=None) as batch_op:
        batch_op.add_column(sa.Column("share", sa.Double(), nullable=False, server_default="1"))
        batch_op.add_column(sa.Column("max_gpus", sa.Integer(), nullable=True))
        batch_op.add_column(sa.Column("max_queued_jobs", sa.Integer(), nullable=True))
        batch_op.add_column(sa.Column("max_gpu_hours_per_month", sa.Double(), nullable=True))
        batch_op.add_column(sa.Column("recent_gpu_seconds", sa.Double(), nullable=False, server_default="0"))
        batch_op.add_column(sa.Column("recent_at", sa.Double(), nullable=False, server_default="0"))
        batch_op.alter_column("share", server_default=None)
        batch_op.alter_column("recent_gpu_seconds", server_default=None)
        batch_op.alter_column("recent_at", server_default=None)

    with op.batch_alter_table("worker", schema=None) as batch_op:
        batch_op.add_column(sa.Column("drain_requested", sa.Boolean(), nullable=False, server_default=sa.false()))
        batch_op.alter_column("drain_requested", server_default=None)

    op.execute(
        "INSERT INTO job_tally (project_id, queue, state, jobs, slots) "
        "SELECT project_id, queue, state, COUNT(*), SUM(slots * nodes) FROM job GROUP BY project_id, queue, state"
    )


def downgrade() -> None:
    with op.batch_alter_table("worker", schema=None) as batch_op:
        batch_op.drop_column("drain_requested")

    with op.batch_alter_table("project", schema=None) as batch_op:
        batch_op.drop_column("recent_at")
        batch_op.drop_column("recent_gpu_seconds")
        batch_op.drop_column("max_gpu_hours_per_month")
        batch_op.drop_column("max_queued_jobs")
        batch_op.drop_column("max_gpus")
        batch_op.drop_column("share")

    with op.batch_alter_table("pipeline", schema=None) as batch_op:
        batch_op.drop_column("reuse")

    with op.batch_alter_table("job", schema=None) as batch_op:
        batch_op.drop_index("ix_job_waiting")
        batch_op.drop_index(batch_op.f("ix_job_retry_of"))
        batch_op.drop_index("ix_job_discarded")
        batch_op.drop_index("ix_job_held")
        batch_op.drop_index("ix_job_project")
        batch_op.drop_index("ix_job_not_before")
        batch_op.drop_index("ix_job_pipeline")
        batch_op.create_index(batch_op.f("ix_job_pipeline_id"), ["pipeline_id"], unique=False)
        batch_op.drop_index("ix_job_lease")
        batch_op.create_index("ix_job_lease", ["state", "lease_expires_at"], unique=False)
        batch_op.drop_index("ix_job_claim")
        batch_op.create_index("ix_job_claim", ["queue", "state", "order_key"], unique=False)
        batch_op.drop_index("ix_job_fingerprint")
        batch_op.drop_index("ix_job_gang")
        batch_op.drop_column("reused_from")
        batch_op.drop_column("fingerprint")
        batch_op.drop_column("retry_of")
        batch_op.drop_column("approved_by")
        batch_op.drop_column("approved_at")
        batch_op.drop_column("needs_approval")
        batch_op.drop_column("avoid_hosts")
        batch_op.drop_column("queued_at")
        batch_op.drop_column("start_at")
        batch_op.drop_column("time_limit_seconds")
        batch_op.drop_column("preemptible")

    with op.batch_alter_table("attempt", schema=None) as batch_op:
        batch_op.drop_column("saved_at")
        batch_op.drop_column("queued_at")
        batch_op.drop_column("last_step_at")
        batch_op.drop_column("first_step_at")
        batch_op.drop_column("failing_rank")
        batch_op.drop_column("resumed_from")
        batch_op.drop_column("rendezvous")
        batch_op.drop_column("accelerator")
        batch_op.drop_column("host")

    with op.batch_alter_table("usage_entry", schema=None) as batch_op:
        batch_op.drop_index("ix_usage_project")
        batch_op.drop_index("ix_usage_job")

    op.drop_table("usage_entry")
    with op.batch_alter_table("seat", schema=None) as batch_op:
        batch_op.drop_index("ix_seat_worker")

    op.drop_table("seat")
    op.drop_table("reservation")
    op.drop_table("schedule_slot")
    with op.batch_alter_table("schedule", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_schedule_project_id"))
        batch_op.drop_index(batch_op.f("ix_schedule_next_at"))

    op.drop_table("schedule")
    op.drop_table("job_tally")
    with op.batch_alter_table("strike", schema=None) as batch_op:
        batch_op.drop_index("ix_strike_host")

    op.drop_table("strike")
    op.drop_table("host")
