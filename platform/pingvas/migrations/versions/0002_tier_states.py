"""Tiers that operators have paused or are draining; a tier without a row is open."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "tier_states",
        sa.Column("tier", sa.String(length=16), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("changed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("changed_by", sa.String(length=200), nullable=False),
        sa.CheckConstraint("state IN ('open','paused','draining')", name=op.f("ck_tier_states_state")),
        sa.PrimaryKeyConstraint("tier", name=op.f("pk_tier_states")),
    )


def downgrade() -> None:
    op.drop_table("tier_states")
