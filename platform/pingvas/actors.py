"""Whose rows the database shows: said anew in each transaction, and forgotten with it.

The policies of migration 0011 compare `user_id` with the setting `pingvas.user`. The role `pingvas_admin`,
which the API's role may take on for the length of a transaction, sees everybody's rows.
"""

from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from psycopg.pq import TransactionStatus
from sqlalchemy import Connection, text

_USER: Final = text("SELECT set_config('pingvas.user', :user, true)")

# Whoever connects as the owner of the tables is no member of the role, and needs none.
_OPERATOR: Final = text("""
    SELECT set_config('pingvas.user', :user, true), set_config('role', coalesce(taken.rolname, 'none'), true)
    FROM (SELECT) AS always LEFT JOIN pg_roles AS taken
    ON taken.rolname = 'pingvas_admin' AND :operator AND pg_has_role(session_user, taken.oid, 'SET')""")


@dataclass(frozen=True)
class Actor:
    """Whom work is done for; `operator` works on everybody's rows."""

    user_id: UUID | None = None
    operator: bool = False


NOBODY: Final = Actor()
current: ContextVar[Actor] = ContextVar("actor", default=NOBODY)


def begin(connection: Connection) -> None:
    """Tell a transaction that has just begun; one round trip where there is something to tell."""
    actor = current.get()
    if actor.operator:
        switch(connection)
    elif actor.user_id is not None:
        connection.execute(_USER, {"user": str(actor.user_id)})


def switch(connection: Connection) -> None:
    """Tell a transaction that is under way that somebody else acts from now on."""
    driver: Any = connection.connection.driver_connection
    if driver.info.transaction_status == TransactionStatus.INERROR:
        return  # nothing can follow but the rollback, which forgets it all
    actor = current.get()
    user = "" if actor.user_id is None else str(actor.user_id)
    connection.execute(_OPERATOR, {"user": user, "operator": actor.operator})
