"""The whole way of a payment against the stand-in: API, checkout page, signed webhooks, plan and credits."""

from collections.abc import Callable

import httpx
import pytest
from flask.testing import FlaskClient

from pingvas import db
from pingvas.billing.lemonsqueezy import inbox
from pingvas.billing.lemonsqueezy.standin import Shop
from pingvas.billing.subscriptions.finding import doubled
from pingvas.embedded.servers import forget_settings

Headers = dict[str, str]


@pytest.fixture
def user(client: FlaskClient) -> Headers:
    body = {"email": "buyer@example.com", "password": "correct horse battery"}
    answer = client.post("/api/v1/auth/register", json=body)
    assert answer.json is not None
    return {"Authorization": f"Bearer {answer.json['access_token']}"}


@pytest.fixture
def pay(standin: Shop, client: FlaskClient, user: Headers) -> Callable[[str, dict[str, str]], None]:
    """Ask for a checkout and pay on its page."""

    def paid(call: str, body: dict[str, str]) -> None:
        answer = client.post(f"/api/v1/payments/{call}", json=body, headers=user)
        assert answer.status_code == 200, answer.text
        assert answer.json is not None
        url = answer.json["checkout_url"]
        assert "Pay" in httpx.get(url).text
        assert httpx.post(url).status_code == 303
        inbox.handle_due()

    return paid


def ask(client: FlaskClient, user: Headers, path: str) -> dict[str, object]:
    answer = client.get(f"/api/v1/{path}", headers=user)
    assert answer.status_code == 200, answer.text
    assert isinstance(answer.json, dict)
    return answer.json


def test_a_plan_is_bought_changed_in_the_portal_and_cancelled(
    standin: Shop, client: FlaskClient, user: Headers, pay: Callable[[str, dict[str, str]], None]
) -> None:
    assert ask(client, user, "subscription")["status"] == "none"
    pay("create-checkout", {"tier": "starter", "interval": "month"})
    assert ask(client, user, "credits/balance")["monthly"] == 2_500
    bought = ask(client, user, "subscription")
    assert (bought["tier"], bought["ends_at"]) == ("starter", None)
    again = client.post("/api/v1/payments/create-checkout", json={"tier": "pro"}, headers=user)
    assert (again.status_code, again.json and again.json["code"]) == (409, "SUBSCRIBED")

    portal = str(ask(client, user, "payments/portal")["portal_url"])
    assert "to studio/month" in httpx.get(portal).text
    (number,) = standin.subscriptions
    studio = next(id_ for id_, item in standin.items.items() if item.name == "studio/month")
    httpx.post(f"{standin.url}/subscriptions/{number}", data={"action": f"change:{studio}"})
    inbox.handle_due()
    assert ask(client, user, "credits/balance")["monthly"] == 15_000

    httpx.post(f"{standin.url}/subscriptions/{number}", data={"action": "cancel"})
    inbox.handle_due()
    told = ask(client, user, "subscription")
    assert (told["tier"], told["status"], told["next_tier"]) == ("studio", "cancelled", "free")
    assert (told["renews_at"], told["ends_at"]) == (None, bought["renews_at"])
    httpx.post(f"{standin.url}/subscriptions/{number}", data={"action": "expire"})
    inbox.handle_due()
    assert ask(client, user, "subscription")["tier"] == "free"


def test_a_second_click_pays_nothing_and_two_subscriptions_are_noticed(
    standin: Shop, client: FlaskClient, user: Headers
) -> None:
    urls = [
        client.post(
            "/api/v1/payments/create-checkout", json={"tier": "pro", "interval": "month"}, headers=user
        ).get_json()["checkout_url"]
        for _ in range(2)
    ]
    assert [httpx.post(urls[0]).status_code for _ in range(2)] == [303, 404]
    inbox.handle_due()
    with db.transaction() as session:
        assert doubled(session) == {}
    assert httpx.post(urls[1]).status_code == 303
    inbox.handle_due()
    with db.transaction() as session:
        assert list(doubled(session).values()) == [list(standin.subscriptions)]


def test_credits_are_bought_and_refunded_though_webhooks_come_reversed_twice_and_forged(
    standin: Shop, client: FlaskClient, user: Headers, pay: Callable[[str, dict[str, str]], None]
) -> None:
    httpx.post(f"{standin.url}/hold")
    pay("create-credit-checkout", {"package": "5000"})
    (order,) = standin.orders
    httpx.post(f"{standin.url}/orders/{order}/refund")
    pay("create-credit-checkout", {"package": "1000"})
    assert ask(client, user, "credits/balance")["purchased"] == 0
    httpx.post(f"{standin.url}/release", data={"order": "reversed"})
    httpx.post(f"{standin.url}/webhooks/0")
    httpx.post(f"{standin.url}/webhooks/0", data={"forged": "yes"})
    assert standin.courier.parcels[0].status == 401
    inbox.handle_due()
    assert ask(client, user, "credits/balance")["purchased"] == 1_000


def test_a_plan_that_is_not_paid_for_three_times_is_over(
    standin: Shop, client: FlaskClient, user: Headers, pay: Callable[[str, dict[str, str]], None]
) -> None:
    pay("create-checkout", {"tier": "pro", "interval": "year"})
    (number,) = standin.subscriptions
    for tier in ("pro", "pro", "free"):
        httpx.post(f"{standin.url}/subscriptions/{number}", data={"action": "fail"})
        inbox.handle_due()
        assert ask(client, user, "subscription")["tier"] == tier
    httpx.post(f"{standin.url}/subscriptions/{number}", data={"action": "recover"})
    inbox.handle_due()
    assert ask(client, user, "subscription")["tier"] == "pro"


@pytest.mark.parametrize(
    ("name", "back"), [("PINGVAS_WEB_URL", "https://pictures.example.com"), ("PINGVAS_PUBLIC_URL", "/")]
)
def test_who_has_paid_comes_back_to_pages_and_never_to_the_api(
    standin: Shop, client: FlaskClient, user: Headers, monkeypatch: pytest.MonkeyPatch, name: str, back: str
) -> None:
    monkeypatch.setenv(name, "https://pictures.example.com")
    forget_settings()
    answer = client.post("/api/v1/payments/create-credit-checkout", json={"package": "1000"}, headers=user)
    assert answer.json is not None
    assert httpx.post(answer.json["checkout_url"]).headers["location"] == back


@pytest.mark.parametrize(
    "body", [{"tier": "enterprise"}, {"tier": "free"}, {"tier": "pro", "interval": "day"}]
)
def test_what_cannot_be_bought_is_refused(client: FlaskClient, user: Headers, body: dict[str, str]) -> None:
    assert client.post("/api/v1/payments/create-checkout", json=body, headers=user).status_code == 422


def test_a_server_that_sells_nothing_says_so(client: FlaskClient, user: Headers) -> None:
    for call, body in (("create-checkout", {"tier": "pro"}), ("create-credit-checkout", {"package": "1000"})):
        answer = client.post(f"/api/v1/payments/{call}", json=body, headers=user)
        assert (answer.status_code, answer.json and answer.json["code"]) == (503, "PAYMENTS_NOT_CONFIGURED")


@pytest.mark.usefixtures("shop")
def test_a_shop_that_does_not_answer_is_no_error_of_ours(
    client: FlaskClient, user: Headers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PINGVAS_LEMONSQUEEZY_URL", "http://127.0.0.1:9")
    forget_settings()
    answer = client.post("/api/v1/payments/create-checkout", json={"tier": "pro"}, headers=user)
    assert (answer.status_code, answer.json and answer.json["code"]) == (503, "UNAVAILABLE")
