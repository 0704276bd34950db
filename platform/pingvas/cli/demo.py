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
    """An account with an API key."""

    user_id: str
    email: str
    password: str
    api_key: str


def account(folder: DataFolder, url: str, tier: str = "free") -> Demo:
    """Return the demo account of a tier; registers it when there is none, or the database is another one."""
    kept = _read(folder)
    found = kept.get(tier)
    if found and _works(Client(url, found.api_key)):
        return found
    made = _register(Client(url), tier)
    write_private(folder.path / _FILE, json.dumps({k: asdict(v) for k, v in {**kept, tier: made}.items()}))
    return made


def _read(folder: DataFolder) -> dict[str, Demo]:
    try:
        raw: dict[str, Any] = json.loads((folder.path / _FILE).read_text())
        return {tier: Demo(**values) for tier, values in raw.items()}
    except (FileNotFoundError, ValueError, TypeError, AttributeError):
        return {}


def _works(client: Client) -> bool:
    try:
        client.get("/api/v1/auth/me")
    except ApiError as error:
        if error.status == 401:
            return False
        raise
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
    key = client.post("/api/v1/api-keys", {"name": "command line"})["key"]
    return Demo(signed_in["user"]["id"], email, password, key)


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
