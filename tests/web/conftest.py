"""A few views that do nothing but what the web glue makes of them."""

from collections.abc import Callable
from datetime import datetime
from threading import Event
from uuid import UUID

import pytest
from flask.testing import FlaskClient
from pydantic import Field
from sqlalchemy import select

from pingvas import clock, db
from pingvas.accounts import keys
from pingvas.accounts.models import ApiKey
from pingvas.accounts.register import register
from pingvas.accounts.tokens import sign_in
from pingvas.app import create_app
from pingvas.errors import Conflict
from pingvas.web import auth
from pingvas.web.api import Answer, Blueprint, Body, Query, Reply, endpoint
from pingvas.web.schema import Moment

Headers = dict[str, str]


class EchoBody(Body):
    text: str
    count: int = Field(1, le=10)
    ratio: float = 0.5
    tags: list[str] = Field(default_factory=list)
    owner: UUID | None = None
    due: Moment | None = None


class EchoReply(Reply):
    text: str
    count: int
    at: datetime


class FilterQuery(Query):
    status: list[str] = Field(default_factory=list)
    limit: int = 20
    since: Moment | None = None


class FilterReply(Reply):
    status: list[str]
    limit: int


class SlowBody(Body):
    name: str
    wait: bool = False
    fail: bool = False


class SlowReply(Reply):
    name: str
    number: int


class Gate:
    """Lets a test hold a view in its middle."""

    def __init__(self) -> None:
        self.entered = Event()
        self.leave = Event()


@pytest.fixture
def gate() -> Gate:
    return Gate()


@pytest.fixture
def probes(clean_db: None, gate: Gate) -> FlaskClient:
    """A client without cookies of an app that has the views below."""
    bp = Blueprint("probes", tag="Probes", url_prefix="/probes")

    @bp.post("/echo")
    @endpoint(body=EchoBody, reply=EchoReply, public=True)
    def echo(body: EchoBody) -> EchoReply:
        return EchoReply(text=body.text, count=body.count, at=clock.now())

    @bp.get("/filter")
    @endpoint(query=FilterQuery, reply=FilterReply, public=True)
    def filtered(query: FilterQuery) -> FilterReply:
        return FilterReply(status=query.status, limit=query.limit)

    @bp.post("/keys")
    @endpoint(body=SlowBody, reply=SlowReply, status=201, idempotent=True, scope="generate")
    def make(body: SlowBody) -> Answer:
        user = auth.current().id
        with db.transaction() as session:
            keys.create(session, user, body.name)
            number = len(session.scalars(select(ApiKey.id).where(ApiKey.user_id == user)).all())
        if body.fail:
            raise Conflict
        if body.wait:
            gate.entered.set()
            gate.leave.wait(10)
        return Answer(SlowReply(name=body.name, number=number), headers={"Location": f"/probes/{number}"})

    @bp.post("/broken")
    @endpoint(reply=SlowReply, public=True)
    def broken() -> SlowReply:
        raise ZeroDivisionError("a secret of the inside")

    app = create_app()
    app.register_blueprint(bp)
    return app.test_client(use_cookies=False)


@pytest.fixture
def bearer(clean_db: None) -> Callable[[str], Headers]:
    """Make an account; return the header that signs it in."""

    def make(email: str = "ada@example.com") -> Headers:
        with db.transaction() as session:
            token = sign_in(session, register(email, "correct horse")).access_token
        return {"Authorization": f"Bearer {token}"}

    return make
