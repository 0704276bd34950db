"""`WS /ws/jobs/{id}`: a job's events as JSON text frames `{"id", "type", "data"}`."""

import json
from contextlib import aclosing
from urllib.parse import parse_qs, urlsplit

from starlette.types import Receive, Scope, Send

from pingvas import settings
from pingvas.asgi.bridge import Bridge, Headers
from pingvas.asgi.feed import job_events, knows_the_end, while_connected
from pingvas.asgi.internal import Inquiry, Job, Refused, header, job_of
from pingvas.asgi.sse import resume_from
from pingvas.events.hub import Hub

NORMAL, RESTART, TRY_LATER = 1000, 1012, 1013
_CLOSE_CODES = {401: 4401, 403: 4403, 404: 4404, 429: 4429}


async def serve(hub: Hub, flask: Bridge, path: str, scope: Scope, receive: Receive, send: Send) -> None:
    """Accept, then send events until the job has ended (close code 1000; 1012: this process stops).

    Refusals close with 4000 + the HTTP status (4401, 4403, 4404, 4429), a server that cannot tell with
    1013. The handshake is always accepted, as a client sees no close code of one that is not.
    """
    await receive()  # websocket.connect
    inquiry = Inquiry(hub, flask, scope, path, credentials(scope))
    answer = await inquiry.ask()
    await send({"type": "websocket.accept"})
    code: int | None = _CLOSE_CODES.get(answer.status, TRY_LATER)
    if answer.status == 200:
        job, after = job_of(answer), resume_from(scope)
        code = await while_connected(
            receive, "websocket.disconnect", _send_events(hub, inquiry, job, after, send)
        )
    if code is None and hub.draining:
        code = RESTART  # the server says that everybody has gone before it closes their connections
    if code is not None:
        await send({"type": "websocket.close", "code": code})


async def _send_events(hub: Hub, inquiry: Inquiry, job: Job, after: str, send: Send) -> int:
    if await knows_the_end(hub, job, after):
        return NORMAL
    ended = False
    try:
        async with aclosing(job_events(hub, inquiry, job, after)) as events:
            async for event in events:
                if event is not None:
                    ended = event.last
                    text = json.dumps({"id": event.id, "type": event.type, "data": event.data})
                    await send({"type": "websocket.send", "text": text})
    except Refused as refusal:
        return _CLOSE_CODES.get(refusal.answer.status, TRY_LATER)
    return NORMAL if ended else RESTART


def credentials(scope: Scope) -> Headers:
    """Return the headers to ask Flask with.

    A browser lets any page open a WebSocket here and adds the cookies, so they count only when the
    page is ours (Origin against Host and `public_url`). Programs send no Origin. `?access_token=` stands
    for the Authorization header, which a page cannot set.
    """
    headers: Headers = list(scope["headers"])
    origin = header(headers, b"origin")
    if origin is not None:
        ours = {header(headers, b"host"), urlsplit(settings.get().public_url).netloc}
        if urlsplit(origin).netloc not in ours - {None, ""}:
            headers = [pair for pair in headers if pair[0] != b"cookie"]
    tokens = parse_qs(scope["query_string"].decode("latin-1")).get("access_token")
    if tokens and header(headers, b"authorization") is None:
        headers.append((b"authorization", b"Bearer " + tokens[0].encode()))
    return headers
