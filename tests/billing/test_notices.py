"""Mails about money: each once, in the customer's language."""

from uuid import UUID

import pytest
from sqlalchemy import select

from pingvas import db
from pingvas.accounts.models import User
from pingvas.billing import resets
from pingvas.mail import templates
from pingvas.mail.models import Mail
from tests.billing.conftest import START, Books, Clock, deliver
from tests.billing.holds import hold
from tests.billing.lemonsqueezy.shapes import payment, subscription

pytestmark = pytest.mark.usefixtures("shop", "time")


def mails(user_id: UUID) -> list[tuple[str, str]]:
    """Template and subject of what a customer was sent, the oldest first."""
    with db.transaction() as session:
        found = session.scalars(select(Mail).where(Mail.user_id == user_id).order_by(Mail.id)).all()
    return [(m.template, templates.render(m.template, m.language, m.values)[0]) for m in found]  # type: ignore[arg-type]


def test_failed_payments_and_the_end_are_told(books: Books) -> None:
    with db.transaction() as session:
        session.get_one(User, books.user_id).language = "ko"
    deliver(subscription("created", books.user_id))
    for _ in range(2):
        deliver(*(payment("failed", minutes=minutes) for minutes in (10, 20, 30)))
    assert mails(books.user_id) == [
        ("payment-failed", "Pingvas 요금제 결제에 실패했습니다"),
        ("payment-failed", "Pingvas 요금제 결제에 실패했습니다"),
        ("payment-failed", "Pingvas 요금제 결제에 실패했습니다"),
        ("subscription-ended", "Pingvas 요금제가 종료되었습니다"),
    ]


def test_whoever_is_short_is_told_once_a_month(books: Books, time: Clock) -> None:
    hold(books.user_id, 80)
    assert resets.tell_low() == 0
    hold(books.user_id, 1)
    assert [resets.tell_low(), resets.tell_low()] == [1, 0]
    assert mails(books.user_id) == [("credits-low", "Your Pingvas credits are running low")]
    time.forward(days=28)
    resets.run()
    assert resets.tell_low() == 0
    hold(books.user_id, 90)
    assert resets.tell_low() == 1


def test_a_new_month_is_told_to_those_who_pay(books: Books, time: Clock) -> None:
    time.to(START.replace(month=2, day=28))
    resets.run()
    assert mails(books.user_id) == []
    deliver(subscription("created", books.user_id, renews_at=START.replace(month=3)))
    time.to(START.replace(month=3))
    resets.run()
    assert mails(books.user_id) == [("credits-reset", "Your Pingvas credits for the new month")]
