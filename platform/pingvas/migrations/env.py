"""Alembic runs this file for every command; it uses the database of the settings."""

from alembic import context
from sqlalchemy import text

from pingvas import db, domains

_LOCK = 0x70696E67766173  # "pingvas"


def run() -> None:
    """Run the migrations in one transaction, under a lock that a second process waits for."""
    domains.load()
    with db.engine().connect() as connection:
        context.configure(connection=connection, target_metadata=db.Base.metadata, compare_type=True)
        with context.begin_transaction():
            connection.execute(text("SET LOCAL lock_timeout = 0"))  # a migration waits as long as it takes
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
            context.run_migrations()


run()
