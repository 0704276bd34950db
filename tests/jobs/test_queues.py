"""GET /queues: what waits in each tier, exact up to a thousand, as quickly told beyond."""

from collections.abc import Iterator

import pytest
from flask.testing import FlaskClient
from sqlalchemy import text

from pingvas import clock, db, ids
from pingvas.accounts.register import register
from pingvas.jobs import eta, queues, tiers
from pingvas.jobs.tiers import State

pytestmark = pytest.mark.usefixtures("clean_db")

_WAITING = text("""
    INSERT INTO jobs (id, user_id, kind, status, tier, priority, model, prompt, parameters, credits_quoted,
                      attempt, failures, created_at, run_after)
    SELECT job, :user, 'text2image', 'pending', 'free', 'interactive', 'tiny', 'a circle',
           '{"width": 128, "height": 128, "steps": 12, "num_images": 1}', 10, 0, 0, :now, :now
    FROM unnest(CAST(:ids AS uuid[])) AS job""")


@pytest.fixture(autouse=True)
def _blank_pictures() -> Iterator[None]:
    eta.snapshots.current.forget()
    yield
    eta.snapshots.current.forget()


def wait(number: int) -> None:
    user = register(f"{ids.new()}@example.com", "correct horse battery")
    with db.transaction() as session:
        made = [ids.new() for _ in range(number)]
        session.execute(_WAITING, {"user": user.id, "now": clock.now(), "ids": made})


def waiting() -> dict[str, int]:
    return {queue.tier: queue.waiting for queue in queues.snapshot()}


def test_a_short_queue_is_counted_anew_each_time() -> None:
    assert waiting()["free"] == 0
    wait(3)
    assert waiting() == {"enterprise": 0, "studio": 0, "pro": 0, "starter": 0, "free": 3}


@pytest.mark.parametrize("number", [999, 1_000, 1_001, 1_250])
def test_a_long_queue_is_counted_from_where_it_was_counted_last(number: int) -> None:
    wait(number)
    eta.snapshots.current.forget()
    assert waiting()["free"] == number
    wait(7)
    assert waiting()["free"] == number + 7


def test_a_tier_says_that_it_is_paused(client: FlaskClient) -> None:
    form = {"email": "customer@example.com", "password": "correct horse battery"}
    token = client.post("/api/v1/auth/register", json=form).get_json()["access_token"]
    tiers.change("free", State.PAUSED, by="a test")
    shown = client.get("/api/v1/queues", headers={"Authorization": f"Bearer {token}"}).get_json()["items"]
    assert {queue["tier"]: queue["state"] for queue in shown}["free"] == "paused"
