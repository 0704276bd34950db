"""Policies and grants, as migrations say them: new tables are protected where they are made."""

from collections.abc import Mapping
from typing import Final

from alembic import op

from pingvas import roles

ME: Final = "(SELECT nullif(current_setting('pingvas.user', true), '')::uuid)"
"""Who acts; as a subquery, worked out once a statement. After its transaction a setting is `''`."""

_SYSTEM: Final = f"{roles.WORKER}, {roles.CONTROL}, {roles.ADMIN}"


def protect(table: str, owner: str = "user_id", *, check: str | None = None) -> None:
    """Show the API's role only the rows whose column `owner` is who acts; the other roles see all rows.

    What each may do with the rows it sees is said by `grant`. `check` is a condition on what the API writes,
    where that is not the same. The owner of the table sees everything, by a policy: without one, a table
    whose row security is forced is empty to its owner too.
    """
    mine = f"{owner} = {ME}"
    op.execute(f"""
        ALTER TABLE {table} ENABLE ROW LEVEL SECURITY;
        ALTER TABLE {table} FORCE ROW LEVEL SECURITY;
        CREATE POLICY owner ON {table} TO CURRENT_USER USING (true) WITH CHECK (true);
        CREATE POLICY own ON {table} TO {roles.API} USING ({mine}) WITH CHECK ({check or mine});
        CREATE POLICY everybody ON {table} TO {_SYSTEM} USING (true) WITH CHECK (true)""")


def unprotect(table: str) -> None:
    """Undo `protect`."""
    op.execute(f"""
        DROP POLICY everybody ON {table};
        DROP POLICY own ON {table};
        DROP POLICY owner ON {table};
        ALTER TABLE {table} NO FORCE ROW LEVEL SECURITY;
        ALTER TABLE {table} DISABLE ROW LEVEL SECURITY""")


def grant(role: str, privileges: Mapping[str, str]) -> None:
    """Allow a role what is said for each table, as in `{"users": "SELECT, UPDATE (name)"}`."""
    for table, allowed in privileges.items():
        op.execute(f"GRANT {allowed} ON {table} TO {role}")


def revoke(role: str, privileges: Mapping[str, str]) -> None:
    """Undo `grant`."""
    for table, allowed in privileges.items():
        op.execute(f"REVOKE {allowed} ON {table} FROM {role}")


def definer(signature: str, *callers: str) -> None:
    """Make a function run as its owner, for nobody but `callers`, whatever search path they have."""
    op.execute(f"""
        ALTER FUNCTION {signature} SECURITY DEFINER SET search_path = public, pg_temp;
        REVOKE ALL ON FUNCTION {signature} FROM PUBLIC;
        GRANT EXECUTE ON FUNCTION {signature} TO {", ".join(callers)}""")
