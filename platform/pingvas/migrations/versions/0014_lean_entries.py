"""Entries of the ledger are proved a statement at a time; when the shop was asked about a subscription."""

import sqlalchemy as sa
from alembic import op

from pingvas import roles

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

# What foreign keys asked row by row, at more than the rows themselves cost. Nothing is lost: transactions are
# append-only, and their own key keeps their users. The scalar subquery is one look into an index for each
# transaction, whether one comes or a hundred thousand: a join would be planned for whichever came first.
PROVED = """
CREATE OR REPLACE FUNCTION ledger_entries_balance() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    unbalanced bool;
    strange bool;
BEGIN
    SELECT bool_or(total <> 0), bool_or((
        SELECT t.user_id = ALL (users) FROM ledger_transactions AS t WHERE t.id = transaction_id
    ) IS NOT TRUE)
    INTO unbalanced, strange
    FROM (SELECT transaction_id, sum(amount) AS total,
                 coalesce(array_agg(user_id) FILTER (WHERE user_id IS NOT NULL), '{}') AS users
          FROM posted GROUP BY transaction_id) AS p;
    IF unbalanced THEN
        RAISE EXCEPTION 'the entries of a ledger transaction must sum to zero'
            USING ERRCODE = 'check_violation';
    END IF;
    IF strange THEN
        RAISE EXCEPTION 'an entry needs its transaction, and is of its user'
            USING ERRCODE = 'foreign_key_violation';
    END IF;
    RETURN NULL;
END $$"""
BALANCED = """
CREATE OR REPLACE FUNCTION ledger_entries_balance() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT 1 FROM posted GROUP BY transaction_id HAVING sum(amount) <> 0) THEN
        RAISE EXCEPTION 'the entries of a ledger transaction must sum to zero'
            USING ERRCODE = 'check_violation';
    END IF;
    RETURN NULL;
END $$"""


def upgrade() -> None:
    """Let an entry be known by its transaction and account; one trigger asks what three things asked."""
    for name in ("fk_ledger_entries_transaction_id", "fk_ledger_entries_user_id", "pk_ledger_entries"):
        op.drop_constraint(op.f(name), "ledger_entries")
    op.drop_index("ix_ledger_entries_transaction_id", "ledger_entries")
    op.drop_index("ix_ledger_entries_user_id_account", "ledger_entries")
    op.drop_column("ledger_entries", "id")
    op.create_primary_key(op.f("pk_ledger_entries"), "ledger_entries", ["transaction_id", "account"])
    op.execute(PROVED)
    op.add_column("subscriptions", sa.Column("asked_at", sa.DateTime(timezone=True), nullable=True))
    op.execute(f"GRANT INSERT ON webhook_events TO {roles.CONTROL}")


def downgrade() -> None:
    """Number the entries again, in whatever order they lie, and ask by foreign keys."""
    op.execute(f"REVOKE INSERT ON webhook_events FROM {roles.CONTROL}")
    op.drop_column("subscriptions", "asked_at")
    op.execute(BALANCED)
    op.drop_constraint(op.f("pk_ledger_entries"), "ledger_entries")
    op.execute("ALTER TABLE ledger_entries ADD COLUMN id bigserial NOT NULL")
    for role in (roles.API, roles.WORKER, roles.CONTROL, roles.ADMIN):
        op.execute(f"GRANT USAGE ON SEQUENCE ledger_entries_id_seq TO {role}")
    op.create_primary_key(op.f("pk_ledger_entries"), "ledger_entries", ["id"])
    op.create_index("ix_ledger_entries_transaction_id", "ledger_entries", ["transaction_id"])
    op.create_index("ix_ledger_entries_user_id_account", "ledger_entries", ["user_id", "account"])
    for column, parent in (("transaction_id", "ledger_transactions"), ("user_id", "users")):
        op.create_foreign_key(op.f(f"fk_ledger_entries_{column}"), "ledger_entries", parent, [column], ["id"])
