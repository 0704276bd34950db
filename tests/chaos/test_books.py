"""The proof itself: it says nothing of a job that went well, and names whatever is damaged."""

from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import text

from gpu_worker.request import Picture
from pingvas import db, ids, storage
from pingvas.accounts.register import register
from pingvas.gallery import pictures
from pingvas.jobs import lifecycle, submit
from pingvas.jobs.submit import Accepted, Order
from tests.chaos import books
from tests.chaos.customers import Answers

PICTURE = Picture(b"a picture", {256: b"smaller", 512: b"small"}, 16, 16, 7)

pytestmark = pytest.mark.usefixtures("clean_db")


@pytest.fixture
def user() -> Any:
    return register(f"{ids.new()}@example.com", "correct horse battery", tier="studio")


def ordered(user: Any) -> Accepted:
    return submit.submit(user.id, user.tier, Order(prompt="order 0"))


def delivered(user: Any) -> Accepted:
    accepted = ordered(user)
    held = lifecycle.claim(accepted.job_id, "a worker")
    assert held is not None
    lifecycle.complete(held, [pictures.store(user.id, ids.new(), PICTURE)], 2.5)
    return accepted


def told(accepted: Accepted) -> Answers:
    return Answers(accepted={0: str(accepted.job_id)}, told={0: accepted.credits})


def test_of_a_job_that_went_well_they_say_nothing(user: Any) -> None:
    assert books.problems(told(delivered(user))) == {}


@pytest.mark.parametrize(
    ("check", "damage"),
    [
        ("jobs that have not ended", "UPDATE jobs SET status = 'pending'"),
        ("jobs whose end is not whole", "UPDATE jobs SET completed_at = NULL"),
        ("holds that are neither captured nor released", "UPDATE holds SET settled_at = NULL"),
        ("jobs whose money moved other than once", "UPDATE holds SET captured = 0"),
        ("captures that differ from what the job used", "UPDATE jobs SET gpu_seconds = 9"),
        ("ledger entries that do not belong to one job's charge", "UPDATE holds SET captured = 4"),
        ("pictures without a charge", "UPDATE holds SET captured = 0"),
        ("jobs whose pictures are not those ordered", "DELETE FROM images"),
        ("charges without a picture", "UPDATE jobs SET status = 'failed'"),
        ("failures that left no record", "UPDATE jobs SET failures = 1"),
        ("failed jobs without their dead letter, or the reverse", "UPDATE jobs SET status = 'failed'"),
        ("orders that are not what the customer was told", "UPDATE jobs SET credits_quoted = 11"),
        ("jobs whose events say otherwise", "UPDATE jobs SET status = 'cancelled'"),
        ("balances that differ from their entries", "UPDATE wallets SET monthly = monthly + 1"),
    ],
)
def test_damage_is_named(user: Any, check: str, damage: str) -> None:
    answers = told(delivered(user))
    with db.transaction() as session:
        session.execute(text(damage))
    assert check in books.problems(answers)


def test_an_order_that_was_done_twice_is_named(user: Any) -> None:
    answers = [told(delivered(user)) for _ in range(2)]
    found = books.problems(answers[0])
    assert set(found) == {"orders with more than one job", "orders that were delivered more than once"}


def test_bytes_that_are_gone_are_named(user: Any) -> None:
    answers = told(delivered(user))
    with db.transaction() as session:
        image_id: UUID = session.execute(text("SELECT id FROM images")).scalar_one()
    storage.default().delete(pictures.original_key(user.id, image_id))
    assert set(books.problems(answers)) == {"pictures whose bytes are not there"}
