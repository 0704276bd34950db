"""Verified addresses, second factors, mail, identities of other providers."""

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """See the module's text."""


def downgrade() -> None:
    """See the module's text."""
