"""Subscriptions, purchases, webhooks; months counted from an anchor; sales apart from grants."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

MOMENT = sa.DateTime(timezone=True)
TIERS = "('enterprise', 'studio', 'pro', 'starter', 'free')"
OF_USER = "'monthly', 'purchased', 'held', 'receivable'"


def _accounts(names: str) -> None:
    op.drop_constraint(op.f("ck_ledger_entries_known_account"), "ledger_entries")
    op.create_check_constraint(
        op.f("ck_ledger_entries_known_account"), "ledger_entries", f"account IN ({names})"
    )


def upgrade() -> None:
    _accounts(f"{OF_USER}, 'grants', 'sales', 'revenue'")
    op.add_column("ledger_transactions", sa.Column("actor", sa.String(length=200), nullable=True))
    op.add_column("holds", sa.Column("lapsed", sa.Boolean(), server_default="false", nullable=False))
    op.add_column("wallets", sa.Column("anchor_at", MOMENT, server_default=sa.text("now()"), nullable=False))
    op.add_column("wallets", sa.Column("allocated", sa.BigInteger(), server_default="0", nullable=False))
    op.add_column("wallets", sa.Column("told_low_at", MOMENT, nullable=True))
    op.execute("UPDATE wallets SET anchor_at = last_reset_at")
    op.create_index("ix_wallets_resets_at", "wallets", ["resets_at"])
    _subscriptions()
    _purchases()
    _webhooks()


def _subscriptions() -> None:
    op.create_table(
        "subscriptions",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("provider_id", sa.String(length=64), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("tier", sa.String(length=16), nullable=False),
        sa.Column("interval", sa.String(length=8), nullable=False),
        sa.Column("renews_at", MOMENT, nullable=True),
        sa.Column("ends_at", MOMENT, nullable=True),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("updated_at", MOMENT, nullable=False),
        sa.Column("best_tier", sa.String(length=16), nullable=False),
        sa.Column("best_until", MOMENT, nullable=False),
        sa.Column("phase", sa.String(length=8), nullable=False),
        sa.Column("started_at", MOMENT, nullable=True),
        sa.Column("changes", sa.Integer(), nullable=False),
        sa.CheckConstraint(f"tier IN {TIERS} AND best_tier IN {TIERS}", name=op.f("ck_subscriptions_tier")),
        sa.CheckConstraint(
            "phase IN ('new', 'running', 'resting', 'ended')", name=op.f("ck_subscriptions_phase")
        ),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_subscriptions_user_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_subscriptions")),
        sa.UniqueConstraint("provider_id", name=op.f("uq_subscriptions_provider_id")),
    )
    op.create_index("ix_subscriptions_user_id", "subscriptions", ["user_id"])
    op.create_index(
        "ix_subscriptions_running",
        "subscriptions",
        ["best_until", "ends_at"],
        postgresql_where="phase = 'running'",
    )
    op.create_table(
        "subscription_payments",
        sa.Column("subscription_id", sa.Uuid(), nullable=False),
        sa.Column("invoice_id", sa.String(length=64), nullable=False),
        sa.Column("outcome", sa.String(length=8), nullable=False),
        sa.Column("at", MOMENT, nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.CheckConstraint("outcome IN ('paid', 'failed')", name=op.f("ck_subscription_payments_outcome")),
        sa.ForeignKeyConstraint(
            ["subscription_id"], ["subscriptions.id"], name=op.f("fk_subscription_payments_subscription_id")
        ),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_subscription_payments_user_id")),
        sa.PrimaryKeyConstraint(
            "subscription_id", "invoice_id", "outcome", "at", name=op.f("pk_subscription_payments")
        ),
    )


def _purchases() -> None:
    op.create_table(
        "purchases",
        sa.Column("order_id", sa.String(length=64), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("credits", sa.BigInteger(), nullable=False),
        sa.Column("taken", sa.BigInteger(), nullable=False),
        sa.Column("shortfall", sa.BigInteger(), nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.CheckConstraint(
            "credits > 0 AND taken >= 0 AND shortfall >= 0 AND taken + shortfall <= credits",
            name=op.f("ck_purchases_parts"),
        ),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_purchases_user_id")),
        sa.PrimaryKeyConstraint("order_id", name=op.f("pk_purchases")),
    )
    op.create_index("ix_purchases_user_id", "purchases", ["user_id"])


def _webhooks() -> None:
    op.create_table(
        "webhook_events",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("body_hash", sa.LargeBinary(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("received_at", MOMENT, nullable=False),
        sa.Column("try_at", MOMENT, nullable=False),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("handled_at", MOMENT, nullable=True),
        sa.Column("outcome", sa.Text(), nullable=True),
        sa.Column("problem", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_webhook_events")),
        sa.UniqueConstraint("body_hash", name=op.f("uq_webhook_events_body_hash")),
    )
    op.create_index(
        "ix_webhook_events_due", "webhook_events", ["try_at", "id"], postgresql_where="handled_at IS NULL"
    )


def downgrade() -> None:
    for table in ("webhook_events", "purchases", "subscription_payments", "subscriptions"):
        op.drop_table(table)
    op.drop_index("ix_wallets_resets_at", "wallets")
    for column in ("told_low_at", "allocated", "anchor_at"):
        op.drop_column("wallets", column)
    op.drop_column("holds", "lapsed")
    op.drop_column("ledger_transactions", "actor")
    _accounts(f"{OF_USER}, 'grants', 'revenue'")
