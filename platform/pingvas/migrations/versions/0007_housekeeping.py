"""What storage and history need to be tidied up, what scheduled runs say of themselves, links of replays."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("beat_runs", sa.Column("seconds", sa.Float(), nullable=True))
    op.add_column("beat_runs", sa.Column("runs", sa.BigInteger(), server_default="0", nullable=False))
    op.add_column("beat_runs", sa.Column("errors", sa.BigInteger(), server_default="0", nullable=False))
    op.add_column("beat_runs", sa.Column("result", postgresql.JSONB(), nullable=True))
    op.add_column("jobs", sa.Column("replay_of", sa.Uuid(), nullable=True))
    op.create_index(
        "ix_jobs_replay_of", "jobs", ["replay_of"], unique=True, postgresql_where="replay_of IS NOT NULL"
    )
    op.create_index(
        "ix_dead_letters_closed", "dead_letters", ["closed_at"], postgresql_where="state <> 'open'"
    )
    op.create_index("ix_job_attempts_ended_at", "job_attempts", ["ended_at"])
    op.create_table(
        "store_walks",
        sa.Column("prefix", sa.String(length=200), nullable=False),
        sa.Column("after", sa.String(length=512), nullable=False),
        sa.PrimaryKeyConstraint("prefix", name=op.f("pk_store_walks")),
    )


def downgrade() -> None:
    op.drop_table("store_walks")
    op.drop_index("ix_job_attempts_ended_at", "job_attempts")
    op.drop_index("ix_dead_letters_closed", "dead_letters")
    op.drop_index("ix_jobs_replay_of", "jobs")
    op.drop_column("jobs", "replay_of")
    for column in ("result", "errors", "runs", "seconds"):
        op.drop_column("beat_runs", column)
