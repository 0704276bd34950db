"""`pingvas dev`: stand-ins for what an instance talks to."""

import click

from pingvas.cli import console

_WEBHOOKS = "http://127.0.0.1:8000/api/v1/webhooks/lemon-squeezy"
_API_KEY = "key-of-the-stand-in"
_SECRET = "secret-of-the-stand-in"  # noqa: S105 (nobody's)


@click.group("dev")
def group() -> None:
    """Tools for development."""


@group.command("lemonsqueezy")
@click.option("--port", default=9100, show_default=True)
@click.option("--webhooks-to", default=_WEBHOOKS, show_default=True)
@click.option("--secret", default=_SECRET, show_default=True, help="Signs the webhooks.")
def lemonsqueezy(port: int, webhooks_to: str, secret: str) -> None:
    """Run a stand-in of the shop: checkout pages, portal and webhooks, without an account."""
    from werkzeug.serving import make_server

    from pingvas.billing.lemonsqueezy.standin import Courier, Shop, create_app
    from pingvas.billing.lemonsqueezy.standin.courier import to_url

    url = f"http://127.0.0.1:{port}"
    shop = Shop(Courier(to_url(webhooks_to), secret), url)
    try:
        server = make_server("127.0.0.1", port, create_app(shop, _API_KEY), threaded=True)
    except SystemExit:  # what werkzeug makes of a port in use
        raise console.CommandError(f"Port {port} is in use; choose another one with --port.") from None
    console.done(f"The shop is at {url}. Start the instance with:")
    for name, value in {
        "URL": url,
        "API_KEY": _API_KEY,
        "STORE_ID": "1",
        "WEBHOOK_SECRET": secret,
        "VARIANTS": shop.variants,
    }.items():
        console.say(f"export PINGVAS_LEMONSQUEEZY_{name}={value}")
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        server.server_close()
