"""Verified addresses, sign-ins, second factors, mail, identities of other providers."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

_MOMENT = sa.DateTime(timezone=True)
_NEW = ("mails", "identities", "recovery_codes", "second_factors", "one_time_tokens")


def upgrade() -> None:
    """Make the tables."""
    _users()
    _sign_ins()
    op.add_column("api_keys", sa.Column("expires_at", _MOMENT, nullable=True))
    _one_time_tokens()
    _second_factors()
    _identities()
    _mails()


def _users() -> None:
    op.add_column("users", sa.Column("email_verified_at", _MOMENT, nullable=True))
    op.add_column("users", sa.Column("language", sa.String(2), server_default="en", nullable=False))
    op.create_check_constraint(op.f("ck_users_language"), "users", "language IN ('en', 'ko')")
    op.alter_column("users", "password_hash", nullable=True)


def _owner(table: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(
        ["user_id"], ["users.id"], name=op.f(f"fk_{table}_user_id"), ondelete="CASCADE"
    )


def _sign_ins() -> None:
    op.create_table(
        "sign_ins",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("created_at", _MOMENT, nullable=False),
        sa.Column("last_used_at", _MOMENT, nullable=False),
        sa.Column("expires_at", _MOMENT, nullable=False),
        sa.Column("ended_at", _MOMENT, nullable=True),
        sa.Column("second_factor_at", _MOMENT, nullable=True),
        sa.Column("stepped_up_at", _MOMENT, nullable=True),
        sa.Column("address", sa.String(45), nullable=True),
        sa.Column("user_agent", sa.String(200), nullable=True),
        _owner("sign_ins"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_sign_ins")),
    )
    op.create_index(op.f("ix_sign_ins_user_id_created_at_id"), "sign_ins", ["user_id", "created_at", "id"])
    op.create_index(op.f("ix_sign_ins_expires_at"), "sign_ins", ["expires_at"])
    op.execute("""
        INSERT INTO sign_ins (id, user_id, created_at, last_used_at, expires_at, ended_at)
        SELECT family_id, user_id, min(created_at), max(created_at), max(expires_at), max(revoked_at)
        FROM refresh_tokens GROUP BY family_id, user_id""")
    op.create_foreign_key(
        op.f("fk_refresh_tokens_family_id"),
        "refresh_tokens",
        "sign_ins",
        ["family_id"],
        ["id"],
        ondelete="CASCADE",
    )
    op.drop_column("refresh_tokens", "revoked_at")


def _one_time_tokens() -> None:
    op.create_table(
        "one_time_tokens",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("purpose", sa.String(16), nullable=False),
        sa.Column("token_hash", sa.LargeBinary(), nullable=False),
        sa.Column("email", sa.String(254), nullable=False),
        sa.Column("created_at", _MOMENT, nullable=False),
        sa.Column("expires_at", _MOMENT, nullable=False),
        sa.Column("used_at", _MOMENT, nullable=True),
        sa.CheckConstraint(
            "purpose IN ('verify-email', 'change-email', 'reset-password')",
            name=op.f("ck_one_time_tokens_purpose"),
        ),
        _owner("one_time_tokens"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_one_time_tokens")),
        sa.UniqueConstraint("token_hash", name=op.f("uq_one_time_tokens_token_hash")),
    )
    op.create_index(op.f("ix_one_time_tokens_user_id"), "one_time_tokens", ["user_id"])
    op.create_index(op.f("ix_one_time_tokens_expires_at"), "one_time_tokens", ["expires_at"])


def _second_factors() -> None:
    op.create_table(
        "second_factors",
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.Column("last_step", sa.BigInteger(), nullable=False),
        sa.Column("created_at", _MOMENT, nullable=False),
        sa.Column("confirmed_at", _MOMENT, nullable=True),
        _owner("second_factors"),
        sa.PrimaryKeyConstraint("user_id", name=op.f("pk_second_factors")),
    )
    op.create_table(
        "recovery_codes",
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("code_hash", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", _MOMENT, nullable=False),
        sa.Column("used_at", _MOMENT, nullable=True),
        _owner("recovery_codes"),
        sa.PrimaryKeyConstraint("user_id", "code_hash", name=op.f("pk_recovery_codes")),
    )


def _identities() -> None:
    op.create_table(
        "identities",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("provider", sa.String(16), nullable=False),
        sa.Column("subject", sa.String(255), nullable=False),
        sa.Column("email", sa.String(254), nullable=False),
        sa.Column("created_at", _MOMENT, nullable=False),
        sa.Column("last_used_at", _MOMENT, nullable=False),
        sa.CheckConstraint("provider IN ('google', 'discord')", name=op.f("ck_identities_provider")),
        _owner("identities"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_identities")),
        sa.UniqueConstraint("provider", "subject", name=op.f("uq_identities_provider_subject")),
        sa.UniqueConstraint("user_id", "provider", name=op.f("uq_identities_user_id_provider")),
    )


def _mails() -> None:
    op.create_table(
        "mails",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=True),
        sa.Column("recipient", sa.String(254), nullable=False),
        sa.Column("language", sa.String(2), nullable=False),
        sa.Column("template", sa.String(64), nullable=False),
        sa.Column("values", postgresql.JSONB(), nullable=False),
        sa.Column("key", sa.String(200), nullable=True),
        sa.Column("attempts", sa.SmallInteger(), nullable=False),
        sa.Column("created_at", _MOMENT, nullable=False),
        sa.Column("send_after", _MOMENT, nullable=False),
        sa.Column("sent_at", _MOMENT, nullable=True),
        sa.Column("gave_up_at", _MOMENT, nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.CheckConstraint("language IN ('en', 'ko')", name=op.f("ck_mails_language")),
        _owner("mails"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_mails")),
        sa.UniqueConstraint("key", name=op.f("uq_mails_key")),
    )
    is_open = "sent_at IS NULL AND gave_up_at IS NULL"
    op.create_index("ix_mails_open", "mails", ["send_after"], postgresql_where=is_open)
    op.create_index(op.f("ix_mails_user_id"), "mails", ["user_id"])
    op.create_index(op.f("ix_mails_created_at"), "mails", ["created_at"])


def downgrade() -> None:
    """Drop them again; accounts without a password keep none that works."""
    for table in _NEW:
        op.drop_table(table)
    op.drop_column("api_keys", "expires_at")
    op.add_column("refresh_tokens", sa.Column("revoked_at", _MOMENT, nullable=True))
    op.execute("""
        UPDATE refresh_tokens SET revoked_at = ended_at FROM sign_ins WHERE sign_ins.id = family_id""")
    op.drop_constraint(op.f("fk_refresh_tokens_family_id"), "refresh_tokens")
    op.drop_table("sign_ins")
    op.execute("UPDATE users SET password_hash = '!' WHERE password_hash IS NULL")
    op.alter_column("users", "password_hash", nullable=False)
    op.drop_column("users", "language")
    op.drop_column("users", "email_verified_at")
