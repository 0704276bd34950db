"""How often somebody may call: which limit a call falls under, and what its answer says of it.

The table of all limits is docs/limits.md. A call is counted once it is well-formed, before it is served.
"""

from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address
from typing import Any, Literal

from flask import Flask, Response, current_app, g, request

from pingvas import settings
from pingvas.errors import TooMany
from pingvas.web import headers, idempotency, windows
from pingvas.web.auth import Principal
from pingvas.web.windows import Policy, Taken

Limit = Literal["ordinary", "read", "generate", "sign-in", "none"]
"""What a view can ask for: `read` for a POST that changes nothing, `none` for callers who must never be
turned away, such as webhooks."""

MINUTE = 60
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
INTERNAL = "pingvas.internal"
"""In the ASGI scope of a question that the front asks for a client that waits; no client can set it."""

GenerateLimit = Callable[[str], int | None]
"""Generate calls a minute of a tier; None: no limit."""


def init_app(app: Flask, generate_per_minute: GenerateLimit) -> None:
    """Send the state of the limits with every limited answer; `generate_per_minute` comes from the plans."""
    app.extensions["pingvas_limits"] = generate_per_minute
    app.after_request(_tell)


@dataclass(frozen=True, slots=True)
class _Rule:
    policy: Policy
    who: str


def take(limit: Limit, principal: Principal | None) -> None:
    """Count this call.

    Raises:
        TooMany: a limit is reached; the call is not counted.
    """
    if limit == "none" or request.environ.get("asgi.scope", {}).get(INTERNAL):
        return
    taken = []
    for rule in _rules(limit, principal):
        place = windows.take(rule.policy, rule.who)
        if place is None:
            continue
        if place.remaining < 0:
            raise _refusal(place)
        taken.append(place)
    g.limits = taken


def _rules(limit: Limit, principal: Principal | None) -> list[_Rule]:
    config = settings.get()
    rules = []
    if principal is None:
        address = caller()
        if limit == "sign-in":
            rules.append(_Rule(Policy("sign-in", config.login_attempts, int(config.login_seconds)), address))
        # Whoever shares this machine is its developer, or all the world behind a proxy we were not told of.
        if request.method not in _SAFE and not _is_loopback(address):
            rules.append(_Rule(Policy("anonymous", config.anonymous_per_minute, MINUTE), address))
    elif limit == "generate":
        most = current_app.extensions["pingvas_limits"](principal.tier)
        if most is not None:
            rules.append(_Rule(Policy("generate", most, MINUTE), str(principal.id)))
    else:
        reads = limit == "read" or request.method in _SAFE
        most = config.reads_per_minute if reads else config.writes_per_minute
        rules.append(_Rule(Policy("read" if reads else "write", most, MINUTE), str(principal.id)))
    return [rule for rule in rules if rule.policy.most > 0]


def forgive() -> None:
    """Do not count this call as a failed sign-in, whatever it answers."""
    g.forgiven = True


def _refusal(place: Taken) -> TooMany:
    policy = place.policy
    what = "failed sign-ins from one address" if policy.name == "sign-in" else f"{policy.name} calls"
    return TooMany(
        f"At most {policy.most} {what} in {policy.seconds} s; try again in {place.reset} s.",
        policy=policy.name,
        limit=policy.most,
        window=policy.seconds,
        retry_after=place.reset,
    )


def _tell(response: Response) -> Response:
    """Add the headers. Not counted in the end: an attempt to sign in that succeeded is none that somebody
    guesses with, and whoever repeats a call to be sure has had one answer, not two."""
    taken: list[Taken] = g.pop("limits", [])
    if not taken:
        return response
    present = headers.names(response)
    if "ratelimit" not in present:
        policies = ", ".join(f'"{it.policy.name}";q={it.policy.most};w={it.policy.seconds}' for it in taken)
        left = ", ".join(f'"{it.policy.name}";r={it.remaining};t={it.reset}' for it in taken)
        response.headers.extend({"RateLimit-Policy": policies, "RateLimit": left})
    good = response.status_code < 400 or g.get("forgiven", False)
    replayed = idempotency.REPLAYED.lower() in present
    for place in taken:
        if replayed or (place.policy.name == "sign-in" and good):
            windows.give_back(place)
    return response


def caller() -> str:
    """Return the caller's address; of an IPv6 one the network of 64 bits, which is what one customer has."""
    text = request.remote_addr or ""
    try:
        address: Any = ip_address(text.partition("%")[0])
    except ValueError:
        return text
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped:
            return str(address.ipv4_mapped)
        if not address.is_loopback:
            return str(IPv6Address(int(address) >> 64 << 64))
    return str(address)


def _is_loopback(address: str) -> bool:
    try:
        return ip_address(address).is_loopback
    except ValueError:
        return False
