"""What each role of the database may do, asked of the database itself in plain SQL."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, LiteralString
from uuid import UUID

import psycopg
import pytest
from psycopg import sql
from sqlalchemy import text

from pingvas import db, ids, roles, settings
from pingvas.accounts import keys
from pingvas.accounts.register import register
from pingvas.embedded import postgres
from tests.billing.holds import hold
from tests.db.grants import GRANTS
from tests.jobs.eta import rows

pytestmark = pytest.mark.usefixtures("clean_db")

Connection = psycopg.Connection[Any]


def connect(role: str) -> Connection:
    return psycopg.connect(postgres.as_role(settings.get().database_url, role), autocommit=True)


@pytest.fixture
def api() -> Iterator[Connection]:
    with connect(roles.API) as connection:
        yield connection


@pytest.fixture
def ada() -> UUID:
    user = register("ada@example.com", "correct horse battery").id
    with db.transaction() as session:
        keys.create(session, user, "ada's")
    return user


@pytest.fixture
def bob() -> UUID:
    return register("bob@example.com", "correct horse battery").id


def owner_column(table: str) -> str | None:
    columns = db.Base.metadata.tables[table].columns
    return "id" if table == "users" else "user_id" if "user_id" in columns else None


def owned() -> list[str]:
    return sorted(table for table in db.Base.metadata.tables if owner_column(table))


def test_every_table_of_users_is_protected() -> None:
    """Fails for a new table with `user_id` that no migration has protected."""
    with connect("pingvas") as connection:
        found = connection.execute("""
            SELECT relname, relrowsecurity AND relforcerowsecurity,
                   (SELECT array_agg(polname::text ORDER BY polname::text) FROM pg_policy
                    WHERE polrelid = pg_class.oid AND polpermissive)
            FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'
            AND (relname = 'users' OR EXISTS (
                SELECT FROM pg_attribute WHERE attrelid = pg_class.oid AND attname = 'user_id'))
        """).fetchall()
    assert {table: (forced, policies) for table, forced, policies in found} == {
        table: (True, ["everybody", "own", "owner"]) for table in owned()
    }


def test_roles_have_these_grants_and_no_others() -> None:
    with connect("pingvas") as connection:
        rows = connection.execute("""
            SELECT grantee.rolname, relname, privilege_type, NULL FROM pg_class,
                aclexplode(relacl) JOIN pg_roles AS grantee ON grantee.oid = grantee
            WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'v') AND grantee <> relowner
            UNION ALL
            SELECT grantee.rolname, relname, privilege_type, attname FROM pg_class
                JOIN pg_attribute ON attrelid = pg_class.oid,
                aclexplode(attacl) JOIN pg_roles AS grantee ON grantee.oid = grantee
            WHERE relnamespace = 'public'::regnamespace""").fetchall()
    found: dict[str, dict[str, set[str]]] = {}
    for role, table, privilege, column in rows:
        told = privilege if column is None else f"{privilege}({column})"
        found.setdefault(table, {}).setdefault(role.removeprefix("pingvas_"), set()).add(told)
    assert found == GRANTS


def test_nobody_but_the_owner_changes_what_is_only_added_to() -> None:
    for table in ("ledger_entries", "ledger_transactions", "audit_log"):
        for allowed in GRANTS[table].values():
            assert allowed <= {"SELECT", "INSERT"}, table


SECRETS = (
    ("users", "password_hash"),
    ("refresh_tokens", "token_hash"),
    ("one_time_tokens", "token_hash"),
    ("api_keys", "key_hash"),
    ("second_factors", "sealed"),
    ("recovery_codes", "code_hash"),
)


@pytest.mark.parametrize("role", [roles.WORKER, roles.CONTROL, roles.ADMIN])
@pytest.mark.parametrize(("table", "column"), SECRETS)
def test_nobody_but_the_api_reads_secrets(role: str, table: str, column: str) -> None:
    query = sql.SQL("SELECT {} FROM {}").format(sql.Identifier(column), sql.Identifier(table))
    with connect("postgres") as connection:  # which may be any role
        connection.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(role)))
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute(query)


def test_no_role_of_a_process_passes_by_the_policies() -> None:
    with connect("pingvas") as connection:
        rows = connection.execute(
            "SELECT rolname FROM pg_roles WHERE rolname LIKE 'pingvas%' "
            "AND (rolsuper OR rolbypassrls OR rolcreaterole OR rolcreatedb)"
        ).fetchall()
    assert rows == []


def count(connection: Connection, table: str) -> int:
    query = sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(table))
    return int(connection.execute(query).fetchone()[0])  # type: ignore[index]


def readable(connection: Connection, table: str) -> bool:
    query = "SELECT has_table_privilege(%s, 'SELECT')"
    return bool(connection.execute(query, [table]).fetchone()[0])  # type: ignore[index]


@contextmanager
def acting(connection: Connection, user: UUID) -> Iterator[None]:
    with connection.transaction():
        connection.execute("SELECT set_config('pingvas.user', %s, true)", [str(user)])
        yield


def test_without_a_user_the_api_sees_changes_and_adds_nothing(api: Connection, ada: UUID) -> None:
    for table in owned():
        if readable(api, table):
            assert count(api, table) == 0, table
    changed: LiteralString = "UPDATE users SET name = 'Eve'"
    assert api.execute(changed).rowcount == 0
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match="row-level security"):
        api.execute(
            "INSERT INTO api_keys (id, user_id, name, prefix, key_hash, created_at) "
            "VALUES (%s, %s, 'x', 'x', 'x', now())",
            [ids.new(), ada],
        )


def test_a_user_sees_own_rows_only(api: Connection, ada: UUID, bob: UUID) -> None:
    with acting(api, bob):
        assert api.execute("SELECT email FROM users").fetchall() == [("bob@example.com",)]
        assert count(api, "api_keys") == 0
        assert api.execute("UPDATE api_keys SET revoked_at = now()").rowcount == 0
    with acting(api, ada):
        assert count(api, "api_keys") == 1
        for table in owned():
            column = owner_column(table)
            if readable(api, table):
                query = sql.SQL("SELECT DISTINCT {} FROM {}").format(
                    sql.Identifier(str(column)), sql.Identifier(table)
                )
                assert api.execute(query).fetchall() in ([], [(ada,)]), table


def test_money_is_seen_and_moved_by_its_owner_only(api: Connection, ada: UUID, bob: UUID) -> None:
    hold(ada, 10)
    with db.transaction() as session:
        session.execute(
            text("""
                INSERT INTO subscriptions (id, user_id, provider_id, status, tier, "interval", created_at,
                                           updated_at, best_tier, best_until, phase, changes)
                VALUES (:ada, :ada, '1', 'active', 'pro', 'month', now(),
                        now(), 'pro', now(), 'running', 0)"""),
            {"ada": ada},
        )
    seen = ("wallets", "holds", "ledger_transactions", "ledger_entries", "subscriptions", "jobs")
    counts = {}
    for user in (ada, bob):
        with acting(api, user):
            counts[user] = [count(api, table) for table in seen]
    # Of the platform's side of a posting the owner sees nothing either.
    assert counts == {ada: [1, 1, 2, 3, 1, 1], bob: [1, 0, 1, 1, 0, 0]}
    with acting(api, bob):
        assert api.execute("SELECT user_id FROM wallets").fetchall() == [(bob,)]
        assert api.execute("UPDATE wallets SET purchased = 7 WHERE user_id = %s", [ada]).rowcount == 0
        assert api.execute("UPDATE holds SET settled_at = now()").rowcount == 0
    for table in ("purchases", "subscription_payments", "webhook_events"):
        assert not readable(api, table)


def test_a_user_gives_no_row_to_another(api: Connection, ada: UUID, bob: UUID) -> None:
    refused = pytest.raises(psycopg.errors.InsufficientPrivilege, match="row-level security")
    with acting(api, ada), refused:
        api.execute(
            "INSERT INTO ledger_transactions (id, business_key, type, user_id, amount, balance_after, "
            "description, created_at) VALUES (%s, 'x', 'x', %s, 1, 1, '', now())",
            [ids.new(), bob],
        )


def test_nobody_signs_up_as_an_admin(api: Connection) -> None:
    user = ids.new()
    with acting(api, user), pytest.raises(psycopg.errors.InsufficientPrivilege, match="newcomer"):
        api.execute(
            "INSERT INTO users (id, email, password_hash, role, created_at) "
            "VALUES (%s, 'eve@example.com', '!', 'admin', now())",
            [user],
        )


def test_nobody_promotes_himself(api: Connection, ada: UUID) -> None:
    with acting(api, ada), pytest.raises(psycopg.errors.InsufficientPrivilege):
        api.execute("UPDATE users SET role = 'admin'")


def test_after_the_transaction_the_connection_is_nobodys(api: Connection, ada: UUID) -> None:
    with acting(api, ada):
        assert count(api, "users") == 1
    assert count(api, "users") == 0


def test_an_operator_sees_everybody_for_one_transaction(api: Connection, ada: UUID, bob: UUID) -> None:
    with api.transaction():
        api.execute("SET LOCAL ROLE pingvas_admin")
        assert count(api, "users") == 2
        assert api.execute("UPDATE users SET tier = 'pro' WHERE id = %s", [ada]).rowcount == 1
    assert count(api, "users") == 0


def test_what_waits_is_known_without_its_prompt(api: Connection) -> None:
    names = {column.name for column in api.execute("SELECT * FROM job_queue").description or ()}
    assert names & {"prompt", "parameters", "error_detail"} == set()


def test_who_is_listed_by_index(api: Connection, ada: UUID, bob: UUID) -> None:
    """The policy is an InitPlan, so that the lists' index still serves."""
    rows.insert(ada, 200)
    rows.insert(bob, 2_000)
    rows.analyse()
    with acting(api, ada):
        lines = api.execute("EXPLAIN SELECT * FROM jobs WHERE user_id = %s ORDER BY id DESC LIMIT 20", [ada])
        plan = "\n".join(line for (line,) in lines)
    assert "ix_jobs_user_id_id" in plan
    assert "InitPlan" in plan
