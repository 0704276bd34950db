"""The server's entry point (`granian --interface asgi pingvas.asgi:app`): events beside the Flask API.

Flask answers everything but the three calls that wait without working: a job's event stream, its
WebSocket and `Prefer: wait`. Those are coroutines, so that a thousand of them cost no thread.
"""

import gc
import sys
import traceback
from collections.abc import Callable
from wsgiref.types import WSGIApplication

from starlette.types import Receive, Scope, Send

from pingvas import settings
from pingvas.asgi.front import Front
from pingvas.events.hub import Hub

__all__ = ["app", "build"]


def build(
    wsgi_app: WSGIApplication,
    *,
    keep_alive: float = 15.0,
    look_every: int = 4,
    threads: int = 16,
    patience: float = 30.0,
) -> Front:
    """Return the ASGI application that serves `wsgi_app` with events, WebSocket and waiting in front.

    `keep_alive` is the silence, in seconds, after which a follower is told that the line is up; after
    `look_every` of them the job's row is looked at again; `threads` is how many requests Flask works on at
    a time, `patience` how long, in seconds, a body may take to
    come and a piece of a response to go.
    """
    config = settings.get()
    hub = Hub(config.events_url, keep_alive, look_every)
    return Front(wsgi_app, hub, threads, config.max_body_bytes, patience)


class _Lazy:
    """Makes the application when the server starts it, so that an import of this module costs nothing."""

    def __init__(self, make: Callable[[], Front]) -> None:
        self._make = make
        self._front: Front | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._front is None:
            try:
                self._front = self._make()
            finally:
                # A server takes an exception here for "knows no lifespan" and would serve nothing but 500s.
                if self._front is None and scope["type"] == "lifespan":
                    await receive()
                    reason = "".join(traceback.format_exception(sys.exception()))
                    await send({"type": "lifespan.startup.failed", "message": reason})
        await self._front(scope, receive, send)


def _make() -> Front:
    from pingvas.app import create_app

    front = build(create_app())
    # What has been made by now stays. To look through it for garbage again and again took 7 % of a request.
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 50)
    return front


app = _Lazy(_make)
