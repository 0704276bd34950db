"""The stand-in's API and pages."""

from typing import Any

from flask import Flask, Response, abort, redirect, render_template, request
from werkzeug.wrappers import Response as Redirect

from pingvas.billing.lemonsqueezy.standin.shop import ACTIONS, Checkout, Shop


def create_app(shop: Shop, api_key: str) -> Flask:
    """Return the stand-in as a WSGI application."""
    app = Flask(__name__)
    _api(app, shop, api_key)
    _checkout(app, shop)
    _back_office(app, shop)
    return app


def _api(app: Flask, shop: Shop, api_key: str) -> None:
    def check() -> None:
        if request.headers.get("Authorization") != f"Bearer {api_key}":
            abort(401)

    @app.post("/v1/checkouts")
    def create() -> Response:
        check()
        data = request.get_json(force=True)["data"]
        asked, variant = data["attributes"], data["relationships"]["variant"]["data"]["id"]
        if variant not in shop.items:
            abort(422)
        who = asked.get("checkout_data", {})
        back = asked.get("product_options", {}).get("redirect_url")
        id_ = shop.open_checkout(Checkout(variant, who.get("email", ""), who.get("custom", {}), back))
        attributes = {**asked, "store_id": 1, "url": f"{shop.url}/checkout/{id_}", "test_mode": True}
        return _json({"type": "checkouts", "id": id_, "attributes": attributes}, 201)

    @app.get("/v1/subscriptions/<id_>")
    def subscription(id_: str) -> Response:
        check()
        return _json(shop.subscriptions.get(id_) or abort(404))


def _json(data: Any, status: int = 200) -> Response:
    from flask import json

    return Response(json.dumps({"data": data}), status=status, content_type="application/vnd.api+json")


def _checkout(app: Flask, shop: Shop) -> None:
    @app.get("/checkout/<id_>")
    def show(id_: str) -> str:
        checkout = shop.checkouts.get(id_) or abort(404)
        return render_template("checkout.html", checkout=checkout, item=shop.items[checkout.variant_id])

    @app.post("/checkout/<id_>")
    def pay(id_: str) -> Redirect:
        checkout = shop.checkouts.pop(id_, None) or abort(404)  # who clicks twice pays once
        shop.pay(checkout)
        return redirect(checkout.redirect_url or "/", 303)


def _back_office(app: Flask, shop: Shop) -> None:
    @app.get("/")
    @app.get("/portal/<id_>")
    def index(id_: str | None = None) -> str:
        return render_template("index.html", shop=shop, only=id_, actions=ACTIONS)

    @app.post("/subscriptions/<id_>")
    def act(id_: str) -> Redirect:
        action = request.form["action"]
        if id_ not in shop.subscriptions or not (action in ACTIONS or action.startswith("change:")):
            abort(404)
        shop.act(id_, action)
        return redirect(request.referrer or "/", 303)

    @app.post("/orders/<id_>/refund")
    def refund(id_: str) -> Redirect:
        if id_ not in shop.orders:
            abort(404)
        shop.refund(id_)
        return redirect(request.referrer or "/", 303)

    @app.post("/webhooks/<int:number>")
    def resend(number: int) -> Redirect:
        if number >= len(shop.courier.parcels):
            abort(404)
        shop.courier.send(number, forged="forged" in request.form)
        return redirect("/", 303)

    @app.post("/hold")
    def hold() -> Redirect:
        shop.courier.holding = True
        return redirect("/", 303)

    @app.post("/release")
    def release() -> Redirect:
        shop.courier.release(request.form.get("order", "kept"))
        return redirect("/", 303)
