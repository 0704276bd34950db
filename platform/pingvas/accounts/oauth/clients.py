"""The clients of the providers that are set up, and what each provider says about a person."""

import logging
from collections.abc import Callable
from typing import Any, Final

import requests
from authlib.common.errors import AuthlibBaseError  # type: ignore[import-untyped]
from authlib.integrations.flask_client import OAuth  # type: ignore[import-untyped]
from flask import Flask, Response, current_app
from joserfc.errors import JoseError

from pingvas import settings
from pingvas.accounts.oauth.person import Person
from pingvas.errors import ProviderRefused, Unavailable

log = logging.getLogger(__name__)

_EXTENSION: Final = "pingvas_oauth"
_CLIENT: Final = {"code_challenge_method": "S256", "default_timeout": 10}


def _register(app: Flask) -> OAuth:
    config, oauth = settings.get(), OAuth(app)
    if config.oauth_google_id:
        oauth.register(
            "google",
            client_id=config.oauth_google_id,
            client_secret=config.oauth_google_secret.get_secret_value(),
            server_metadata_url=config.oauth_google_metadata_url,
            client_kwargs={**_CLIENT, "scope": "openid email profile"},
        )
    if config.oauth_discord_id:
        base = config.oauth_discord_url.rstrip("/")
        oauth.register(
            "discord",
            client_id=config.oauth_discord_id,
            client_secret=config.oauth_discord_secret.get_secret_value(),
            authorize_url=f"{base}/oauth2/authorize",
            access_token_url=f"{base}/api/oauth2/token",
            api_base_url=f"{base}/api/",
            client_kwargs={**_CLIENT, "scope": "identify email"},
        )
    return oauth


def begin(provider: str, callback: str) -> Response:
    """See `providers`."""
    client = _client(provider)
    try:
        redirect: Response = client.authorize_redirect(callback)
    except requests.RequestException as error:
        raise _away(provider, error) from None
    redirect.headers["Cache-Control"] = "no-store"
    return redirect


def finish(provider: str) -> Person:
    """See `providers`."""
    client = _client(provider)
    try:
        token = client.authorize_access_token()
        return _READERS[provider](client, token)
    except (AuthlibBaseError, JoseError) as error:
        log.warning("a sign-in with %s did not succeed: %s", provider, error)
        raise ProviderRefused(f"The sign-in with {provider.capitalize()} did not succeed") from None
    except requests.RequestException as error:
        raise _away(provider, error) from None


def _google(client: Any, token: dict[str, Any]) -> Person:
    """Read the claims of the ID token (OpenID Connect Core 1.0, section 5.1)."""
    claims = token.get("userinfo")
    if not claims:
        raise ProviderRefused("Google did not say who this is")
    return _person(
        "google", claims.get("sub"), claims.get("email"), claims.get("email_verified"), claims.get("name")
    )


def _discord(client: Any, token: dict[str, Any]) -> Person:
    """Ask who the token is of (https://discord.com/developers/docs/resources/user)."""
    answer = client.get("users/@me", token=token)
    answer.raise_for_status()
    user = answer.json()
    name = user.get("global_name") or user.get("username")
    return _person("discord", user.get("id"), user.get("email"), user.get("verified"), name)


def _person(provider: str, subject: object, email: object, verified: object, name: object) -> Person:
    if not isinstance(subject, str) or not subject or len(subject) > 255:
        raise ProviderRefused(f"{provider.capitalize()} did not say who this is")
    address = email if isinstance(email, str) else ""
    shown = name.strip()[:100] if isinstance(name, str) else ""
    return Person(provider, subject, address, verified is True, shown or None)


_READERS: Final[dict[str, Callable[[Any, dict[str, Any]], Person]]] = {"google": _google, "discord": _discord}


def _client(provider: str) -> Any:
    extensions = current_app.extensions
    if _EXTENSION not in extensions:
        extensions[_EXTENSION] = _register(current_app)
    return extensions[_EXTENSION].create_client(provider)


def _away(provider: str, error: Exception) -> Unavailable:
    log.error("%s cannot be reached: %s", provider, error)
    return Unavailable(f"{provider.capitalize()} cannot be reached")
