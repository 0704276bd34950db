"""Security headers of every answer, and which other sites' pages may read answers (CORS)."""

from flask import Flask, Response, request
from flask_cors import CORS

from pingvas import settings

_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}
# Over plain HTTP browsers must ignore this one (RFC 6797, section 8.1).
_SECURE = {**_HEADERS, "Strict-Transport-Security": "max-age=31536000; includeSubDomains"}
_ALLOWED = ("Authorization", "Content-Type", "Idempotency-Key", "Last-Event-ID", "Prefer", "X-Request-Id")
_EXPOSED = (
    "Idempotent-Replayed",
    "Link",
    "Location",
    "Preference-Applied",
    "RateLimit",
    "RateLimit-Policy",
    "Retry-After",
    "X-Request-Id",
)


def names(response: Response) -> set[str]:
    """Return the names of an answer's headers in lower case. Each look into `Headers` walks all of them."""
    return {name.lower() for name, _ in response.headers}


def init_app(app: Flask) -> None:
    """Add the headers; a view that sets its own policy keeps it.

    Pages of the origins in `cors_origins` may call with a token or key, never with the session cookie.
    """

    @app.after_request
    def add(response: Response) -> Response:
        present, wanted = names(response), _SECURE if request.is_secure else _HEADERS
        response.headers.extend(pair for pair in wanted.items() if pair[0].lower() not in present)
        return response

    if origins := settings.get().cors_list:
        CORS(
            app,
            origins=origins,
            methods=["GET", "POST", "PATCH", "PUT", "DELETE"],
            allow_headers=list(_ALLOWED),
            expose_headers=list(_EXPOSED),
            supports_credentials=False,
            always_send=False,
            max_age=600,
        )
