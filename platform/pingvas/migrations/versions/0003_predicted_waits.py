"""What a job's wait was predicted to be when it was accepted, to hold predictions against what came."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("jobs", sa.Column("eta_p50", sa.Float(), nullable=True))
    op.add_column("jobs", sa.Column("eta_p90", sa.Float(), nullable=True))


def downgrade() -> None:
    op.drop_column("jobs", "eta_p90")
    op.drop_column("jobs", "eta_p50")
