"""`pingvas billing`: the books, for operators."""

import csv
import sys
from datetime import UTC, datetime

import click

from pingvas import db
from pingvas.accounts import users
from pingvas.billing import reconcile, statements
from pingvas.cli import console
from pingvas.cli.console import CommandError, data_dir_option
from pingvas.cli.session import rows


@click.group("billing")
def group() -> None:
    """Prove the books; statements of customers, usage of contracts."""


_month = click.option(
    "--month", type=click.DateTime(["%Y-%m"]), help="Such as 2026-01; in UTC.  [default: this month]"
)


@group.command("reconcile")
@data_dir_option
def reconcile_() -> None:
    """Prove the books; ends with status 1 and says where, if anything is wrong."""
    with rows(), db.transaction() as session:
        found = reconcile.problems(session)
    for check, lines in found.items():
        console.warn(f"{check}: {len(lines)}")
        for line in lines:
            console.say(f"  {line}")
    if found:
        sys.exit(1)
    console.done("The books are right.")


@group.command("statement")
@click.argument("email", metavar="USER")
@_month
@data_dir_option
def statement(email: str, month: datetime | None) -> None:
    """Print USER's transactions of a month as CSV; USER is an e-mail address."""
    with rows(), db.transaction() as session:
        user = users.by_email(session, email)
        if user is None:
            raise CommandError(f"There is no account {email}.")
        lines = statements.lines(session, user.id, _first(month))
    _csv(statements.LINE, lines)


@group.command("usage")
@_month
@data_dir_option
def usage(month: datetime | None) -> None:
    """Print what metered accounts (contracts) used in a month as CSV."""
    with rows(), db.transaction() as session:
        lines = statements.usage(session, _first(month))
    _csv(statements.USAGE, lines)


@group.command("shortfalls")
@data_dir_option
def shortfalls() -> None:
    """Print refunded orders whose credits were spent or held, as CSV."""
    with rows(), db.transaction() as session:
        lines = statements.shortfalls(session)
    _csv(statements.SHORTFALL, lines)


def _first(month: datetime | None) -> datetime:
    chosen = month or datetime.now(UTC)
    return datetime(chosen.year, chosen.month, 1, tzinfo=UTC)


def _csv(columns: tuple[str, ...], lines: list[tuple[object, ...]]) -> None:
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(lines)
