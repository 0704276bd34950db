"""Generating with an API key: a fee, so many calls a month, and neither where the plan has none."""

from datetime import timedelta
from uuid import UUID

import pytest
from sqlalchemy import select, update

from pingvas import clock, db
from pingvas.accounts.register import register
from pingvas.billing import reconcile
from pingvas.billing.models import LedgerEntry, LedgerTransaction, Wallet
from pingvas.errors import InsufficientCredits, TierRequired, TooMany
from pingvas.jobs import submit
from pingvas.jobs.submit import Order

pytestmark = pytest.mark.usefixtures("clean_db")

ORDER = Order(prompt="a red circle")
QUOTE, FEE, MONTHLY = 10, 20, 2_500


def customer(tier: str = "starter") -> UUID:
    return register(f"{tier}@example.com", "correct horse battery", tier=tier).id


def write(user_id: UUID, **columns: object) -> None:
    with db.transaction() as session:
        session.execute(update(Wallet).where(Wallet.user_id == user_id).values(**columns))


def wallet(user_id: UUID) -> Wallet:
    with db.transaction() as session:
        return session.get_one(Wallet, user_id)


def fee_entries() -> dict[str, int]:
    of_calls = LedgerTransaction.type == "api_call"
    joined = LedgerTransaction.id == LedgerEntry.transaction_id
    with db.transaction() as session:
        columns = select(LedgerEntry.account, LedgerEntry.amount)
        found = session.execute(columns.join(LedgerTransaction, joined).where(of_calls))
        return {entry.account: entry.amount for entry in found}


def books_are_right() -> bool:
    with db.transaction() as session:
        return not reconcile.problems(session)


def test_a_call_with_a_key_costs_its_fee_beside_the_quote() -> None:
    user = customer()
    assert submit.submit(user, "starter", ORDER, by_key=True).credits == QUOTE
    after = wallet(user)
    assert (after.monthly, after.held, after.api_calls) == (MONTHLY - FEE - QUOTE, QUOTE, 1)
    assert fee_entries() == {"monthly": -FEE, "revenue": FEE}
    assert books_are_right()


def test_a_call_without_a_key_costs_none() -> None:
    user = customer()
    submit.submit(user, "starter", ORDER)
    after = wallet(user)
    assert (after.monthly, after.api_calls) == (MONTHLY - QUOTE, 0)
    assert fee_entries() == {}


def test_a_batch_is_one_call() -> None:
    user = customer("pro")
    submit.submit_batch(user, "pro", [ORDER] * 3, by_key=True)
    after = wallet(user)
    assert (after.monthly, after.held, after.api_calls) == (7_500 - FEE - 3 * QUOTE, 3 * QUOTE, 1)
    assert books_are_right()


def test_the_fee_takes_monthly_credits_first() -> None:
    user = customer()
    with db.transaction() as session:
        row = session.get_one(Wallet, user)
        row.monthly, row.purchased = 15, 25  # not by the ledger: only the split is looked at
    submit.submit(user, "starter", ORDER, by_key=True)
    after = wallet(user)
    assert (after.monthly, after.purchased, after.held) == (0, 10, QUOTE)
    assert fee_entries() == {"monthly": -15, "purchased": -5, "revenue": FEE}


def test_an_unlimited_plan_owes_the_fee() -> None:
    user = customer("enterprise")
    submit.submit(user, "enterprise", ORDER, by_key=True)
    assert fee_entries() == {"receivable": -FEE, "revenue": FEE}
    assert books_are_right()


def test_who_can_pay_the_job_but_not_the_fee_pays_neither() -> None:
    user = customer()
    write(user, monthly=FEE + QUOTE - 1)
    with pytest.raises(InsufficientCredits) as refusal:
        submit.submit(user, "starter", ORDER, by_key=True)
    assert refusal.value.extra == {"required": FEE + QUOTE, "available": FEE + QUOTE - 1}
    after = wallet(user)
    assert (after.monthly, after.held, after.api_calls) == (FEE + QUOTE - 1, 0, 0)
    write(user, monthly=FEE + QUOTE)
    submit.submit(user, "starter", ORDER, by_key=True)
    assert wallet(user).monthly == 0


def test_the_calls_of_a_month_run_out_and_come_back() -> None:
    user = customer()
    began, most = wallet(user).last_reset_at, 50
    write(user, api_calls=most - 1, api_calls_since=began, resets_at=clock.now() + timedelta(hours=1))
    submit.submit(user, "starter", ORDER, by_key=True)
    with pytest.raises(TooMany) as refusal:
        submit.submit(user, "starter", ORDER, by_key=True)
    assert refusal.value.extra["limit"] == most
    assert 3_590 < int(refusal.value.headers["Retry-After"]) <= 3_600
    submit.submit(user, "starter", ORDER)  # signed in without a key
    write(user, last_reset_at=began + timedelta(days=30))  # the next month
    submit.submit(user, "starter", ORDER, by_key=True)
    assert wallet(user).api_calls == 1


def test_a_plan_without_calls_is_told_which_has_them() -> None:
    user = customer("free")
    with pytest.raises(TierRequired) as refusal:
        submit.submit(user, "free", ORDER, by_key=True)
    assert refusal.value.extra == {"required": "starter"}
    assert wallet(user).held == 0
