"""Submits of many customers in one round trip of a lane."""

import asyncio
from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import text

from pingvas import db
from pingvas.accounts.register import register
from pingvas.asgi.lane import Lane
from pingvas.billing import reconcile
from pingvas.errors import Forbidden, InsufficientCredits
from pingvas.jobs import submit
from pingvas.jobs.submit import Accepted, Order

pytestmark = pytest.mark.usefixtures("clean_db")

ORDER = Order(prompt="a red circle")


def customer(number: int = 0) -> UUID:
    return register(f"customer-{number}@example.com", "correct horse battery").id


def order(user: UUID) -> Callable[[], Accepted]:
    return lambda: submit.submit(user, "free", ORDER)


async def together(*works: Callable[[], Accepted]) -> list[Any]:
    lane = Lane("test")
    results = [lane.run(work) for work in works]
    found: list[Any] = await asyncio.gather(*results, return_exceptions=True)
    lane.close()
    return found


def owners() -> dict[UUID, UUID]:
    with db.transaction() as session:
        return {row.id: row.user_id for row in session.execute(text("SELECT id, user_id FROM jobs"))}


def test_each_customer_gets_their_own_job() -> None:
    users = [customer(number) for number in range(5)]
    accepted = asyncio.run(together(*(order(user) for user in users)))
    assert owners() == {job.job_id: user for job, user in zip(accepted, users, strict=True)}


def test_one_customer_many_times_is_given_no_more_than_the_credits_pay() -> None:
    user = customer()  # has 100, and ten are held for a job; the studio plan has room for all of them
    poor = [lambda: submit.submit(user, "studio", ORDER) for _ in range(30)]
    found = asyncio.run(together(*poor))
    assert sum(isinstance(each, Accepted) for each in found) == 10
    assert sum(isinstance(each, InsufficientCredits) for each in found) == 20
    with db.transaction() as session:
        assert not reconcile.problems(session)


def test_a_locked_wallet_keeps_nobody_else_waiting() -> None:
    locked, free = customer(1), customer(2)

    async def scenario() -> None:
        lane = Lane("test")
        with db.engine().connect() as other:
            other.execute(text("SELECT FROM wallets WHERE user_id = :id FOR UPDATE"), {"id": locked})
            waits = lane.run(order(locked))
            served = await asyncio.wait_for(lane.run(order(free)), 10)
            assert not waits.done()
            assert owners() == {served.job_id: free}
            other.rollback()
        await asyncio.wait_for(waits, 10)
        lane.close()

    asyncio.run(scenario())
    assert set(owners().values()) == {locked, free}


def test_who_was_suspended_since_the_sign_in_gets_no_job() -> None:
    user, other = customer(1), customer(2)
    with db.transaction() as session:
        session.execute(text("UPDATE users SET suspended_at = now() WHERE id = :id"), {"id": user})
    refused, accepted = asyncio.run(together(order(user), order(other)))
    assert isinstance(refused, Forbidden)
    assert owners() == {accepted.job_id: other}
