"""What is scheduled has the grants that it needs, in the role that it runs in."""

from collections.abc import Iterator
from uuid import UUID

import pytest
from sqlalchemy import text

from beat_schedule import beat_schedule
from pingvas import db, mail, roles, settings
from pingvas.accounts import tokens
from pingvas.accounts.register import register
from pingvas.billing import reconcile
from pingvas.embedded import postgres
from pingvas.embedded.servers import forget_settings
from pingvas.jobs import dispatch, submit
from pingvas.jobs.submit import Order
from tasks import control


@pytest.fixture
def somebody(clean_db: None) -> UUID:
    """An account with a waiting job, an expired sign-in, an old answer, and a mail that is due."""
    user = register("ada@example.com", "correct horse battery")
    submit.submit(user.id, "free", Order(prompt="a red circle", seed=1))
    dispatch.flush()
    with db.transaction() as session:
        tokens.sign_in(session, user)
        mail.send(session, "reset-password", to=user.email, user_id=user.id)
        session.execute(text("UPDATE sign_ins SET expires_at = '2020-01-01'"))
        session.execute(text("UPDATE refresh_tokens SET expires_at = '2020-01-01'"))
        session.execute(
            text("INSERT INTO idempotency_keys VALUES (:user, 'x', 'x', 200, '{}', 'x', '2020-01-01')"),
            {"user": user.id},
        )
    return user.id


@pytest.fixture
def as_control(monkeypatch: pytest.MonkeyPatch, somebody: UUID) -> Iterator[None]:
    """Let this process sign in as the control worker does."""
    monkeypatch.setenv("DATABASE_URL", postgres.as_role(settings.get().database_url, roles.CONTROL))
    forget_settings()
    yield
    monkeypatch.undo()
    forget_settings()


def counted(table: str) -> int:
    with db.transaction() as session:
        return int(session.scalar(text(f"SELECT count(*) FROM {table}")) or 0)


@pytest.mark.usefixtures("as_control")
def test_every_scheduled_task_does_its_work(somebody: UUID) -> None:
    for entry in beat_schedule.values():
        getattr(control, entry["task"].rpartition(".")[2]).apply(throw=True)
    for table in ("sign_ins", "refresh_tokens", "idempotency_keys"):
        assert counted(table) == 0, table
    assert counted("mails WHERE sent_at IS NOT NULL") == counted("mails") == 1
    assert counted("one_time_tokens") == 1
    with db.transaction() as session:
        assert reconcile.problems(session) == {}
