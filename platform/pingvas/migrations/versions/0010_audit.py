"""Who did what, from where, and how it was before."""

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """See the module's text."""


def downgrade() -> None:
    """See the module's text."""
