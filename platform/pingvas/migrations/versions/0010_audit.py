"""Who did what, from where, and how it was before."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("audit_log", sa.Column("request_id", sa.String(length=64), nullable=True))
    op.add_column("audit_log", sa.Column("ip", sa.String(length=45), nullable=True))
    op.create_index("ix_audit_log_actor_id", "audit_log", ["actor", "id"])


def downgrade() -> None:
    op.drop_index("ix_audit_log_actor_id", "audit_log")
    op.drop_column("audit_log", "ip")
    op.drop_column("audit_log", "request_id")
