"""A request that generates is one round trip."""

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """See the module's text."""


def downgrade() -> None:
    """See the module's text."""
