"""The stand-in of the shop on a port of its own."""

import threading
from collections.abc import Iterator

import pytest
from flask.testing import FlaskClient
from werkzeug.serving import make_server

from pingvas.billing.lemonsqueezy.standin import Courier, Shop, create_app
from pingvas.embedded.servers import forget_settings
from tests.billing.conftest import SECRET

KEY = "key of the shop"


@pytest.fixture
def standin(shop: None, client: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shop]:
    """The stand-in on a port of its own; its webhooks come to the application."""

    def post(body: bytes, headers: dict[str, str]) -> int:
        return client.post("/api/v1/webhooks/lemon-squeezy", data=body, headers=headers).status_code

    made = Shop(Courier(post, SECRET), "")
    server = make_server("127.0.0.1", 0, create_app(made, KEY), threaded=True)
    made.url = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setenv("PINGVAS_LEMONSQUEEZY_URL", made.url)
    monkeypatch.setenv("PINGVAS_LEMONSQUEEZY_VARIANTS", made.variants)
    forget_settings()
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield made
    server.shutdown()
    thread.join()
    server.server_close()
