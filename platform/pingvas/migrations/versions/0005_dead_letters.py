"""Dead letters with their jobs' failed attempts, the trail of operators' acts, and beat's runs."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

APPEND_ONLY = """
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON audit_log
    FOR EACH ROW EXECUTE FUNCTION refuse_change()"""


def upgrade() -> None:
    moment = sa.DateTime(timezone=True)
    op.create_table(
        "job_attempts",
        sa.Column("job_id", sa.Uuid(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("worker", sa.String(length=200), nullable=True),
        sa.Column("started_at", moment, nullable=True),
        sa.Column("ended_at", moment, nullable=False),
        sa.Column("code", sa.String(length=64), nullable=False),
        sa.Column("traceback", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["job_id"], ["jobs.id"], name=op.f("fk_job_attempts_job_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("job_id", "number", name=op.f("pk_job_attempts")),
    )
    op.create_table(
        "dead_letters",
        sa.Column("job_id", sa.Uuid(), nullable=False),
        sa.Column("class", sa.String(length=16), nullable=False),
        sa.Column("code", sa.String(length=64), nullable=False),
        sa.Column("tier", sa.String(length=16), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("replays", sa.Integer(), nullable=False),
        sa.Column("replay_after", moment, nullable=True),
        sa.Column("refusal", sa.Text(), nullable=True),
        sa.Column("replayed_as", sa.Uuid(), nullable=True),
        sa.Column("created_at", moment, nullable=False),
        sa.Column("closed_at", moment, nullable=True),
        sa.CheckConstraint(
            "class IN ('poison','resource','infrastructure','ours')", name=op.f("ck_dead_letters_class")
        ),
        sa.CheckConstraint("state IN ('open','replayed','dropped')", name=op.f("ck_dead_letters_state")),
        sa.CheckConstraint(
            "(state = 'replayed') = (replayed_as IS NOT NULL)", name=op.f("ck_dead_letters_replayed_as")
        ),
        sa.ForeignKeyConstraint(
            ["job_id"], ["jobs.id"], name=op.f("fk_dead_letters_job_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("job_id", name=op.f("pk_dead_letters")),
        sa.UniqueConstraint("replayed_as", name=op.f("uq_dead_letters_replayed_as")),
    )
    is_open = "state = 'open'"
    op.create_index("ix_dead_letters_open", "dead_letters", ["created_at"], postgresql_where=is_open)
    op.create_index("ix_dead_letters_due", "dead_letters", ["replay_after"], postgresql_where=is_open)
    op.create_table(
        "audit_log",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("actor", sa.String(length=200), nullable=False),
        sa.Column("action", sa.String(length=64), nullable=False),
        sa.Column("subject", sa.String(length=200), nullable=False),
        sa.Column("before", postgresql.JSONB(), nullable=False),
        sa.Column("after", postgresql.JSONB(), nullable=False),
        sa.Column("created_at", moment, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit_log")),
    )
    op.create_index("ix_audit_log_subject", "audit_log", ["subject"])
    op.execute(APPEND_ONLY)
    op.create_table(
        "beat_runs",
        sa.Column("task", sa.String(length=100), nullable=False),
        sa.Column("period_seconds", sa.Float(), nullable=False),
        sa.Column("started_at", moment, nullable=False),
        sa.Column("finished_at", moment, nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("task", name=op.f("pk_beat_runs")),
    )


def downgrade() -> None:
    for table in ("beat_runs", "audit_log", "dead_letters", "job_attempts"):
        op.drop_table(table)
