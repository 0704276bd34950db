"""Tokens of internal endpoints, which are for machines of the operators and no user.

`PINGVAS_INTERNAL_TOKEN` lists them: the first is the one that we send, all are accepted. To change it: put
the new one behind the old, restart; tell who asks; put it first, restart; take the old one away, restart.
"""

import secrets
from collections.abc import Iterable
from typing import Final
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from pingvas import settings

_REALM: Final = 'Bearer realm="pingvas internal"'


def current() -> str | None:
    """Return the token to send, or None where none is set."""
    return next(iter(settings.get().internal_tokens), None)


def accepts(header: str) -> bool:
    """Tell whether an Authorization header carries one of the tokens; all are compared, in constant time."""
    scheme, _, given = header.partition(" ")
    found = [
        secrets.compare_digest(given.strip().encode(), token.encode())
        for token in settings.get().internal_tokens
    ]
    return scheme.lower() == "bearer" and any(found)


def guarded(app: WSGIApplication) -> WSGIApplication:
    """Return `app` behind the tokens; open where none is set."""

    def guard(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if settings.get().internal_tokens and not accepts(environ.get("HTTP_AUTHORIZATION", "")):
            start_response("401 Unauthorized", [("WWW-Authenticate", _REALM), ("Content-Length", "0")])
            return []
        return app(environ, start_response)

    return guard
