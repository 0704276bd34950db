"""Why jobs do not move, by their rows."""

from uuid import UUID

import pytest
from sqlalchemy import text

from pingvas import db
from pingvas.accounts.register import register
from pingvas.jobs import stuck, tiers
from pingvas.jobs.stuck import Row, why
from pingvas.jobs.tiers import State
from tests.jobs.test_lifecycle import claimed, submitted

pytestmark = pytest.mark.usefixtures("clean_db", "no_workers")


@pytest.fixture
def user_id() -> UUID:
    return register("artist@example.com", "correct horse battery").id


@pytest.mark.parametrize(
    ("row", "paused", "served", "said"),
    [
        (Row(700, -700, 3), True, True, "the tier is paused"),
        (Row(700, -700, 3), False, False, "no worker serves the tier"),
        (Row(700, 25, None), False, True, "it is tried again in 25 s"),
        (Row(700, -700, None), False, True, "its customer's places are taken"),
        (Row(700, -700, 90), False, True, "it was rung 90 s ago and no worker has taken it"),
        (Row(700, -700, 3), False, True, "its turn"),
    ],
)
def test_what_a_job_waits_for(row: Row, paused: bool, served: bool, said: str) -> None:
    assert why(row, paused=paused, served=served, silence=60) == said


def test_the_oldest_job_of_each_tier(user_id: UUID) -> None:
    assert stuck.oldest() == []
    first, _ = submitted(user_id), submitted(user_id)
    with db.transaction() as session:
        session.execute(
            text("UPDATE jobs SET created_at = created_at - interval '1 hour' WHERE id = :id"), {"id": first}
        )
    (found,) = stuck.oldest()
    assert (found.tier, found.why) == ("free", "no worker serves the tier")
    assert found.seconds >= 3_600
    tiers.change("free", State.PAUSED, by="ada@desk")
    assert [one.why for one in stuck.oldest()] == ["the tier is paused"]


def test_leases_and_bells_that_nobody_looks_after(user_id: UUID) -> None:
    rung, running = submitted(user_id), submitted(user_id)
    with db.transaction() as session:
        session.execute(text("UPDATE jobs SET rung_at = clock_timestamp()"))
    claimed(running)
    assert (stuck.expired_leases(), stuck.unanswered()) == (0, 0)
    with db.transaction() as session:
        session.execute(
            text("""UPDATE jobs SET lease_expires_at = lease_expires_at - interval '1 hour',
                    rung_at = rung_at - interval '1 hour'""")
        )
    assert (stuck.expired_leases(), stuck.unanswered()) == (1, 1)
    assert rung != running
