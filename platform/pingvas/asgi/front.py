"""Who answers what: the three calls that wait, and Flask for the rest."""

import re
from uuid import UUID
from wsgiref.types import WSGIApplication

from starlette.types import Receive, Scope, Send

from pingvas.asgi import sse, wait, websocket
from pingvas.asgi.bridge import Bridge
from pingvas.asgi.internal import Inquiry, header
from pingvas.asgi.stopping import when_told_to_stop
from pingvas.events.hub import Hub

_JOB = re.compile(r"/api/v1/jobs/([0-9a-fA-F-]{32,36})(/events)?")
_SOCKET = re.compile(r"/ws/jobs/([^/]+)")


class Front:
    """The ASGI application around a Flask application. The hub lives from start-up to shutdown."""

    def __init__(
        self, wsgi_app: WSGIApplication, hub: Hub, threads: int, max_body: int, patience: float
    ) -> None:
        self.hub = hub
        self._flask = Bridge(wsgi_app, threads, max_body, patience)

    @property
    def held(self) -> int:
        """Bytes of bodies and responses that are on their way."""
        return self._flask.held

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one HTTP request, one WebSocket, or the server's own life."""
        if scope["type"] == "http":
            await self._http(scope, receive, send)
        elif scope["type"] == "websocket":
            await self._websocket(scope, receive, send)
        else:
            await self._lifespan(receive, send)

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        match = _JOB.fullmatch(scope["path"]) if scope["method"] == "GET" else None
        if match is None or not _is_id(match[1]):
            await self._flask(scope, receive, send)
            return
        self.hub.start()  # for servers that know no lifespan
        inquiry = Inquiry(self.hub, self._flask, scope, f"/api/v1/jobs/{match[1]}", list(scope["headers"]))
        patience = wait.seconds(header(scope["headers"], b"prefer"))
        if match[2]:
            await sse.serve(self.hub, inquiry, scope, receive, send)
        elif patience:
            await wait.serve(self.hub, inquiry, patience, receive, send)
        else:
            await self._flask(scope, receive, send)

    async def _websocket(self, scope: Scope, receive: Receive, send: Send) -> None:
        match = _SOCKET.fullmatch(scope["path"])
        if match is None:
            await receive()
            await send({"type": "websocket.close"})  # before it is accepted: an HTTP 403
            return
        self.hub.start()
        await websocket.serve(self.hub, self._flask, f"/api/v1/jobs/{match[1]}", scope, receive, send)

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        await receive()
        self.hub.start()
        with when_told_to_stop(self.hub.drain):
            await send({"type": "lifespan.startup.complete"})
            await receive()
        await self.hub.stop()
        self._flask.close()
        await send({"type": "lifespan.shutdown.complete"})


def _is_id(text: str) -> bool:
    try:
        UUID(text)
    except ValueError:
        return False
    return True
