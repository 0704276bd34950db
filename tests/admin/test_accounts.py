"""Looking after accounts."""

from typing import Any

import pytest

from pingvas import db
from pingvas.accounts.models import User
from pingvas.billing import reconcile
from pingvas.jobs import dispatch
from tests.admin.conftest import Caller, Make, entries
from tests.jobs.test_lifecycle import claimed, row, spendable, submitted


def test_accounts_are_found_and_shown(admin: Caller, member: User) -> None:
    status, page = admin("GET", "/admin/users?email=CUSTOMER&tier=free&suspended=false")
    assert status == 200
    assert [item["id"] for item in page["items"]] == [str(member.id)]
    assert "password" not in str(page)
    assert admin("GET", "/admin/users?email=%25")[1]["items"] == []  # no wildcard
    assert len(admin("GET", "/admin/users?limit=1")[1]["items"]) == 1
    status, shown = admin("GET", f"/admin/users/{member.id}")
    assert shown["credits"] == {"balance": 100, "monthly": 100, "purchased": 0, "held": 0}


def test_a_plan_holds_from_the_next_request_on(admin: Caller, customer: Caller) -> None:
    assert customer("GET", "/users/me/tier")[1]["tier"] == "free"
    status, changed = admin(
        "PATCH", f"/admin/users/{customer.id}", {"tier": "pro", "reason": "agreed by mail"}
    )
    assert (status, changed["tier"]) == (200, "pro")
    assert customer("GET", "/users/me/tier")[1]["tier"] == "pro"
    (act,) = entries()
    assert (act.action, act.subject) == ("users.change", f"user:{customer.id}")
    assert act.before == {"tier": "free", "role": "user", "suspended": False}
    assert act.after == {"tier": "pro", "role": "user", "suspended": False, "reason": "agreed by mail"}


def test_a_suspension_ends_all_that_is_under_way(admin: Caller, customer: Caller) -> None:
    running, *waiting = [submitted(customer.id) for _ in range(3)]
    claimed(running)
    assert spendable(customer.id) == 70
    status, changed = admin("PATCH", f"/admin/users/{customer.id}", {"suspended": True, "reason": "fraud"})
    assert status == 200
    assert changed["suspended_at"]
    assert [row(job).status for job in waiting] == ["cancelled", "cancelled"]
    assert row(running).cancel_requested_at is not None
    assert spendable(customer.id) == 90  # the holds of those that waited are released at once
    assert entries()[0].after["suspended"] is True
    assert customer("GET", "/auth/me")[0] in (401, 403)
    with db.transaction() as session:
        assert reconcile.problems(session) == {}
    dispatch.flush()


def test_one_who_is_suspended_cannot_come_back_by_any_way(
    admin: Caller, customer: Caller, member: User
) -> None:
    _, made = customer("POST", "/api-keys", {"name": "a"})
    admin("PATCH", f"/admin/users/{member.id}", {"suspended": True, "reason": "fraud"})
    login = {"email": member.email, "password": "correct horse"}
    assert customer("POST", "/auth/login", login)[0] == 403
    assert customer.send("GET", "/jobs", Authorization=f"Bearer {made['key']}").status_code == 403
    admin("PATCH", f"/admin/users/{member.id}", {"suspended": False, "reason": "a mistake"})
    assert customer("POST", "/auth/login", login)[0] == 200
    assert customer("GET", "/auth/me")[0] == 401  # the old sign-in stays ended


def test_nobody_changes_their_own_role_or_suspends_themselves(admin: Caller) -> None:
    for body in ({"role": "user"}, {"suspended": True}):
        status, problem = admin("PATCH", f"/admin/users/{admin.id}", {**body, "reason": "by mistake"})
        assert (status, problem["code"]) == (409, "OWN_ACCOUNT")
    assert admin("GET", "/admin/users")[0] == 200


def test_a_role_is_changed_after_a_step_up(admin: Caller, member: User) -> None:
    status, changed = admin(
        "PATCH", f"/admin/users/{member.id}", {"role": "artist", "reason": "signed today"}
    )
    assert (status, changed["role"]) == (200, "artist")


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"reason": "nothing to do"},
        {"tier": "pro"},
        {"tier": "gold", "reason": "agreed"},
        {"role": "root", "reason": "agreed"},
        {"tier": "pro", "reason": ""},
        {"tier": "pro", "reason": "agreed", "email": "other@example.com"},
        {"tier": "pro", "reason": "agreed", "password_hash": "x"},
        {"suspended": "yes", "reason": "agreed"},
    ],
)
def test_a_wrong_change_changes_nothing(admin: Caller, member: User, body: dict[str, Any]) -> None:
    status, problem = admin("PATCH", f"/admin/users/{member.id}", body)
    assert (status, problem["code"]) in ((422, "VALIDATION"), (400, "MALFORMED"))
    assert admin("GET", f"/admin/users/{member.id}")[1]["tier"] == "free"


def test_balances_are_their_owners_and_admins_to_see(admin: Caller, customer: Caller, staff: Make) -> None:
    path = f"/credits/balance/{customer.id}"
    shown = customer("GET", path)
    assert (shown[0], shown[1]["monthly"]) == (200, 100)
    assert admin("GET", path) == shown
    assert admin("GET", f"/admin/users/{customer.id}")[1]["credits"]["balance"] == 100
    for other in (staff("user"), staff("operator")):
        assert other("GET", path)[0] == 404
        assert [line["amount"] for line in other("GET", "/credits/transactions")[1]["items"]] == [100]
    assert customer("GET", f"/credits/balance/{admin.id}")[0] == 404


def test_credits_are_given_and_taken_back_by_the_ledger(admin: Caller, customer: Caller) -> None:
    path = f"/admin/users/{customer.id}/credits"
    assert admin("POST", path, {"amount": 50, "reason": "outage of 3 May"})[1]["purchased"] == 50
    assert admin("POST", path, {"amount": -20, "reason": "too much"})[1]["balance"] == 130
    newest = customer("GET", "/credits/transactions")[1]["items"][0]
    assert (newest["type"], newest["amount"], newest["description"]) == ("adjustment", -20, "too much")
    act = entries()[-1]
    assert (act.before, act.after["purchased"], act.after["amount"]) == ({"purchased": 50}, 30, -20)
    with db.transaction() as session:
        assert reconcile.problems(session) == {}


@pytest.mark.parametrize("amount", [0, 10**12 + 1, -(10**12) - 1, 1.5, "5", True])
def test_a_wrong_amount_is_refused(admin: Caller, member: User, amount: object) -> None:
    status, problem = admin(
        "POST", f"/admin/users/{member.id}/credits", {"amount": amount, "reason": "a gift"}
    )
    assert (status, problem["code"]) == (422, "VALIDATION")


def test_more_than_there_is_cannot_be_taken_back(admin: Caller, member: User) -> None:
    body = {"amount": -1, "reason": "a mistake"}
    status, problem = admin("POST", f"/admin/users/{member.id}/credits", body)
    assert (status, problem["code"], problem["available"]) == (409, "TOO_FEW_CREDITS", 0)
    assert spendable(member.id) == 100
    assert entries()[-1].after["code"] == "TOO_FEW_CREDITS"


def test_who_is_not_there_is_404(admin: Caller, staff: Make) -> None:
    nobody = "/admin/users/018f0000-0000-7000-8000-000000000000"
    assert admin("GET", nobody)[0] == 404
    assert admin("PATCH", nobody, {"tier": "pro", "reason": "agreed"})[0] == 404
    assert admin("POST", f"{nobody}/credits", {"amount": 1, "reason": "a gift"})[0] == 404
    assert admin("GET", "/admin/users/nonsense")[0] == 404
