"""Which providers are set up; their client is loaded by the first sign-in, not by the start of the API."""

from importlib import import_module
from typing import Any

from flask import Response

from pingvas import settings
from pingvas.accounts.oauth.person import Person
from pingvas.errors import NotFound


def begin(provider: str, callback: str) -> Response:
    """Return the redirect to a provider, which sends the browser back to `callback`.

    Raises:
        NotFound: no such provider is set up.
        Unavailable: the provider cannot be reached.
    """
    redirect: Response = _clients(provider).begin(provider, callback)
    return redirect


def finish(provider: str) -> Person:
    """Exchange the code of the request in force for who it stands for.

    Raises:
        NotFound: no such provider is set up.
        ProviderRefused: the provider or the person said no, the state is not this browser's or was used
            before, or what the provider signed does not hold.
        Unavailable: the provider cannot be reached.
    """
    person: Person = _clients(provider).finish(provider)
    return person


def _clients(provider: str) -> Any:
    config = settings.get()
    if not {"google": config.oauth_google_id, "discord": config.oauth_discord_id}.get(provider):
        raise NotFound(f"Sign-in with {provider!r} is not set up on this server")
    return import_module("pingvas.accounts.oauth.clients")  # Authlib and requests take 0.2 s
