"""Running jobs have a deadline that the sweep enforces, and say whether they run alone in their worker."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("jobs", sa.Column("deadline_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("jobs", sa.Column("alone", sa.Boolean(), server_default=sa.false(), nullable=False))
    running = "status = 'in_progress'"
    op.create_index("ix_jobs_deadline", "jobs", ["deadline_at"], postgresql_where=running)


def downgrade() -> None:
    op.drop_index("ix_jobs_deadline", "jobs")
    op.drop_column("jobs", "alone")
    op.drop_column("jobs", "deadline_at")
