"""Asking Flask for a job on behalf of a caller: one place decides who may see it and how it stands."""

import json
from typing import Any

from starlette.types import Scope, Send

from pingvas.asgi.bridge import Answer, Bridge, Headers
from pingvas.events.hub import Hub
from pingvas.web.auth import CALLER
from pingvas.web.limits import INTERNAL

Job = dict[str, Any]
"""The object of `GET /api/v1/jobs/{id}`."""

# What belongs to the caller's own exchange and would spoil a plain GET.
_NOT_ASKED_WITH = frozenset(
    b"accept accept-encoding connection content-length content-type expect keep-alive last-event-id prefer "
    b"range te transfer-encoding upgrade".split()
)
_OF_THE_BODY = frozenset(
    b"cache-control connection content-encoding content-length content-type etag last-modified link "
    b"transfer-encoding".split()
)


class Refused(Exception):
    """The caller may not, or no longer, see the job; `answer` says why."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.status)
        self.answer = answer


class Inquiry:
    """One caller's question about one job, to be asked as often as needed.

    `headers` are those of the caller that say who asks: authorization, cookies, request id, addresses. After
    an answer `caller` is the account that asks, and `knocks` what the hub had heard before it was given.
    """

    def __init__(self, hub: Hub, flask: Bridge, caller: Scope, path: str, headers: Headers) -> None:
        self.caller: str | None = None
        self.knocks = 0
        self._hub = hub
        self._flask = flask
        self._headers = [
            (name, value)
            for name, value in headers
            if name not in _NOT_ASKED_WITH and not name.startswith((b"sec-websocket-", b"if-"))
        ]
        self._scope: dict[str, Any] = {
            **caller,
            "type": "http",
            "method": "GET",
            "scheme": {"ws": "http", "wss": "https"}.get(caller["scheme"], caller["scheme"]),
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            INTERNAL: True,
        }

    async def ask(self) -> Answer:
        """Return Flask's answer now."""
        self.knocks = self._hub.knocks
        scope = {**self._scope, "headers": self._headers}
        answer = await self._flask.ask(scope)
        self.caller = scope.get(CALLER)
        # Ask again under the same request id: one exchange with the client is one id in the logs.
        request_ids = [pair for pair in answer.headers if pair[0] == b"x-request-id"]
        if request_ids:
            self._headers = [pair for pair in self._headers if pair[0] != b"x-request-id"] + request_ids
        return answer

    async def job(self) -> Job | None:
        """Return the job now, or None when Flask could not tell this time (429, 503).

        Raises:
            Refused: the caller is not, or no longer, allowed to see it, or it is gone.
        """
        answer = await self.ask()
        if answer.status in (401, 403, 404):
            raise Refused(answer)
        return job_of(answer) if answer.status == 200 else None


def job_of(answer: Answer) -> Job:
    """Return the job object of an answer 200."""
    job: Job = json.loads(answer.body)
    return job


def about_the_request(answer: Answer) -> Headers:
    """Return the headers that hold for another body too: request id, limits, CORS, security."""
    return [(name, value) for name, value in answer.headers if name not in _OF_THE_BODY]


async def respond(send: Send, status: int, headers: Headers, body: bytes = b"") -> None:
    """Send a whole response."""
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})


def header(headers: Headers, name: bytes) -> str | None:
    """Return a request header, repeated ones joined by commas, or None."""
    found = [value.decode("latin-1") for key, value in headers if key == name]
    return ", ".join(found) if found else None
