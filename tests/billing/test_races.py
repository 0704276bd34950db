"""Who comes first is chance; what it comes to is not."""

import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from uuid import UUID

import pytest

from pingvas import clock, db, ids
from pingvas.accounts.register import register
from pingvas.billing import ledger, resets
from pingvas.errors import InsufficientCredits
from tests.billing.conftest import Books, deliver
from tests.billing.lemonsqueezy.shapes import subscription
from tests.billing.test_resets import hold, settle

TIMES = 100


@pytest.mark.usefixtures("clean_db")
def test_a_capture_and_a_reset_at_once_roll_nothing_over(monkeypatch: pytest.MonkeyPatch) -> None:
    now = clock.now()
    monkeypatch.setattr(clock, "now", lambda: now)
    books = Books(register("payer@example.com", "correct horse battery").id)
    with ThreadPoolExecutor(2) as pool:
        for _ in range(TIMES):
            job = hold(books.user_id, 60)
            now += timedelta(days=32)
            list(pool.map(lambda act: act(), (lambda job=job: settle(job, 25), resets.run)))
            resets.run()
            assert books.balances == (100, 0, 0)
    assert books.problems() == {}


@pytest.mark.usefixtures("clean_db")
def test_parallel_holds_never_take_more_than_there_is() -> None:
    def attempt(user_id: UUID) -> bool:
        try:
            hold(user_id, 10)
        except InsufficientCredits:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        for number in range(TIMES // 10):
            user_id = register(f"u{number}@example.com", "correct horse battery").id
            assert sum(pool.map(attempt, [user_id] * 100)) == 10
            assert Books(user_id).balances == (0, 0, 100)


@pytest.mark.usefixtures("shop")
def test_the_same_webhook_twice_at_once_begins_one_month(books: Books) -> None:
    with ThreadPoolExecutor(2) as pool:
        for number in range(TIMES // 4):
            body = subscription("created", books.user_id, id_=1_000 + number)
            list(pool.map(deliver, [body, body + b" "]))
            deliver()
            assert books.lines.count(("monthly_allocation", 2_500)) == number + 1
            deliver(subscription("expired", None, status="expired", minutes=1, id_=1_000 + number))
    assert books.problems() == {}


@pytest.mark.usefixtures("clean_db")
def test_users_do_not_wait_for_each_other() -> None:
    one, other = (register(f"u{n}@example.com", "correct horse battery").id for n in range(2))
    with ThreadPoolExecutor(1) as pool, db.transaction() as session:
        ledger.hold(session, one, ids.new(), 10)
        began = time.monotonic()
        pool.submit(hold, other, 10).result(4)  # the lock's own limit is 5 s
        assert time.monotonic() - began < 4
