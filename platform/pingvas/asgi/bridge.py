"""Flask behind the ASGI server: requests run on a bounded pool of threads, one hop there and one back.

a2wsgi would be this, but granian's `receive` and `send` return awaitables that are no coroutines, which
it refuses, and it hops between thread and loop three times a response.
"""

import asyncio
import sys
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from io import BytesIO
from typing import Any
from wsgiref.types import StartResponse, WSGIApplication

from starlette.types import Receive, Scope, Send

from pingvas.asgi.lane import Lane

JOINED = frozenset({"/api/v1/generate", "/api/v1/generation/create"})
"""POSTs that come by the hundred and ask only what can be asked together."""

Headers = list[tuple[bytes, bytes]]

FLUSH_BYTES = 262_144
"""A response is sent in one piece up to this size, and in such pieces above it."""

MOST_IN_HAND = 512
"""Requests whose bodies are read or served at a time; the server admits as many listeners as may come."""


@dataclass(slots=True)
class Answer:
    """A response, or what is not sent of it yet. Header names are in lower case."""

    status: int = 0
    headers: Headers = field(default_factory=list)
    body: bytearray = field(default_factory=bytearray)


class Bridge:
    """Calls a WSGI application from an event loop.

    At most `threads` requests are worked on at a time, the others wait; those that can be joined share one
    thread more. A request's body is read before it takes a thread, up to `max_body` bytes; of a larger one
    the application sees the declared length (or one byte more than it may have), so that it is the one to
    refuse it.
    """

    def __init__(self, app: WSGIApplication, threads: int, max_body: int) -> None:
        self._app = app
        self._max_body = max_body
        self._admitted = asyncio.Semaphore(MOST_IN_HAND)
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="flask")
        self._lane = Lane("lane")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve an ASGI request."""
        async with self._admitted:
            await self._serve(scope, receive, send)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        loop = asyncio.get_running_loop()
        body = await self._read(scope, receive)
        started = False

        async def pass_on(answer: Answer, more: bool) -> None:
            nonlocal started
            if not started:
                started = True
                await send(
                    {"type": "http.response.start", "status": answer.status, "headers": answer.headers}
                )
            await send({"type": "http.response.body", "body": bytes(answer.body), "more_body": more})

        def flush(answer: Answer) -> None:
            asyncio.run_coroutine_threadsafe(pass_on(answer, True), loop).result()

        await pass_on(await self._run(scope, body, flush), False)

    async def ask(self, scope: Scope) -> Answer:
        """Return the whole response to a request without a body."""
        return await self._run(scope, b"", None)

    def close(self) -> None:
        """Take no more requests; those at work are finished."""
        self._pool.shutdown(wait=False)
        self._lane.close()

    async def _run(self, scope: Scope, body: bytes, flush: Callable[[Answer], None] | None) -> Answer:
        if _joins(scope):
            return await self._lane.run(partial(_call, self._app, environ(scope, body), None))
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._pool, _call, self._app, environ(scope, body), flush)

    async def _read(self, scope: Scope, receive: Receive) -> bytes:
        if _declared_length(scope) > self._max_body:
            return b""
        body = bytearray()
        while len(body) <= self._max_body:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body", False):
                break
        return bytes(body[: self._max_body + 1])


def _joins(scope: Scope) -> bool:
    """Tell whether a request may ride on the lane: with an `Idempotency-Key` it works in a transaction."""
    if scope["path"] not in JOINED or scope["method"] != "POST":
        return False
    return all(name != b"idempotency-key" for name, _ in scope["headers"])


def _call(app: WSGIApplication, env: dict[str, Any], flush: Callable[[Answer], None] | None) -> Answer:
    """Run the application in this thread; return the response, less what `flush` has taken."""
    answer, flushed = Answer(), False

    def start(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Callable[[bytes], object]:
        if exc_info and flushed:
            raise exc_info[1].with_traceback(exc_info[2])
        answer.status = int(status[:3])
        answer.headers = [(name.lower().encode("latin-1"), text.encode("latin-1")) for name, text in headers]
        return answer.body.extend

    begin: StartResponse = start
    parts: Iterable[bytes] = app(env, begin)
    try:
        for part in parts:
            answer.body += part
            if flush is not None and len(answer.body) >= FLUSH_BYTES:
                flush(answer)
                flushed = True
                answer.body.clear()
    finally:
        close = getattr(parts, "close", None)
        if close is not None:
            close()
    return answer


def environ(scope: Scope, body: bytes) -> dict[str, Any]:
    """Return the WSGI environment of an ASGI request (PEP 3333: text is bytes read as Latin-1)."""
    host, port = scope.get("server") or ("localhost", 80)
    env: dict[str, Any] = {
        "REQUEST_METHOD": scope["method"],
        "SCRIPT_NAME": scope.get("root_path", "").encode().decode("latin-1"),
        "PATH_INFO": scope["path"].encode("utf-8", "surrogateescape").decode("latin-1"),
        "QUERY_STRING": scope["query_string"].decode("latin-1"),
        "SERVER_PROTOCOL": f"HTTP/{scope['http_version']}",
        "SERVER_NAME": host,
        "SERVER_PORT": str(port or 0),
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": scope.get("scheme", "http"),
        "wsgi.input": BytesIO(body),
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
