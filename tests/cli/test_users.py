"""`pingvas user`: roles, suspension, a second factor that was lost; each leaves a row of the trail."""

import subprocess
import sys
from datetime import timedelta
from uuid import UUID

import pytest
from sqlalchemy import select, text, update

from pingvas import clock, db
from pingvas.accounts import second_factor, tokens
from pingvas.accounts.models import SecondFactor, User
from pingvas.accounts.register import register
from pingvas.audit.models import AuditEntry
from pingvas.billing.subscriptions.models import Subscription
from pingvas.mail.models import Mail
from tests.cli.conftest import Run

EMAIL = "ada@example.com"


@pytest.fixture
def ada(clean_db: None) -> UUID:
    """Somebody with a proved address, who is signed in."""
    user = register(EMAIL, "correct horse battery", language="ko")
    with db.transaction() as session:
        session.get_one(User, user.id).email_verified_at = clock.now()
        tokens.sign_in(session, user)
    return user.id


def account() -> User:
    with db.transaction() as session:
        return session.scalars(select(User)).one()


def signed_in() -> int:
    with db.transaction() as session:
        return int(session.scalar(text("SELECT count(*) FROM sign_ins WHERE ended_at IS NULL")) or 0)


def trail() -> list[tuple[str, object, object]]:
    with db.transaction() as session:
        rows = session.scalars(select(AuditEntry).order_by(AuditEntry.id)).all()
    assert all(row.actor.startswith("cli:") for row in rows)
    return [(row.action, row.before, row.after) for row in rows]


def test_another_role(ada: UUID, pingvas: Run) -> None:
    done = pingvas("user", "role", EMAIL.upper(), "admin")
    assert (done.returncode, done.stdout) == (0, f"✓ {EMAIL} is admin\n")
    assert account().role == "admin"
    [(action, before, after)] = trail()
    assert action == "users.change"
    assert isinstance(before, dict)
    assert isinstance(after, dict)
    assert (before["role"], after["role"]) == ("user", "admin")
    assert pingvas("user", "role", EMAIL, "emperor").returncode == 2
    assert pingvas("user", "role", "nobody@example.com", "admin").returncode == 1
    assert len(trail()) == 1


def test_out_and_in_again(ada: UUID, pingvas: Run) -> None:
    assert pingvas("user", "suspend", EMAIL).stdout == f"✓ {EMAIL} is suspended\n"
    assert account().suspended_at is not None
    assert signed_in() == 0
    assert pingvas("user", "restore", EMAIL).stdout == f"✓ {EMAIL} may sign in again\n"
    assert account().suspended_at is None
    suspended = [after["suspended"] for _, _, after in trail() if isinstance(after, dict)]
    assert suspended == [True, False]


def test_a_lost_second_factor(ada: UUID, pingvas: Run) -> None:
    done = pingvas("user", "reset-second-factor", EMAIL)
    assert (done.returncode, done.stderr) == (1, f"{EMAIL} has no second factor.\n")
    assert signed_in() == 1
    with db.transaction() as session:
        second_factor.begin(session, account())
        session.get_one(SecondFactor, ada).confirmed_at = clock.now()
    done = pingvas("user", "reset-second-factor", EMAIL)
    assert (done.returncode, done.stdout) == (0, f"✓ {EMAIL} has no second factor now\n")
    assert not second_factor.is_enabled(ada)
    assert signed_in() == 0
    assert [action for action, _, _ in trail()] == ["users.reset-second-factor"]
    with db.transaction() as session:
        mail = session.scalars(select(Mail)).one()
    assert (mail.recipient, mail.template, mail.language) == (EMAIL, "second-factor-reset", "ko")


def test_another_plan_beside_one_that_is_paid_for(ada: UUID, pingvas: Run) -> None:
    done = pingvas("user", "set-tier", EMAIL, "studio")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"✓ {EMAIL} is on studio\n  Its credits stay; the plan's 15000 come")
    now = clock.now()
    paid = Subscription(user_id=ada, provider_id="77", status="active", tier="starter", interval="month")
    paid.created_at = paid.updated_at = now
    paid.best_tier, paid.best_until, paid.phase = "starter", now + timedelta(days=20), "running"
    with db.transaction() as session:
        session.add(paid)
    done = pingvas("user", "set-tier", EMAIL, "pro")
    assert (done.returncode, account().tier) == (0, "pro")
    assert f"! {EMAIL} pays for starter (subscription 77)" in done.stderr
    with db.transaction() as session:
        session.execute(update(Subscription).values(status="cancelled"))
    assert pingvas("user", "set-tier", EMAIL, "studio").stderr == ""


def test_the_module_is_the_command() -> None:
    done = subprocess.run([sys.executable, "-m", "pingvas.cli", "--help"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "Look after accounts." in done.stdout
