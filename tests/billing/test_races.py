"""Who comes first is chance; what it comes to is not. Each race is run a hundred times."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from uuid import UUID

import pytest
from flask import Flask
from sqlalchemy import text

from pingvas import clock, db
from pingvas.billing import ledger, reconcile, resets
from pingvas.errors import InsufficientCredits
from pingvas.jobs import submit
from pingvas.jobs.submit import Accepted, Order
from tests.billing.conftest import Books, Clock, deliver
from tests.billing.holds import hold, settle
from tests.billing.lemonsqueezy.shapes import subscription
from tests.jobs.customers import customer

TIMES = 100
ORDER = Order(prompt="a red circle")  # ten credits of a hundred


def attempt(user_id: UUID) -> bool:
    """Submit as the studio plan, which has room for all; False where the credits are gone."""
    try:
        submit.submit(user_id, "studio", ORDER)
    except InsufficientCredits:
        return False
    return True


@pytest.mark.usefixtures("clean_db")
@pytest.mark.timeout(120)
def test_a_hundred_parallel_submits_with_credits_for_ten_give_ten() -> None:
    with ThreadPoolExecutor(8) as pool:
        for _ in range(TIMES):
            user_id = customer("free")
            assert sum(pool.map(attempt, [user_id] * 100)) == 10
            assert Books(user_id).balances == (0, 0, 100)
    with db.transaction() as session:
        assert reconcile.problems(session) == {}
        assert session.scalar(text("SELECT count(*) FROM jobs")) == 10 * TIMES


@pytest.mark.usefixtures("clean_db")
def test_the_same_over_http(app: Flask) -> None:
    body = {"email": "payer@example.com", "password": "correct horse battery"}
    answer = app.test_client().post("/api/v1/auth/register", json=body)
    token = {"Authorization": f"Bearer {answer.get_json()['access_token']}"}
    with db.transaction() as session:
        session.execute(text("UPDATE users SET tier = 'studio'"))

    def post(_: int) -> int:
        body = {"prompt": "a red circle"}
        return app.test_client().post("/api/v1/generate", json=body, headers=token).status_code

    with ThreadPoolExecutor(8) as pool:
        assert Counter(pool.map(post, range(100))) == {202: 10, 402: 90}
    with db.transaction() as session:
        assert reconcile.problems(session) == {}


@pytest.mark.usefixtures("clean_db")
def test_users_do_not_wait_for_each_other() -> None:
    one, other = customer("free"), customer("free")
    with ThreadPoolExecutor(2) as pool:
        with db.transaction() as session:
            ledger.lock(session, one)
            waits = pool.submit(submit.submit, one, "free", ORDER)
            assert isinstance(pool.submit(submit.submit, other, "free", ORDER).result(30), Accepted)
            assert not waits.done()
        assert isinstance(waits.result(30), Accepted)


@pytest.mark.usefixtures("clean_db")
def test_a_capture_and_a_reset_at_once_roll_nothing_over(monkeypatch: pytest.MonkeyPatch) -> None:
    now = clock.now()
    monkeypatch.setattr(clock, "now", lambda: now)
    books = Books(customer("free"))
    with ThreadPoolExecutor(2) as pool:
        for _ in range(TIMES):
            job = hold(books.user_id, 60)
            now += timedelta(days=32)
            list(pool.map(lambda act: act(), (lambda job=job: settle(job, 25), resets.run)))
            resets.run()
            assert books.balances == (100, 0, 0)
    assert books.problems() == {}


@pytest.mark.usefixtures("clean_db")
def test_resets_at_once_reset_everybody_once(time: Clock) -> None:
    people = [Books(customer("free")) for _ in range(12)]
    with ThreadPoolExecutor(4) as pool:
        for month in range(1, TIMES + 1):
            time.forward(days=32)
            assert sum(pool.map(lambda _: resets.run(chunk=3), range(4))) == len(people)
            counts = [books.lines.count(("monthly_allocation", 100)) for books in people[:2]]
            assert counts == [month + 1] * 2
    assert all(books.balances == (100, 0, 0) for books in people)
    assert people[0].problems() == {}


@pytest.mark.usefixtures("shop")
def test_the_same_webhook_twice_at_once_begins_one_month(books: Books) -> None:
    with ThreadPoolExecutor(2) as pool:
        for number in range(TIMES):
            body = subscription("created", books.user_id, id_=1_000 + number)
            list(pool.map(deliver, [body, body + b" "]))
            deliver()
            assert books.lines.count(("monthly_allocation", 2_500)) == number + 1
            deliver(subscription("expired", None, status="expired", minutes=1, id_=1_000 + number))
    assert books.problems() == {}
