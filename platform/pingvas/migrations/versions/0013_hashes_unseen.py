"""Hashes of passwords and tokens are read by nobody but the API, and there by their owner's leave."""

from pingvas import roles
from pingvas.migrations.security import grant, revoke

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

_USERS = "id, email, email_verified_at, name, language, tier, role, created_at, suspended_at"
# Rows past their time are deleted by their place in the file.
_TO_DELETE = "ctid, expires_at"

READABLE = {
    roles.CONTROL: {
        "users": _USERS,
        "sign_ins": _TO_DELETE,
        "refresh_tokens": _TO_DELETE,
        "one_time_tokens": _TO_DELETE,
        "idempotency_keys": "user_id, key, created_at",
    },
    roles.ADMIN: {"users": _USERS, "sign_ins": "id, user_id, ended_at"},
}


def upgrade() -> None:
    """Let each role read the columns that it needs."""
    for role, tables in READABLE.items():
        revoke(role, dict.fromkeys(tables, "SELECT"))
        grant(role, {table: f"SELECT ({columns})" for table, columns in tables.items()})


def downgrade() -> None:
    """Let each role read all of them again."""
    for role, tables in READABLE.items():
        revoke(role, {table: f"SELECT ({columns})" for table, columns in tables.items()})
        grant(role, dict.fromkeys(tables, "SELECT"))
