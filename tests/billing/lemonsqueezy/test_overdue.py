"""A webhook that is lost: the shop is asked about what should have been renewed."""

import httpx
import pytest
from sqlalchemy import text

from pingvas import db
from pingvas.billing.lemonsqueezy import inbox, overdue
from pingvas.billing.lemonsqueezy.standin import Shop
from pingvas.billing.lemonsqueezy.standin.shop import Checkout
from pingvas.embedded.servers import forget_settings
from tests.billing.conftest import Books, Clock

NOTHING = {"asked": 0, "new": 0}


@pytest.fixture
def number(time: Clock, books: Books, standin: Shop) -> str:
    """A subscription to starter; the shop's webhooks are lost from now on."""
    variant = next(id_ for id_, item in standin.items.items() if item.name == "starter/month")
    standin.pay(Checkout(variant, "payer@example.com", {"user_id": str(books.user_id)}, None))
    inbox.handle_due()
    assert (books.tier, books.balances) == ("starter", (2_500, 0, 0))
    standin.courier.holding = True
    (number,) = standin.subscriptions
    return number


def test_a_plan_that_ended_unheard_ends(number: str, standin: Shop, books: Books, time: Clock) -> None:
    standin.act(number, "cancel")
    standin.act(number, "expire")
    time.forward(days=28, hours=23)
    assert overdue.read_again() == NOTHING
    time.forward(hours=2)
    assert overdue.read_again() == {"asked": 1, "new": 1}
    inbox.handle_due()
    assert (books.tier, books.balances) == ("free", (0, 0, 0))
    standin.courier.release("reversed")  # they were late after all
    inbox.handle_due()
    assert (books.tier, books.balances) == ("free", (0, 0, 0))
    time.forward(days=9)
    assert overdue.read_again() == NOTHING
    assert books.problems() == {}


def test_a_renewal_that_was_not_heard_of_changes_nothing_and_is_not_asked_for_twice(
    number: str, standin: Shop, books: Books, time: Clock
) -> None:
    standin.act(number, "renew")
    time.forward(days=30)
    before = books.lines
    assert overdue.read_again() == {"asked": 1, "new": 1}
    assert inbox.handle_due() == {"handled": 1, "waiting": 0}
    time.forward(days=2)
    assert overdue.read_again() == NOTHING
    assert (books.tier, books.lines) == ("starter", before)


def test_an_answer_that_is_no_news_is_stored_once_and_asked_for_each_day(
    number: str, books: Books, time: Clock
) -> None:
    time.forward(days=30)
    assert [overdue.read_again(), overdue.read_again()] == [{"asked": 1, "new": 1}, NOTHING]
    time.forward(days=1, seconds=1)
    assert overdue.read_again() == {"asked": 1, "new": 0}
    assert books.tier == "starter"


def test_one_that_the_shop_does_not_know_keeps_no_other_from_being_asked(
    number: str, standin: Shop, books: Books, time: Clock
) -> None:
    with db.transaction() as session:
        session.execute(
            text(
                """
                INSERT INTO subscriptions
                SELECT (jsonb_populate_record(row, '{"id": "00000000-0000-0000-0000-000000000001",
                                                     "provider_id": "404"}')).*
                FROM subscriptions AS row""".replace('": "', '"\\: "')
            )
        )
    time.forward(days=30)
    assert overdue.read_again() == {"asked": 1, "new": 1}
    assert overdue.read_again() == NOTHING


def test_a_shop_that_is_away_is_asked_at_the_next_tick(
    number: str, standin: Shop, time: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    time.forward(days=30)
    with monkeypatch.context() as away:
        away.setenv("PINGVAS_LEMONSQUEEZY_URL", "http://127.0.0.1:9")
        forget_settings()
        assert overdue.read_again() == NOTHING
    forget_settings()
    assert httpx.get(standin.url).status_code == 200
    assert overdue.read_again() == {"asked": 1, "new": 1}


@pytest.mark.usefixtures("clean_db")
def test_a_server_that_sells_nothing_asks_nobody() -> None:
    assert overdue.read_again() == NOTHING
