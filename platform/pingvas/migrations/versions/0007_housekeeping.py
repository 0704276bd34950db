"""What storage and history need to be tidied up."""

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """See the module's text."""


def downgrade() -> None:
    """See the module's text."""
