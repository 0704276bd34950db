"""`pingvas user`: accounts."""

import secrets

import click

from pingvas import db
from pingvas.accounts import notices, second_factor, tokens, users
from pingvas.accounts.models import ROLES, TIERS, User
from pingvas.accounts.register import register
from pingvas.admin import members
from pingvas.admin.members import Changes
from pingvas.billing import plans
from pingvas.billing.subscriptions import finding
from pingvas.cli import console
from pingvas.cli.console import CommandError, data_dir_option
from pingvas.cli.session import operator, rows, write_down


@click.group("user")
def group() -> None:
    """Look after accounts."""


@group.command("create")
@click.argument("email")
@click.option("--password", help="Without it one is made and shown once; '-' asks for it.")
@click.option("--tier", type=click.Choice(sorted(TIERS)), default="free", show_default=True)
@click.option("--role", type=click.Choice(sorted(ROLES)), default="user", show_default=True)
@data_dir_option
def create(email: str, password: str | None, tier: str, role: str) -> None:
    """Open an account for EMAIL."""
    if password == "-":  # noqa: S105 (asks for one)
        password = click.prompt("Password", hide_input=True, confirmation_prompt=True)
    chosen = password or secrets.token_urlsafe(18)
    with rows(), db.transaction():
        user = register(email, chosen, tier=tier, role=role)
        write_down("users.create", f"user:{user.id}", tier=tier, role=role)
    console.done(f"{user.email} ({user.tier}, {user.role}) is {user.id}")
    if not password:
        console.say(f"Password, shown this once: {chosen}")


# A negative number is no option.
@group.command("grant", context_settings={"ignore_unknown_options": True})
@click.argument("email")
@click.argument("amount", type=int)
@click.option("--reason", default="Granted by an operator", show_default=True)
@data_dir_option
def grant(email: str, amount: int, reason: str) -> None:
    """Give EMAIL's account AMOUNT credits that do not expire (below zero: take them)."""
    if not amount:
        raise click.UsageError("AMOUNT is 0.")
    with rows():
        user = _user(email)
        wallet = members.adjust(operator(), user.id, amount, reason)
        left = wallet.monthly + wallet.purchased
    console.done(f"{user.email} has {left} credits")


@group.command("set-tier")
@click.argument("email")
@click.argument("tier", type=click.Choice(sorted(TIERS)))
@data_dir_option
def set_tier(email: str, tier: str) -> None:
    """Move EMAIL's account to another plan."""
    with rows():
        user = _change(email, Changes(tier=tier), "Set by an operator")
        with db.transaction() as session:
            paid = finding.current(session, user.id)
    console.done(f"{user.email} is on {tier}")
    if given := plans.of(tier).monthly_credits:
        console.say(
            f"  Its credits stay; the plan's {given} come with its next month (now: pingvas user grant)."
        )
    if paid is not None and paid.renews:
        console.warn(
            f"{user.email} pays for {paid.tier} (subscription {paid.provider_id}): the next payment sets "
            "that plan again. Change or cancel it at the shop."
        )


@group.command("role")
@click.argument("email")
@click.argument("role", type=click.Choice(sorted(ROLES)))
@data_dir_option
def role(email: str, role: str) -> None:
    """Give EMAIL's account another role; admins and operators need a second factor to use theirs."""
    with rows():
        user = _change(email, Changes(role=role), "Set by an operator")
    console.done(f"{user.email} is {role}")


@group.command("reset-second-factor")
@click.argument("email")
@data_dir_option
def reset_second_factor(email: str) -> None:
    """Turn EMAIL's second factor off, for one who lost it; ends all sign-ins."""
    with rows(), db.transaction() as session:
        user = _user(email)
        if not second_factor.remove(session, user.id):
            raise CommandError(f"{user.email} has no second factor.")
        tokens.end_all(session, user.id)
        notices.tell(session, user, "second-factor-reset")
        write_down("users.reset-second-factor", f"user:{user.id}", second_factor=False)
    console.done(f"{user.email} has no second factor now")


@group.command("suspend")
@click.argument("email")
@data_dir_option
def suspend(email: str) -> None:
    """Keep EMAIL's account out, now, and stop its jobs."""
    with rows():
        user = _change(email, Changes(suspended=True), "Suspended by an operator")
    console.done(f"{user.email} is suspended")


@group.command("restore")
@click.argument("email")
@data_dir_option
def restore(email: str) -> None:
    """Let EMAIL's suspended account in again."""
    with rows():
        user = _change(email, Changes(suspended=False), "Restored by an operator")
    console.done(f"{user.email} may sign in again")


def _change(email: str, changes: Changes, reason: str) -> User:
    user = _user(email)
    members.change(operator(), user.id, changes, reason)
    return user


def _user(email: str) -> User:
    with db.transaction() as session:
        found = users.by_email(session, email)
    if found is None:
        raise CommandError(f"There is no account {email}. Make it with: pingvas user create {email}")
    return found
