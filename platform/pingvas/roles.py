"""The database roles: one for each kind of process, with the least it needs (docs/operations.md)."""

from typing import Final

API: Final = "pingvas_api"
WORKER: Final = "pingvas_worker"
CONTROL: Final = "pingvas_control"
ADMIN: Final = "pingvas_admin"
"""Nobody signs in with it: the API takes it on for an operator's transaction (`db.acting_as_operator`)."""

OF_PROCESSES: Final = (API, WORKER, CONTROL)

CREATE: Final = f"""
DO $$
DECLARE
    role text;
BEGIN
    FOREACH role IN ARRAY ARRAY['{API}', '{WORKER}', '{CONTROL}', '{ADMIN}'] LOOP
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = role) THEN
            BEGIN
                EXECUTE format('CREATE ROLE %I', role);
            EXCEPTION WHEN duplicate_object OR unique_violation THEN
                NULL;  -- made this moment for another database of the cluster
            END;
        END IF;
    END LOOP;
    IF NOT pg_has_role('{API}', '{ADMIN}', 'SET') THEN
        GRANT {ADMIN} TO {API} WITH INHERIT FALSE, SET TRUE;
    END IF;
END $$;
"""
"""Makes the roles that are missing, without a right to sign in. CREATEROLE is needed only if one is."""

BOUND: Final = """
    SELECT NOT (rolsuper OR rolbypassrls OR EXISTS (
        SELECT FROM pg_class WHERE oid = to_regclass('users') AND relowner = pg_roles.oid))
    FROM pg_roles WHERE rolname = session_user"""
"""Asks whether row-level security binds whoever is connected."""

SIGN_IN: Final = "".join(f"ALTER ROLE {role} LOGIN;\n" for role in OF_PROCESSES)
"""Lets processes sign in. How they prove who they are is the server's business (`pg_hba.conf`, passwords)."""
