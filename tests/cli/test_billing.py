"""`pingvas billing`: proof, statements and usage as an operator reads them."""

import csv
import io
from datetime import UTC, datetime

import pytest
from click.testing import CliRunner
from sqlalchemy import text

from pingvas import db
from pingvas.accounts.register import register
from pingvas.billing import ledger
from pingvas.cli.billing import group
from tests.billing.holds import hold, settle

pytestmark = pytest.mark.usefixtures("clean_db")
MONTH = f"{datetime.now(UTC):%Y-%m}"


def run(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(group, arguments)
    return result.exit_code, result.stdout


def test_books_that_are_right_and_books_that_are_not() -> None:
    user = register("payer@example.com", "correct horse battery")
    assert run("reconcile")[0] == 0
    with db.transaction() as session:
        session.execute(text("UPDATE wallets SET purchased = 7"))
    assert run("reconcile")[0] == 1
    with db.transaction() as session:
        session.execute(text("UPDATE wallets SET purchased = 0"))
    job = hold(user.id, 10)
    assert run("reconcile")[0] == 0
    with db.transaction() as session:
        session.execute(text("DELETE FROM jobs WHERE id = :job"), {"job": job})
    assert run("reconcile")[0] == 1


def test_a_statement_is_csv_that_no_spreadsheet_takes_for_formulas() -> None:
    user = register("payer@example.com", "correct horse battery")
    ledger.grant(user.id, 50, business_key="gift:1", description="=HYPERLINK(1)", actor="ada@host")
    status, out = run("statement", "payer@example.com", "--month", MONTH)
    assert status == 0
    lines = list(csv.DictReader(io.StringIO(out)))
    assert [(line["type"], line["amount"], line["balance_after"]) for line in lines] == [
        ("monthly_allocation", "100", "100"),
        ("adjustment", "50", "150"),
    ]
    assert (lines[1]["description"], lines[1]["actor"]) == ("'=HYPERLINK(1)", "ada@host")
    assert (
        list(csv.DictReader(io.StringIO(run("statement", "payer@example.com", "--month", "2020-01")[1])))
        == []
    )


def test_refunds_that_found_credits_spent_are_listed() -> None:
    user = register("payer@example.com", "correct horse battery")
    with db.transaction() as session:
        session.execute(
            text("INSERT INTO purchases VALUES ('1', :user, 9, 7, 2, now()), ('2', :user, 9, 9, 0, now())"),
            {"user": user.id},
        )
    status, out = run("shortfalls")
    assert status == 0
    assert list(csv.reader(io.StringIO(out)))[1:] == [
        ["1", str(user.id), "payer@example.com", "9", "7", "2", "0"]
    ]


def test_contracts_are_told_by_what_they_used() -> None:
    user = register("big@example.com", "correct horse battery", tier="enterprise")
    for cost in (7, 5):
        settle(hold(user.id, 100, metered=True), cost)
    status, out = run("usage", "--month", MONTH)
    assert status == 0
    assert list(csv.reader(io.StringIO(out)))[1:] == [[str(user.id), "big@example.com", "2", "12"]]
