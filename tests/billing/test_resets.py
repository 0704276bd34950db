"""The monthly reset: once a month, one grant however long it was late, and nobody waits for anybody."""

from concurrent.futures import ThreadPoolExecutor
from datetime import datetime

import pytest
from sqlalchemy import text, update

from pingvas import db
from pingvas.accounts.register import register
from pingvas.billing import ledger, months, resets, wallets
from pingvas.billing.models import Wallet
from tests.billing.conftest import START, Books, Clock
from tests.billing.holds import hold, settle

pytestmark = pytest.mark.usefixtures("clean_db")


def test_nothing_is_due_before_its_day(time: Clock, books: Books) -> None:
    time.forward(days=27)
    assert resets.run() == 0


def test_what_is_left_expires_and_the_plan_gives_anew(time: Clock, books: Books) -> None:
    ledger.grant(books.user_id, 50, business_key="gift:1")
    settle(hold(books.user_id, 30), 30)
    time.forward(days=28)
    assert resets.run() == 1
    assert books.balances == (100, 50, 0)
    assert books.lines[-2:] == [("expiry", -70), ("monthly_allocation", 100)]
    assert books.wallet.resets_at == START.replace(month=3)
    assert resets.run() == 0
    assert books.problems() == {}


def test_three_months_late_is_one_grant_and_the_next_is_due_on_the_31st(time: Clock, books: Books) -> None:
    time.to(START.replace(month=4, day=30))
    assert resets.run() == 1
    assert books.balances == (100, 0, 0)
    assert [kind for kind, _ in books.lines] == ["monthly_allocation", "expiry", "monthly_allocation"]
    assert books.wallet.resets_at == START.replace(month=5)


def test_a_hold_survives_and_what_it_does_not_use_of_the_old_month_expires(time: Clock, books: Books) -> None:
    ledger.grant(books.user_id, 50, business_key="gift:1")
    job = hold(books.user_id, 120)
    time.forward(days=28)
    resets.run()
    assert books.balances == (100, 30, 120)
    settle(job, 40)
    assert books.balances == (100, 50, 0)
    assert books.lines[-3:] == [("release", 120), ("generation", -40), ("expiry", -60)]
    assert books.problems() == {}


def test_a_hold_of_the_new_month_returns_whole(time: Clock, books: Books) -> None:
    time.forward(days=28)
    resets.run()
    settle(hold(books.user_id, 60), 0)
    assert books.balances == (100, 0, 0)


def test_unlimited_plans_get_nothing(time: Clock) -> None:
    books = Books(register("big@example.com", "correct horse battery", tier="enterprise").id)
    time.forward(days=28)
    assert resets.run() == 1
    assert books.balances == (0, 0, 0)


@pytest.mark.parametrize("day", ["2026-03-01", "2026-06-30", "2027-02-28", "2028-02-29", "2028-03-31"])
def test_the_statement_counts_months_as_python_does(time: Clock, day: str) -> None:
    anchors = [START.replace(day=d, hour=h) for d in (1, 28, 29, 30, 31) for h in (0, 12, 23)]
    people = {register(f"u{i}@example.com", "correct horse battery").id: a for i, a in enumerate(anchors)}
    for user_id, anchor in people.items():
        with db.transaction() as session:
            values = {"anchor_at": anchor, "resets_at": anchor}
            session.execute(update(Wallet).where(Wallet.user_id == user_id).values(**values))
    time.to(datetime.fromisoformat(f"{day}T12:00:00+00:00"))
    assert resets.run(chunk=4) == len(people)
    for user_id, anchor in people.items():
        month = months.month(anchor, time.now)
        books = Books(user_id)
        assert books.wallet.resets_at == month.end
        with db.transaction() as session:
            keys = text("SELECT count(*) FROM ledger_transactions WHERE business_key = :key")
            assert session.scalar(keys, {"key": wallets.month_key(user_id, month.start)}) == 1


@pytest.mark.parametrize("key", ["{}", "{}:expiry"])
def test_a_month_that_was_given_is_not_given_again_and_stops_nobody(
    time: Clock, books: Books, key: str
) -> None:
    other = Books(register("other@example.com", "correct horse battery").id)
    begins = START.replace(month=2, day=28)
    ledger.grant(other.user_id, 7, business_key=key.format(wallets.month_key(other.user_id, begins)))
    settle(hold(other.user_id, 60), 60)
    time.to(begins)
    assert resets.run(chunk=1) == 2
    assert books.lines[-2:] == [("expiry", -100), ("monthly_allocation", 100)]
    assert other.balances == (40, 7, 0)
    assert other.wallet.resets_at == books.wallet.resets_at == START.replace(month=3)
    assert books.problems() == {}


def test_a_user_whose_wallet_is_busy_is_left_for_the_next_round(time: Clock, books: Books) -> None:
    other = Books(register("other@example.com", "correct horse battery").id)
    time.forward(days=28)
    with ThreadPoolExecutor(1) as pool, db.transaction() as session:
        ledger.lock(session, other.user_id)
        assert pool.submit(resets.run).result(10) == 1
    assert books.wallet.resets_at > time.now
    assert resets.run() == 1
    assert other.wallet.resets_at > time.now
