"""Roles with least grants, row-level security on every user-owned table."""

import psycopg
import sqlalchemy as sa
from alembic import op

from pingvas import roles
from pingvas.migrations.security import ME, definer, grant, protect, unprotect
from pingvas.settings import SettingsError

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

OWNED = (
    "api_keys",
    "holds",
    "idempotency_keys",
    "identities",
    "images",
    "jobs",
    "ledger_transactions",
    "one_time_tokens",
    "purchases",
    "recovery_codes",
    "refresh_tokens",
    "second_factors",
    "sign_ins",
    "subscription_payments",
    "subscriptions",
    "wallets",
)
# The platform's side of a posting belongs to nobody, as does a mail to an address without an account. The API
# writes them and does not see them again.
ALSO_OF_NOBODY = ("ledger_entries", "mails")

# FOR UPDATE and FOR SHARE ask for UPDATE of some column, hence some that nobody changes.
GRANTS = {
    roles.API: {
        "users": "SELECT, INSERT, UPDATE (name, language, password_hash, email, email_verified_at)",
        "api_keys": "SELECT, INSERT, UPDATE (revoked_at, expires_at)",
        "sign_ins": """SELECT, INSERT,
            UPDATE (last_used_at, expires_at, ended_at, second_factor_at, stepped_up_at)""",
        "refresh_tokens": "SELECT, INSERT, UPDATE (used_at)",
        "one_time_tokens": "SELECT, UPDATE (used_at)",
        "second_factors": "SELECT, INSERT, UPDATE, DELETE",
        "recovery_codes": "SELECT, INSERT, UPDATE (used_at), DELETE",
        "identities": "SELECT, INSERT, UPDATE (last_used_at)",
        "mails": "INSERT",
        "idempotency_keys": "SELECT, INSERT, DELETE",
        "wallets": "SELECT, INSERT, UPDATE (monthly, purchased, held, allocated)",
        "holds": "SELECT, UPDATE (captured, settled_at)",
        "ledger_transactions": "SELECT, INSERT",
        "ledger_entries": "SELECT, INSERT",
        "subscriptions": "SELECT",
        "webhook_events": "INSERT",
        "jobs": "SELECT, UPDATE (status, cancel_requested_at, completed_at, credits_consumed, rung_at)",
        "images": "SELECT",
    },
    roles.WORKER: {
        "users": "SELECT (id, tier)",
        "wallets": "SELECT, UPDATE (monthly, purchased, held, allocated)",
        "holds": "SELECT, UPDATE (captured, settled_at)",
        "ledger_transactions": "SELECT, INSERT",
        "ledger_entries": "SELECT, INSERT",
        "jobs": "SELECT, UPDATE",
        "job_attempts": "SELECT, INSERT",
        "dead_letters": "SELECT, INSERT",
        "images": "SELECT, INSERT",
        "tier_states": "UPDATE (changed_by)",
    },
    roles.CONTROL: {
        "users": "SELECT, UPDATE (tier)",
        "sign_ins": "SELECT, UPDATE (expires_at), DELETE",
        "refresh_tokens": "SELECT, UPDATE (expires_at), DELETE",
        "one_time_tokens": "SELECT, INSERT, UPDATE (expires_at), DELETE",
        "mails": "SELECT, INSERT, UPDATE, DELETE",
        "idempotency_keys": "SELECT, UPDATE (created_at), DELETE",
        "wallets": "SELECT, UPDATE",
        "holds": "SELECT, UPDATE (captured, settled_at, lapsed)",
        "ledger_transactions": "SELECT, INSERT",
        "ledger_entries": "SELECT, INSERT",
        "subscriptions": "SELECT, INSERT, UPDATE",
        "subscription_payments": "SELECT, INSERT",
        "purchases": "SELECT, INSERT, UPDATE",
        "webhook_events": "SELECT, UPDATE, DELETE",
        "jobs": "SELECT, UPDATE",
        "job_attempts": "SELECT, INSERT, UPDATE (ended_at), DELETE",
        "dead_letters": "SELECT, INSERT, UPDATE, DELETE",
        "images": "SELECT",
        "store_walks": "SELECT, INSERT, UPDATE, DELETE",
        "audit_log": "SELECT, INSERT",
        "beat_runs": "SELECT, INSERT, UPDATE",
        "tier_states": "UPDATE (changed_by)",
    },
    roles.ADMIN: {
        "users": "SELECT, UPDATE (tier, role, suspended_at)",
        "sign_ins": "SELECT, UPDATE (ended_at)",
        "mails": "INSERT",
        "idempotency_keys": "SELECT, INSERT, DELETE",
        "wallets": "SELECT, UPDATE (monthly, purchased, held, allocated)",
        "holds": "SELECT, UPDATE (captured, settled_at)",
        "ledger_transactions": "SELECT, INSERT",
        "ledger_entries": "SELECT, INSERT",
        "subscriptions": "SELECT",
        "subscription_payments": "SELECT",
        "purchases": "SELECT",
        "webhook_events": "SELECT",
        "jobs": "SELECT, UPDATE",
        "job_attempts": "SELECT",
        "dead_letters": "SELECT, UPDATE",
        "images": "SELECT",
        "audit_log": "SELECT, INSERT",
        "beat_runs": "SELECT",
    },
}
EVERYBODYS = "alembic_version, catalog_entries, tier_states, job_queue"

# What everybody's jobs tell those who wait: no prompt, and of the parameters only what takes time.
QUEUE = """
CREATE VIEW job_queue AS
SELECT id, user_id, tier, status, model, attempt, rung_at, run_seconds, eta_p50, gpu_seconds, created_at,
       started_at, completed_at, (parameters ->> 'width')::int AS width,
       (parameters ->> 'height')::int AS height, (parameters ->> 'steps')::int AS steps,
       (parameters ->> 'num_images')::int AS num_images
FROM jobs"""


def _owner_of(question: str, parameters: str, query: str) -> tuple[str, str]:
    types = ", ".join(parameter.split()[1] for parameter in parameters.split(", "))
    body = f"RETURNS uuid STABLE LANGUAGE sql AS $$ {query} $$"
    return f"{question}({types})", f"CREATE FUNCTION {question}({parameters}) {body}"


# What is asked before anybody is signed in, by what only the owner can know, or must say.
DOORS = dict(
    (
        _owner_of("user_of_email", "p_email text", "SELECT id FROM users WHERE email = p_email"),
        _owner_of(
            "user_of_refresh_token",
            "p_hash bytea",
            "SELECT user_id FROM refresh_tokens WHERE token_hash = p_hash",
        ),
        _owner_of(
            "user_of_one_time_token",
            "p_hash bytea",
            "SELECT user_id FROM one_time_tokens WHERE token_hash = p_hash",
        ),
        _owner_of(
            "user_of_identity",
            "p_provider text, p_subject text",
            "SELECT user_id FROM identities WHERE provider = p_provider AND subject = p_subject",
        ),
    )
) | {
    "signed_in(uuid[], timestamptz)": """
CREATE FUNCTION signed_in(p_families uuid[], p_now timestamptz)
RETURNS TABLE (family_id uuid, id uuid, email varchar, tier varchar, role varchar, suspended_at timestamptz,
               second_factor_at timestamptz, stepped_up_at timestamptz)
STABLE LANGUAGE plpgsql AS $$ BEGIN RETURN QUERY
    SELECT sign_ins.id, users.id, users.email, users.tier, users.role, users.suspended_at,
           sign_ins.second_factor_at, sign_ins.stepped_up_at
    FROM sign_ins JOIN users ON users.id = sign_ins.user_id
    WHERE sign_ins.id = ANY (p_families) AND ended_at IS NULL AND expires_at > p_now;
END $$""",
    "signed_in_by_key(bytea[], timestamptz)": """
CREATE FUNCTION signed_in_by_key(p_hashes bytea[], p_now timestamptz)
RETURNS TABLE (key_hash bytea, id uuid, email varchar, tier varchar, role varchar, suspended_at timestamptz,
               key_id uuid, scopes varchar[], last_used_at timestamptz)
STABLE LANGUAGE plpgsql AS $$ BEGIN RETURN QUERY
    SELECT api_keys.key_hash, users.id, users.email, users.tier, users.role, users.suspended_at,
           api_keys.id, api_keys.scopes, api_keys.last_used_at
    FROM api_keys JOIN users ON users.id = api_keys.user_id
    WHERE api_keys.key_hash = ANY (p_hashes) AND revoked_at IS NULL
    AND (expires_at IS NULL OR expires_at > p_now);
END $$""",
    "note_key_use(uuid, timestamptz, interval)": """
CREATE FUNCTION note_key_use(p_key uuid, p_at timestamptz, p_every interval) RETURNS void LANGUAGE sql AS $$
    UPDATE api_keys SET last_used_at = p_at
    WHERE id = p_key AND (last_used_at IS NULL OR last_used_at <= p_at - p_every) $$""",
}
ACCEPT_JOBS = "accept_jobs(uuid, text, boolean, bigint, bigint, timestamptz, jsonb)"


def upgrade() -> None:
    """Make roles, policies, grants and the few functions that see more than their caller."""
    _make_roles()
    for table in OWNED:
        protect(table)
    for table in ALSO_OF_NOBODY:
        protect(table, check=f"user_id = {ME} OR user_id IS NULL")
    protect("users", "id")
    # Who signs up is a user on the free plan. More is given by operators and by payments.
    op.execute(f"""
        CREATE POLICY newcomer ON users AS RESTRICTIVE FOR INSERT TO {roles.API}
        WITH CHECK (role = 'user' AND tier = 'free')""")
    op.execute(QUEUE)
    for role, privileges in GRANTS.items():
        grant(role, privileges)
        op.execute(f"GRANT USAGE ON SEQUENCE ledger_entries_id_seq TO {role}")
        op.execute(f"GRANT SELECT ON {EVERYBODYS} TO {role}")
    for signature, source in DOORS.items():
        op.execute(source)
        definer(signature, roles.API)
    definer(ACCEPT_JOBS, roles.API, roles.CONTROL, roles.ADMIN)


def _make_roles() -> None:
    try:
        with op.get_bind().begin_nested():
            op.execute(roles.CREATE)
    except sa.exc.ProgrammingError as error:
        if isinstance(error.orig, psycopg.errors.InsufficientPrivilege):
            raise SettingsError(
                "DATABASE_URL: its role may not create roles. Let an administrator run what "
                "`pingvas db roles` prints, then upgrade again."
            ) from None
        raise


def downgrade() -> None:
    """Let the owner alone work on the tables, as before; the roles stay, other databases may use them."""
    op.execute(f"ALTER FUNCTION {ACCEPT_JOBS} SECURITY INVOKER RESET ALL")
    op.execute(f"GRANT EXECUTE ON FUNCTION {ACCEPT_JOBS} TO PUBLIC")
    op.execute(f"DROP FUNCTION {', '.join(DOORS)}")
    op.execute("DROP POLICY newcomer ON users")
    for table in (*OWNED, *ALSO_OF_NOBODY, "users"):
        unprotect(table)
    op.execute(f"REVOKE ALL ON ALL TABLES IN SCHEMA public FROM {', '.join(GRANTS)}")
    op.execute(f"REVOKE ALL ON ALL SEQUENCES IN SCHEMA public FROM {', '.join(GRANTS)}")
    op.execute("DROP VIEW job_queue")
