"""Accounts of the person at the terminal, made on first use: one for each tier, kept in `demo.json`."""

import json
import secrets
from dataclasses import asdict, dataclass
from typing import Any
from uuid import UUID

from pingvas.cli.rest import ApiError, Client
from pingvas.embedded import DataFolder
from pingvas.embedded.folder import write_private

TOP_UP_CREDITS = 100
_FILE = "demo.json"


@dataclass(frozen=True)
class Demo:
    """An account that can sign in. It has no API key: those are not for the free plan."""

    user_id: str
    email: str
    password: str


def sign_in(folder: DataFolder, url: str, tier: str = "free") -> tuple[Demo, Client]:
    """Sign in to the demo account of a tier; register it if there is none, or the database is another one."""
    client = Client(url)
    kept = _read(folder)
    found = kept.get(tier)
    if found and _sign_in(client, found):
        return found, client
    made = _register(client, tier)
    write_private(folder.path / _FILE, json.dumps({k: asdict(v) for k, v in {**kept, tier: made}.items()}))
    return made, client


def _read(folder: DataFolder) -> dict[str, Demo]:
    try:
        raw: dict[str, Any] = json.loads((folder.path / _FILE).read_text())
        return {tier: Demo(**values) for tier, values in raw.items()}
    except (FileNotFoundError, ValueError, TypeError, AttributeError):
        return {}


def _sign_in(client: Client, demo: Demo) -> bool:
    try:
        signed_in = client.post("/api/v1/auth/login", {"email": demo.email, "password": demo.password})
    except ApiError as error:
        if error.status == 401:
            return False
        raise
    client.key = signed_in["access_token"]
    return True


def _register(client: Client, tier: str) -> Demo:
    # The random part keeps instances apart that share a database.
    email = f"demo-{tier}-{secrets.token_hex(4)}@pingvas.local"
    password = secrets.token_urlsafe(24)
    credentials = {"email": email, "password": password}
    if tier == "free":
        signed_in = client.post("/api/v1/auth/register", {**credentials, "name": "Demo"})
    else:  # nobody gets a paid plan over the API without paying: by the database
        _register_directly(email, password, tier)
        signed_in = client.post("/api/v1/auth/login", credentials)
    client.key = signed_in["access_token"]
    return Demo(signed_in["user"]["id"], email, password)


def _register_directly(email: str, password: str, tier: str) -> None:
    from pingvas import domains
    from pingvas.accounts.register import register

    domains.load()
    register(email, password, "Demo", tier=tier)


def top_up(client: Client, demo: Demo, order: dict[str, Any]) -> int:
    """Grant credits when the account cannot pay for `order`; return how many, 0 when it can."""
    needed = client.post("/api/v1/quote", order)["credits"]
    balance = client.get("/api/v1/credits/balance")
    if balance["unlimited"] or balance["balance"] >= needed:
        return 0
    from pingvas import domains, ids
    from pingvas.billing import ledger

    domains.load()
    amount: int = max(TOP_UP_CREDITS, needed)
    key = f"demo:{ids.new()}"
    ledger.grant(UUID(demo.user_id), amount, business_key=key, description="Top-up of a demo account")
    return amount
