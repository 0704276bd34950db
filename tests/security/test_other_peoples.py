"""Nobody reaches what is somebody else's: every route is tried with the ids of another user (IDOR)."""

import re
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import text

from pingvas import db, ids
from pingvas.accounts import keys
from pingvas.accounts.register import register
from pingvas.accounts.tokens import sign_in
from pingvas.jobs import lifecycle
from pingvas.web.api import Contract
from tests.jobs.test_lifecycle import claimed, picture, submitted

# Names of files of the documentation, of plans and models: about nobody.
ABOUT_NOBODY = frozenset({"name", "slug", "tier", "model"})
# A provider that accounts are linked by: the row it means is always the caller's.
OF_THE_CALLER = frozenset({"provider"})
BODIES: dict[str, Any] = {"PATCH": {}, "PUT": {}, "POST": {}}
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")


class Victim:
    """Somebody with one of everything."""

    def __init__(self) -> None:
        self.email = "victim@example.com"
        user = register(self.email, "correct horse", "Vic")
        waiting, done = submitted(user.id), submitted(user.id)
        stored = picture()
        lifecycle.complete(claimed(done), [stored], 1.0)
        with db.transaction() as session:
            key, _ = keys.create(session, user.id, "theirs")
            family = sign_in(session, user).family_id
        self.ids: dict[str, UUID] = {
            "user_id": user.id,
            "job_id": waiting,
            "image_id": stored.id,
            "key_id": key.id,
            "session_id": family,
        }


@pytest.fixture
def victim(clean_db: None) -> Victim:
    return Victim()


@pytest.fixture
def attacker(client: FlaskClient, victim: Victim) -> Iterator[FlaskClient]:
    with db.transaction() as session:
        token = sign_in(session, register("attacker@example.com", "correct horse")).access_token
    client.environ_base["HTTP_AUTHORIZATION"] = f"Bearer {token}"
    yield client
    del client.environ_base["HTTP_AUTHORIZATION"]


def contracts(app: Flask) -> Iterator[tuple[Any, Contract]]:
    """Yield every route with its contract."""
    for rule in app.url_map.iter_rules():
        view = app.view_functions[rule.endpoint]
        contract = getattr(view, "_spec", {}).get("extensions", {}).get("x-contract")
        if isinstance(contract, Contract):
            yield rule, contract


def belongings(victim: Victim) -> dict[str, list[str]]:
    """Return every row that is the victim's, table by table."""
    found = {}
    with db.transaction() as session:
        for name, table in db.Base.metadata.tables.items():
            column = "id" if name == "users" else "user_id"
            if column in table.c:
                query = text(f"SELECT t::text FROM {name} t WHERE {column} = :id ORDER BY 1")
                found[name] = list(session.scalars(query, {"id": victim.ids["user_id"]}))
    return found


def filled(rule: str, values: dict[str, UUID]) -> str:
    return re.sub(r"<(?:[^:>]*:)?(\w+)>", lambda found: str(values[found[1]]), rule)


def test_every_route_is_tried_with_another_users_ids(
    app: Flask, attacker: FlaskClient, victim: Victim
) -> None:
    before, tried = belongings(victim), 0
    assert len(before) >= 8
    for rule, contract in contracts(app):
        names = rule.arguments - ABOUT_NOBODY - OF_THE_CALLER
        if not names or rule.arguments & (ABOUT_NOBODY | OF_THE_CALLER):
            continue
        unknown = names - set(victim.ids)
        assert not unknown, f"{rule.rule}: say in this test what {unknown} is, so that the route is tried"
        nothing = dict.fromkeys(victim.ids, ids.new())
        for method in set(METHODS) & (rule.methods or set()):
            theirs, nobodys = (
                attacker.open(filled(rule.rule, values), method=method, json=BODIES.get(method))
                for values in (victim.ids, nothing)
            )
            assert theirs.status_code in (403, 404, 422), (method, rule.rule, theirs.text)
            # Not even that there is such a thing is told.
            assert theirs.status_code == nobodys.status_code, (method, rule.rule)
            assert (theirs.json or {})["code"] == (nobodys.json or {})["code"], (method, rule.rule)
            assert victim.email not in theirs.text
            tried += 1
            assert not (contract.public and theirs.status_code == 200)
    assert tried >= 15
    assert belongings(victim) == before


def test_no_list_shows_what_is_somebody_elses(app: Flask, attacker: FlaskClient, victim: Victim) -> None:
    for rule, _ in contracts(app):
        if "GET" in (rule.methods or ()) and not rule.arguments:
            told = attacker.get(rule.rule).text
            assert victim.email not in told, rule.rule
            assert not [name for name, id_ in victim.ids.items() if str(id_) in told], rule.rule


def test_no_body_takes_fields_that_it_does_not_name(app: Flask) -> None:
    bodies = {contract.body for _, contract in contracts(app) if contract.body}
    assert len(bodies) >= 8
    for body in bodies:
        assert body.model_config["extra"] == "forbid", body
        assert body.model_config["strict"] is True, body


@pytest.mark.parametrize(
    "field",
    [
        {"role": "admin"},
        {"tier": "enterprise"},
        {"id": "018f0000-0000-7000-8000-000000000000"},
        {"user_id": "018f0000-0000-7000-8000-000000000000"},
        {"is_admin": True},
        {"suspended_at": None},
        {"email_verified_at": "2024-01-01T00:00:00Z"},
        {"password_hash": "x"},
        {"credits": 1_000_000},
        {"__class__": "Admin"},
    ],
)
def test_nobody_registers_with_more_than_is_offered(client: FlaskClient, field: dict[str, Any]) -> None:
    account = {"email": "mallory@example.com", "password": "correct horse battery"}
    answer = client.post("/api/v1/auth/register", json=account | field)
    assert (answer.status_code, (answer.json or {})["code"]) == (422, "VALIDATION")
    assert client.post("/api/v1/auth/register", json=account).status_code == 201


@pytest.mark.parametrize(
    "field",
    [{"user_id": str(ids.new())}, {"tier": "enterprise"}, {"credits_quoted": 0}, {"status": "completed"}],
)
def test_a_job_takes_no_owner_price_or_state(attacker: FlaskClient, field: dict[str, Any]) -> None:
    answer = attacker.post("/api/v1/generate", json={"prompt": "a red circle"} | field)
    assert (answer.status_code, (answer.json or {})["code"]) == (422, "VALIDATION")
