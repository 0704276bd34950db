"""Jobs, dead letters, numbers, books and the trail."""

from uuid import UUID

import pytest
from sqlalchemy import text

from pingvas import db
from pingvas.accounts.models import User
from pingvas.billing import reconcile
from tests.admin.conftest import Caller, entries
from tests.jobs.dead_letters.conftest import failed, letter
from tests.jobs.test_lifecycle import purge, spendable, submitted

LETTERS = "/admin/dead-letters"


@pytest.fixture
def dead(member: User) -> list[UUID]:
    purge()
    return [failed(member.id) for _ in range(2)]


def test_everybodys_jobs_are_listed(admin: Caller, member: User) -> None:
    job_id = submitted(member.id)
    status, page = admin("GET", f"/admin/jobs?status=pending&tier=free&model=tiny&user_id={member.id}")
    assert status == 200
    assert [item["job_id"] for item in page["items"]] == [str(job_id)]
    assert page["items"][0]["user_id"] == str(member.id)
    assert admin("GET", "/admin/jobs?status=failed")[1]["items"] == []
    assert admin("GET", "/admin/jobs?user_id=nobody")[0] == 422


def test_dead_letters_are_listed_by_filter(admin: Caller, dead: list[UUID]) -> None:
    status, page = admin("GET", f"{LETTERS}?class=infrastructure&code=STORE_UNAVAILABLE&tier=free")
    assert status == 200
    assert {item["job_id"] for item in page["items"]} == set(map(str, dead))
    assert page["items"][0]["class"] == "infrastructure"
    assert admin("GET", f"{LETTERS}?class=poison")[1]["items"] == []
    assert admin("GET", f"{LETTERS}?before=2020-01-01T00:00:00Z")[1]["items"] == []
    assert admin("GET", f"{LETTERS}?class=nonsense")[0] == 422


def test_a_replay_is_done_once(admin: Caller, dead: list[UUID], member: User) -> None:
    path = f"{LETTERS}/{dead[0]}/replay"
    status, first = admin("POST", path)
    assert status == 200
    assert admin("POST", path) == (200, first)
    assert spendable(member.id) == 90
    act = entries()[0]
    assert (act.actor, act.action) == (f"user:{admin.id}", "dead_letter.replay")
    assert act.after == {"state": "replayed", "replayed_as": first["replayed_as"]}
    assert admin("POST", f"{LETTERS}/{member.id}/replay")[0] == 404


def test_a_filter_is_previewed_and_then_replayed_once(admin: Caller, dead: list[UUID], member: User) -> None:
    body = {"class": "infrastructure", "before": "2100-01-01T00:00:00Z"}
    _, preview = admin("POST", f"{LETTERS}/replay", body)
    told = {"jobs": 2, "credits": 20, "cannot_pay": 0, "more": False}
    assert preview == {**told, "replayed": [], "refused": []}
    assert spendable(member.id) == 100
    _, done = admin("POST", f"{LETTERS}/replay", {**body, "confirm": True})
    assert {item["job_id"] for item in done["replayed"]} == set(map(str, dead))
    assert spendable(member.id) == 80
    _, again = admin("POST", f"{LETTERS}/replay", {**body, "confirm": True})
    assert (again["jobs"], again["replayed"]) == (0, [])
    with db.transaction() as session:
        assert reconcile.problems(session) == {}


def test_a_customer_who_cannot_pay_is_refused_and_the_others_are_not(
    admin: Caller, dead: list[UUID], member: User
) -> None:
    with db.transaction() as session:
        session.execute(text("UPDATE wallets SET monthly = 15 WHERE user_id = :id"), {"id": member.id})
    _, done = admin("POST", f"{LETTERS}/replay", {"job_ids": list(map(str, dead)), "confirm": True})
    assert (done["cannot_pay"], len(done["replayed"])) == (1, 1)
    assert done["refused"][0]["code"] == "INSUFFICIENT_CREDITS"
    assert letter(UUID(done["refused"][0]["job_id"])).state == "open"  # type: ignore[union-attr]


def test_a_letter_is_dropped_once_and_not_replayed_then(admin: Caller, dead: list[UUID]) -> None:
    assert admin("POST", f"{LETTERS}/{dead[0]}/drop")[0] == 200
    assert admin("POST", f"{LETTERS}/{dead[0]}/drop")[0] == 200
    status, problem = admin("POST", f"{LETTERS}/{dead[0]}/replay")
    assert (status, problem["code"]) == (409, "NOT_OPEN")


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"confirm": True},
        {"job_ids": [], "confirm": True},
        {"job_ids": ["018f0000-0000-7000-8000-000000000000"], "tier": "free"},
        {"job_ids": ["nonsense"]},
        {"before": "2024-01-01T00:00:00"},
        {"all": True},
    ],
)
def test_neither_or_both_of_ids_and_filter_is_a_mistake(admin: Caller, body: dict[str, object]) -> None:
    assert admin("POST", f"{LETTERS}/replay", body)[0] == 422


def test_the_numbers_add_up(admin: Caller, dead: list[UUID], member: User) -> None:
    submitted(member.id)
    status, stats = admin("GET", "/admin/stats")
    assert status == 200
    assert stats["users"] == {"free": 2}
    assert stats["jobs"] == {"failed": 2, "pending": 1}
    assert stats["dead_letters"]["infrastructure"] == 2
    assert {queue["tier"]: queue["waiting"] for queue in stats["queues"]}["free"] == 1


def test_the_books_are_proved(admin: Caller, member: User) -> None:
    assert admin("GET", "/admin/reconcile") == (200, {"ok": True, "problems": {}})
    with db.transaction() as session:
        session.execute(text("UPDATE wallets SET monthly = 7 WHERE user_id = :id"), {"id": member.id})
    _, books = admin("GET", "/admin/reconcile")
    assert books["ok"] is False
    assert "monthly is 7" in str(books["problems"])


def test_the_trail_is_listed_and_lists_itself(admin: Caller, member: User) -> None:
    admin("PATCH", f"/admin/users/{member.id}", {"tier": "pro", "reason": "agreed"})
    _, page = admin("GET", f"/admin/audit?subject=user:{member.id}&action=users.change&actor=user:{admin.id}")
    (entry,) = page["items"]
    assert (entry["before"]["tier"], entry["after"]["tier"], entry["ip"]) == ("free", "pro", "127.0.0.1")
    assert admin("GET", "/admin/audit?limit=1")[1]["items"][0]["action"] == "audit.list"
    assert admin("GET", "/admin/audit?since=2100-01-01T00:00:00Z")[1]["items"] == []
