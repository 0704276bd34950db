"""Rows past their time go, and no others."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import text

from pingvas import clock, db, ids, settings
from pingvas.accounts import tokens
from pingvas.accounts.models import OneTimeToken, SignInRow, User
from pingvas.jobs.dead_letters import replay
from pingvas.mail.models import Mail
from pingvas.upkeep import retention
from tests.jobs.customers import customer
from tests.jobs.dead_letters.conftest import failed

pytestmark = pytest.mark.usefixtures("clean_db")

LONG = timedelta(days=1, hours=1)


@pytest.fixture
def user_id() -> UUID:
    return customer("studio")


def count(table: str) -> int:
    with db.transaction() as session:
        return int(session.scalar(text(f"SELECT count(*) FROM {table}")) or 0)


def run(sql: str, **values: Any) -> None:
    with db.transaction() as session:
        session.execute(text(sql), values)


def trim() -> dict[str, int]:
    return {table: gone for table in retention.OLD if (gone := retention.trim(table, 1_000))}


def test_rows_of_today_stay(user_id: UUID) -> None:
    with db.transaction() as session:
        tokens.sign_in(session, session.get_one(User, user_id))
    replay.drop(failed(user_id), "an operator")
    assert trim() == {}


def test_what_expired_a_day_ago_goes(user_id: UUID) -> None:
    with db.transaction() as session:
        tokens.sign_in(session, session.get_one(User, user_id))
        session.add(
            OneTimeToken(
                user_id=user_id,
                purpose="verify-email",
                token_hash=b"x",
                email="a@example.com",
                expires_at=clock.now() - LONG,
            )
        )
    assert trim() == {"one_time_tokens": 1}
    for table in ("refresh_tokens", "sign_ins"):
        run(f"UPDATE {table} SET expires_at = :past", past=clock.now() - LONG)
    assert trim() == {"refresh_tokens": 1, "sign_ins": 1}
    assert count(SignInRow.__tablename__) == 0


@pytest.mark.parametrize("close", [replay.drop, replay.replay])
def test_history_goes_once_its_letter_is_closed(user_id: UUID, close: Callable[..., Any]) -> None:
    job_id = failed(user_id)
    age = timedelta(days=settings.get().history_days + 1)
    run("UPDATE job_attempts SET ended_at = ended_at - :age", age=age)
    run("UPDATE jobs SET completed_at = completed_at - :age", age=age)
    run("UPDATE dead_letters SET created_at = created_at - :age", age=age)
    assert trim() == {}  # nobody has looked at it yet
    close(job_id, "an operator")
    assert trim() == {"job_attempts": 3}
    run("UPDATE dead_letters SET closed_at = closed_at - :age", age=age)
    assert trim() == {"dead_letters": 1}
    assert count("audit_log") == 1
    assert count("jobs") >= 1


def test_mails_go_when_they_are_sent_and_old(user_id: UUID) -> None:
    old = clock.now() - timedelta(days=settings.get().history_days + 1)
    for sent_at in (None, old):
        mail = {"user_id": user_id, "recipient": "a@example.com", "language": "en", "template": "x"}
        times = {"created_at": old, "send_after": old, "sent_at": sent_at}
        with db.transaction() as session:
            session.add(Mail(id=ids.new(), **mail, values={}, **times))
    assert trim() == {"mails": 1}


def test_a_run_is_bounded_and_leaves_what_somebody_holds(user_id: UUID) -> None:
    for _ in range(3):
        with db.transaction() as session:
            tokens.sign_in(session, session.get_one(User, user_id))
    run("UPDATE refresh_tokens SET expires_at = :past", past=clock.now() - LONG)
    assert retention.trim("refresh_tokens", 1) == 1
    with db.engine().connect() as other, other.begin():
        other.execute(text("SELECT id FROM refresh_tokens LIMIT 1 FOR UPDATE"))
        assert retention.trim("refresh_tokens", 10) == 1
    assert retention.trim("refresh_tokens", 10) == 1


def test_what_must_be_kept_is_not_in_the_table() -> None:
    kept = {
        "audit_log",
        "ledger_transactions",
        "ledger_entries",
        "holds",
        "wallets",
        "jobs",
        "images",
        "users",
    }
    assert not kept & retention.OLD.keys()
