"""The webhook's door: only what the shop signed, stored before it is answered, each once."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from flask.testing import FlaskClient
from sqlalchemy import func, select
from werkzeug.test import TestResponse

from pingvas import db
from pingvas.billing.lemonsqueezy import inbox
from pingvas.billing.lemonsqueezy.models import WebhookEvent
from tests.billing.conftest import SECRET, Books
from tests.billing.lemonsqueezy.shapes import order

URL = "/api/v1/webhooks/lemon-squeezy"


def send(client: FlaskClient, body: bytes, signature: str | None = None) -> TestResponse:
    signed = inbox.signature(body, SECRET) if signature is None else signature
    return client.post(URL, data=body, headers={"X-Signature": signed}, content_type="application/json")


def stored() -> int:
    with db.transaction() as session:
        return session.scalars(select(func.count()).select_from(WebhookEvent)).one()


@pytest.mark.usefixtures("shop")
def test_what_is_signed_is_stored_once_and_handled_later(client: FlaskClient, books: Books) -> None:
    body = order("created", books.user_id)
    assert [send(client, body).status_code for _ in range(3)] == [200, 200, 200]
    assert stored() == 1
    assert not inbox.store(body)
    assert books.balances == (100, 0, 0)
    assert inbox.handle_due() == {"handled": 1, "waiting": 0}
    assert books.balances == (100, 1_000, 0)


@pytest.mark.usefixtures("shop")
@pytest.mark.parametrize("signature", ["", "0" * 64, "é", "sha256=x"])
def test_a_forged_one_is_refused_and_not_stored(client: FlaskClient, books: Books, signature: str) -> None:
    body = order("created", books.user_id)
    answer = send(client, body, signature)
    assert answer.status_code == 401
    assert answer.json is not None
    assert answer.json["code"] == "UNAUTHORIZED"
    changed = client.post(URL, data=body + b" ", headers={"X-Signature": inbox.signature(body, SECRET)})
    assert changed.status_code == 401
    assert stored() == 0


def test_without_a_secret_the_shop_is_asked_to_come_back(client: FlaskClient) -> None:
    assert send(client, b"{}", "x").status_code == 503
    assert stored() == 0


@pytest.mark.usefixtures("shop")
def test_the_same_one_many_times_at_once_counts_once(books: Books) -> None:
    for number in range(100):
        body = order("created", books.user_id, id_=number + 100)
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda _, body=body: (inbox.store(body), inbox.handle_due()), range(4)))
    inbox.handle_due()
    assert books.balances == (100, 100_000, 0)
    assert books.problems() == {}
