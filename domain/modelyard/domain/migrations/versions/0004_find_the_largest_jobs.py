"""Find the largest jobs of a project by an index"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0004"
down_revision: str | None = "0003"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

LARGEST_FIRST = sa.text("(starting + useful + redone + idle + failed) DESC")
RETRIED = sa.text("attempt > 1")


def upgrade() -> None:
    """Index what jobs used by size, and apart from them those that were tried again."""
    op.create_index("ix_usage_size", "usage_entry", ["project_id", LARGEST_FIRST, "job_id", "attempt", "finished_at"])
    columns = ["project_id", "finished_at", "job_id"]
    op.create_index("ix_usage_retried", "usage_entry", columns, sqlite_where=RETRIED, postgresql_where=RETRIED)


def downgrade() -> None:
    """Drop both."""
    op.drop_index("ix_usage_retried", "usage_entry")
    op.drop_index("ix_usage_size", "usage_entry")
