"""Keep large tables quick"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0003"
down_revision: str | None = "0002"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

QUEUED = sa.text("state = 'queued'")
SUCCEEDED = sa.text("state = 'succeeded'")
TRIED_AGAIN = sa.text("retry_of IS NOT NULL")


def upgrade() -> None:
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
