"""The ledger on a real database: sums, bounds, once-only."""

import re
from pathlib import Path
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import insert, select, text
from sqlalchemy.exc import DatabaseError

from pingvas import clock, db, ids
from pingvas.accounts.register import register
from pingvas.billing import ledger, reconcile, wallets
from pingvas.billing.ledger import Account
from pingvas.billing.models import LedgerEntry, LedgerTransaction
from pingvas.errors import InsufficientCredits, Invalid
from tests.billing.holds import hold, settle

pytestmark = pytest.mark.usefixtures("clean_db")


DOCUMENTED = Path(__file__).parents[2] / "docs" / "billing.md"


@pytest.fixture
def user_id() -> UUID:
    return register("payer@example.com", "correct horse battery").id


def balances(user_id: UUID) -> tuple[int, int, int]:
    with db.transaction() as session:
        wallet = wallets.read(session, user_id)
        return wallet.monthly, wallet.purchased, wallet.held


def books_are_right() -> bool:
    with db.transaction() as session:
        return not reconcile.problems(session)


def test_registration_grants_the_free_plan_its_credits(user_id: UUID) -> None:
    assert balances(user_id) == (100, 0, 0)
    assert books_are_right()


def test_a_hold_takes_monthly_credits_first_and_returns_them_as_they_were(user_id: UUID) -> None:
    ledger.grant(user_id, 50, business_key="gift:1")
    job_id = hold(user_id, 120)
    assert balances(user_id) == (0, 30, 120)
    assert settle(job_id, 0) == 0
    assert balances(user_id) == (100, 50, 0)
    assert books_are_right()


def test_a_capture_charges_what_was_used_and_never_more_than_the_quote(user_id: UUID) -> None:
    assert settle(hold(user_id, 10), 3) == 3
    assert balances(user_id) == (97, 0, 0)
    assert settle(hold(user_id, 10), 999) == 10
    assert balances(user_id) == (87, 0, 0)
    assert books_are_right()


def test_settling_twice_settles_once(user_id: UUID) -> None:
    job_id = hold(user_id, 10)
    assert settle(job_id, 4) == 4
    assert settle(job_id, 9) == 4
    assert balances(user_id) == (96, 0, 0)


def test_too_small_a_wallet_is_refused_and_nothing_is_written(user_id: UUID) -> None:
    with pytest.raises(InsufficientCredits) as caught:
        hold(user_id, 101)
    assert caught.value.extra == {"required": 101, "available": 100}
    assert balances(user_id) == (100, 0, 0)


def test_a_metered_user_holds_nothing_and_owes_what_was_used(user_id: UUID) -> None:
    job_id = hold(user_id, 5_000, metered=True)
    assert balances(user_id) == (100, 0, 0)
    assert settle(job_id, 7) == 7
    assert balances(user_id) == (100, 0, 0)
    with db.transaction() as session:
        owed = session.scalar(text("SELECT sum(amount) FROM ledger_entries WHERE account = 'receivable'"))
    assert owed == -7
    assert books_are_right()


def test_one_business_key_posts_once(user_id: UUID) -> None:
    assert ledger.grant(user_id, 5, business_key="order:1")
    assert not ledger.grant(user_id, 5, business_key="order:1")
    assert balances(user_id) == (100, 5, 0)


@pytest.mark.parametrize("amount", [0, 10**12 + 1, -(10**20)])
def test_a_grant_beyond_reason_is_refused(user_id: UUID, amount: int) -> None:
    with pytest.raises(Invalid, match="grant"):
        ledger.grant(user_id, amount, business_key="gift:1")


def post_legs(transaction: UUID, *legs: tuple[UUID | None, Account, int]) -> None:
    rows = [
        {"transaction_id": transaction, "user_id": payer, "account": account.value, "amount": amount}
        for payer, account, amount in legs
    ]
    with db.transaction() as session:
        session.execute(insert(LedgerEntry).values(rows))


@pytest.fixture
def transaction(user_id: UUID) -> UUID:
    with db.transaction() as session:
        return session.scalars(select(LedgerTransaction.id)).one()


def test_the_database_itself_refuses_entries_that_do_not_balance(transaction: UUID) -> None:
    with pytest.raises(DatabaseError, match="sum to zero"):
        post_legs(transaction, (None, Account.REVENUE, 1))


def test_the_database_itself_refuses_entries_of_no_transaction(user_id: UUID) -> None:
    for payer in (user_id, None):
        account = Account.HELD if payer else Account.GRANTS
        with pytest.raises(DatabaseError, match="needs its transaction"):
            post_legs(ids.new(), (payer, account, 1), (None, Account.REVENUE, -1))


def test_the_database_itself_refuses_entries_of_somebody_else(transaction: UUID) -> None:
    other = register("other@example.com", "correct horse battery").id
    for stranger in (other, ids.new()):
        with pytest.raises(DatabaseError, match="is of its user"):
            post_legs(transaction, (stranger, Account.HELD, 1), (None, Account.REVENUE, -1))
    assert books_are_right()


def test_a_transaction_moves_an_account_once(user_id: UUID, transaction: UUID) -> None:
    with pytest.raises(DatabaseError, match="pk_ledger_entries"):
        post_legs(transaction, (user_id, Account.MONTHLY, 1), (None, Account.REVENUE, -1))


@pytest.mark.parametrize("statement", ["UPDATE {} SET amount = 1", "DELETE FROM {}"])
@pytest.mark.parametrize("table", [LedgerEntry.__tablename__, LedgerTransaction.__tablename__])
def test_the_ledger_is_append_only(user_id: UUID, table: str, statement: str) -> None:
    def tamper() -> None:
        with db.transaction() as session:
            session.execute(text(statement.format(table)))

    with pytest.raises(DatabaseError, match="append-only"):
        tamper()


def test_a_statement_that_its_entries_do_not_bear_out_is_found(user_id: UUID) -> None:
    values = {"id": ids.new(), "business_key": "gift:1", "type": "adjustment", "user_id": user_id}
    line = insert(LedgerTransaction).values(**values, amount=5, balance_after=105, created_at=clock.now())
    with db.transaction() as session:
        session.execute(line)
        assert reconcile.problems(session) == {
            "transactions that say another amount than their entries": [
                "transaction gift:1 says 5, its entries 0"
            ]
        }


def test_the_documentation_has_the_entries_of_every_type() -> None:
    rows = DOCUMENTED.read_text(encoding="utf-8").splitlines()
    explained = {
        name for name in ledger.Type if any(re.match(rf"\| `{name}`.*[+−]\d.*[+−]\d", row) for row in rows)
    }
    assert explained == set(ledger.Type)


@given(amount=st.integers(0, 10**9), monthly=st.integers(0, 10**9), purchased=st.integers(0, 10**9))
def test_drawing_takes_the_amount_and_no_more_than_is_there(
    amount: int, monthly: int, purchased: int
) -> None:
    if amount > monthly + purchased:
        with pytest.raises(InsufficientCredits):
            ledger.draw(amount, monthly, purchased)
        return
    from_monthly, from_purchased = ledger.draw(amount, monthly, purchased)
    assert from_monthly + from_purchased == amount
    assert 0 <= from_monthly <= monthly
    assert 0 <= from_purchased <= purchased
    assert from_purchased == 0 or from_monthly == monthly
