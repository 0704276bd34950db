"""Flask behind the ASGI server: requests run on a bounded pool of threads, one hop there and one back.

a2wsgi would be this, but granian's `receive` and `send` return awaitables that are no coroutines, which
it refuses, and it hops between thread and loop three times a response.
"""

import asyncio
import json
import sys
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from io import BytesIO
from typing import Any
from wsgiref.types import StartResponse, WSGIApplication

from starlette.types import Receive, Scope, Send

from pingvas.asgi.lane import Lane
from pingvas.errors import TooSlow, Unavailable

JOINED = frozenset({"/api/v1/generate", "/api/v1/generation/create"})
"""POSTs that come by the hundred and ask only what can be asked together."""

Headers = list[tuple[bytes, bytes]]
Environ = dict[str, Any]

_FULL = "Too much is being sent at this moment"

PIECE = 262_144
"""Bytes that a response is sent by."""

MOST_IN_HAND = 512
"""Requests that are served or wait for a thread; the server admits as many listeners as may come."""

MOST_HELD = 268_435_456
"""Bytes that bodies on their way in and large responses on their way out may take together."""


@dataclass(slots=True)
class Answer:
    """A response. Header names are in lower case."""

    status: int = 0
    headers: Headers = field(default_factory=list)
    body: bytearray = field(default_factory=bytearray)


class Bridge:
    """Calls a WSGI application from an event loop.

    At most `threads` requests are worked on at a time, the others wait; those that can be joined share one
    thread more. A client has a thread only while it is worked for, however slowly it sends and reads: a body
    is read before, up to `max_body` bytes, and the response is sent after. Of a larger body the application
    sees the declared length (or one byte more than it may have), so that it is the one to refuse it. A body
    that takes longer than `patience` seconds, or finds no room, is refused as it is read (408, 503); a client
    that takes longer than that for a piece of a response is left.
    """

    def __init__(self, app: WSGIApplication, threads: int, max_body: int, patience: float) -> None:
        self._app = app
        self._max_body = max_body
        self._patience = patience
        self.held = 0  # bytes
        self._admitted = asyncio.Semaphore(MOST_IN_HAND)
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="flask")
        self._lane = Lane("lane")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve an ASGI request."""
        body = bytearray()
        try:
            error = await self._read(scope, receive, body)
            async with self._admitted:
                answer = await self._run(environ(scope, bytes(body), error))
        except ConnectionAbortedError:
            return
        finally:
            self.held -= len(body)
        if len(answer.body) > PIECE and self.held + len(answer.body) > MOST_HELD:
            answer = _no_room(answer)
        self.held += len(answer.body)
        try:
            await self._send(answer, send)
        finally:
            self.held -= len(answer.body)

    async def ask(self, scope: Scope) -> Answer:
        """Return the whole response to a request without a body."""
        return await self._run(environ(scope, b""))

    def close(self) -> None:
        """Take no more requests; those at work are finished."""
        self._pool.shutdown(wait=False)
        self._lane.close()

    async def _run(self, env: Environ) -> Answer:
        if _joins(env["asgi.scope"]):
            return await self._lane.run(partial(_call, self._app, env))
        return await asyncio.get_running_loop().run_in_executor(self._pool, _call, self._app, env)

    async def _read(self, scope: Scope, receive: Receive, body: bytearray) -> Exception | None:
        """Add to `body` what is sent; return why it is not all there, if it is not.

        Raises:
            ConnectionAbortedError: the client has gone before its end.
        """
        if _declared_length(scope) > self._max_body:
            return None
        try:
            async with asyncio.timeout(self._patience):
                more = True
                while more and len(body) <= self._max_body:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise ConnectionAbortedError
                    part = message.get("body", b"")[: self._max_body + 1 - len(body)]
                    body += part
                    self.held += len(part)
                    if self.held > MOST_HELD:
                        return Unavailable(_FULL)
                    more = message.get("more_body", False)
        except TimeoutError:
            return TooSlow()
        return None

    async def _send(self, answer: Answer, send: Send) -> None:
        await send({"type": "http.response.start", "status": answer.status, "headers": answer.headers})
        size = len(answer.body)
        with suppress(TimeoutError):  # the server closes the connection of a response without its end
            for at in range(0, size or 1, PIECE):
                part, more = bytes(answer.body[at : at + PIECE]), at + PIECE < size
                async with asyncio.timeout(self._patience):
                    await send({"type": "http.response.body", "body": part, "more_body": more})


def _no_room(answer: Answer) -> Answer:
    """Return what is sent instead of a response that there is no room for."""
    code = "UNAVAILABLE"
    text = {"type": "urn:pingvas:problem:unavailable", "title": Unavailable.title, "status": 503}
    kept = [pair for pair in answer.headers if pair[0] == b"x-request-id"]
    headers = [*kept, (b"content-type", b"application/problem+json"), (b"retry-after", b"5")]
    return Answer(503, headers, bytearray(json.dumps({**text, "detail": _FULL, "code": code}).encode()))


def _joins(scope: Scope) -> bool:
    """Tell whether a request may ride on the lane: with an `Idempotency-Key` it works in a transaction."""
    if scope["path"] not in JOINED or scope["method"] != "POST":
        return False
    return all(name != b"idempotency-key" for name, _ in scope["headers"])


def _call(app: WSGIApplication, env: Environ) -> Answer:
    """Run the application in this thread; return its response."""
    answer = Answer()

    def start(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Callable[[bytes], object]:
        answer.status = int(status[:3])
        answer.headers = [(name.lower().encode("latin-1"), text.encode("latin-1")) for name, text in headers]
        return answer.body.extend

    begin: StartResponse = start
    parts: Iterable[bytes] = app(env, begin)
    try:
        for part in parts:
            answer.body += part
    finally:
        close = getattr(parts, "close", None)
        if close is not None:
            close()
    return answer


class _Missing:
    """Stands for a body that did not come: whoever reads it is told why."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def read(self, size: int = -1) -> bytes:
        raise self._error


def environ(scope: Scope, body: bytes, error: Exception | None = None) -> Environ:
    """Return the WSGI environment of an ASGI request (PEP 3333: text is bytes read as Latin-1).

    `error` is raised when the body is read.
    """
    host, port = scope.get("server") or ("localhost", 80)
    env: Environ = {
        "REQUEST_METHOD": scope["method"],
        "SCRIPT_NAME": scope.get("root_path", "").encode().decode("latin-1"),
        "PATH_INFO": scope["path"].encode("utf-8", "surrogateescape").decode("latin-1"),
        "QUERY_STRING": scope["query_string"].decode("latin-1"),
        "SERVER_PROTOCOL": f"HTTP/{scope['http_version']}",
        "SERVER_NAME": host,
        "SERVER_PORT": str(port or 0),
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": scope.get("scheme", "http"),
        "wsgi.input": BytesIO(body) if error is None else _Missing(error),
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
        "asgi.scope": scope,
    }
    if scope.get("client"):
        env["REMOTE_ADDR"], env["REMOTE_PORT"] = scope["client"][0], str(scope["client"][1])
    for raw_name, raw_value in scope["headers"]:
        name, value = raw_name.decode("latin-1"), raw_value.decode("latin-1")
        if "_" in name:
            continue  # would pass for the header with hyphens that a proxy has checked
        variable = name.upper().replace("-", "_")
        if variable not in ("CONTENT_TYPE", "CONTENT_LENGTH"):
            variable = f"HTTP_{variable}"
        joint = "; " if variable == "HTTP_COOKIE" else ","  # HTTP/2 clients split cookies up
        env[variable] = f"{env[variable]}{joint}{value}" if variable in env else value
    if "CONTENT_LENGTH" not in env and body:  # it came in chunks, which WSGI does not know
        env["CONTENT_LENGTH"] = str(len(body))
        env.pop("HTTP_TRANSFER_ENCODING", None)
    return env


def _declared_length(scope: Scope) -> int:
    for name, value in scope["headers"]:
        if name == b"content-length" and value.isdigit():
            return int(value)
    return 0
