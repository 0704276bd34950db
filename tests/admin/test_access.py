"""Who may call, and the row that every call leaves."""

import logging
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from pingvas import db, ids
from pingvas.admin import staff as staff_module
from pingvas.web.api import Contract
from tests.admin.conftest import Caller, Make, entries

STEPPED_UP = {"users.credits"}
SOME_ID = str(ids.new())


def calls(app: Flask) -> list[tuple[str, str]]:
    """Return method and path of every admin call."""
    found = []
    for rule in app.url_map.iter_rules():
        if rule.rule.startswith(staff_module.PREFIX):
            path = rule.rule.removeprefix("/api/v1")
            for name in rule.arguments:
                path = path.replace(f"<{name}>", SOME_ID)
            found += [(method, path) for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}]
    assert len(found) >= 12
    return sorted(found)


def test_a_customer_may_call_nothing(app: Flask, customer: Caller) -> None:
    for method, path in calls(app):
        status, problem = customer(method, path, {})
        assert (status, problem["code"]) == (403, "FORBIDDEN"), (method, path)
    assert entries() == []  # nobody fills the trail from outside


def test_an_admin_without_the_second_factor_may_call_nothing(app: Flask, staff: Make) -> None:
    careless = staff(second_factor=False)
    for method, path in calls(app):
        status, problem = careless(method, path, {})
        assert (status, problem["code"]) == (403, "SECOND_FACTOR_REQUIRED"), (method, path)


def test_an_operator_reads_jobs_and_dead_letters_only(app: Flask, staff: Make) -> None:
    operator = staff("operator")
    allowed = {("GET", "/admin/jobs"), ("GET", "/admin/dead-letters"), ("GET", "/admin/stats")}
    for method, path in calls(app):
        status, _ = operator(method, path, {})
        assert (status == 200) is ((method, path) in allowed), (method, path)
        assert status in (200, 403)


def test_every_call_has_the_scope_and_the_guard(app: Flask) -> None:
    for rule in app.url_map.iter_rules():
        view = app.view_functions[rule.endpoint]
        contract = getattr(view, "_spec", {}).get("extensions", {}).get("x-contract")
        if rule.rule.startswith(staff_module.PREFIX):
            assert isinstance(contract, Contract)
            assert contract.scope == "admin", rule.rule
            assert view.__code__.co_filename == staff_module.__file__, rule.rule


def test_every_call_leaves_a_row(app: Flask, admin: Caller) -> None:
    for method, path in calls(app):
        before = len(entries())
        answer = admin.send(method, path, {}, **{"X-Request-Id": "call-1"})
        assert answer.status_code < 500, answer.text
        (row,) = entries()[before:]
        assert row.actor == f"user:{admin.id}"
        assert (row.request_id, row.ip) == ("call-1", "127.0.0.1")
        assert row.subject
        if answer.status_code >= 400:
            assert row.after["code"] == (answer.json or {})["code"]


def test_dangerous_calls_need_a_step_up(staff: Make, member: Any) -> None:
    stale = staff(stale=True)
    credits = {"amount": 5, "reason": "a gift"}
    for method, path, body in (
        ("POST", f"/admin/users/{member.id}/credits", credits),
        ("PATCH", f"/admin/users/{member.id}", {"role": "admin", "reason": "a friend"}),
        ("POST", "/admin/dead-letters/replay", {"tier": "free", "confirm": True}),
    ):
        status, problem = stale(method, path, body)
        assert (status, problem["code"]) == (403, "STEP_UP_REQUIRED"), path
    assert stale("PATCH", f"/admin/users/{member.id}", {"tier": "pro", "reason": "agreed"})[0] == 200
    assert stale("POST", "/admin/dead-letters/replay", {"tier": "free"})[0] == 200


def test_a_demoted_admin_is_out_at_once_even_for_a_repeated_call(admin: Caller, member: Any) -> None:
    path, body = f"/admin/users/{member.id}/credits", {"amount": 5, "reason": "a gift"}
    first = admin.send("POST", path, body, **{"Idempotency-Key": "gift-1"})
    again = admin.send("POST", path, body, **{"Idempotency-Key": "gift-1"})
    assert first.json == again.json
    assert again.headers["Idempotent-Replayed"] == "true"
    assert len([row for row in entries() if row.action == "users.credits"]) == 2
    with db.transaction() as session:
        session.execute(text("UPDATE users SET role = 'user' WHERE id = :id"), {"id": admin.id})
    assert admin.send("POST", path, body, **{"Idempotency-Key": "gift-1"}).status_code == 403


@pytest.mark.parametrize("statement", ["UPDATE audit_log SET actor = 'nobody'", "DELETE FROM audit_log"])
def test_the_trail_cannot_be_changed(admin: Caller, statement: str) -> None:
    admin("GET", "/admin/audit")
    with pytest.raises(IntegrityError, match="append-only"), db.transaction() as session:
        session.execute(text(statement))
    assert len(entries()) == 1


def test_odd_bytes_in_a_path_or_query_do_no_harm(admin: Caller) -> None:
    for path in (
        "/admin/users/%00",
        "/admin/users/%ff%fe",
        "/admin/users?email=%00",
        "/admin/users?x=%0d%0aY",
    ):
        assert admin("GET", path)[0] in (404, 422), path
    assert len(entries()) == 4


def test_who_may_not_call_does_not_fill_the_log_with_lines(
    customer: Caller, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR):
        customer("GET", "/admin/audit")
    assert caplog.text == ""
