"""`GET /api/v1/jobs/{id}/events`: a job's events as Server-Sent Events."""

from contextlib import aclosing
from urllib.parse import parse_qs

from starlette.types import Receive, Scope, Send

from pingvas.asgi.bridge import Answer
from pingvas.asgi.feed import job_events, knows_the_end, while_connected
from pingvas.asgi.internal import Inquiry, Job, Refused, about_the_request, header, job_of, respond
from pingvas.events import Event
from pingvas.events.hub import Hub
from pingvas.events.model import position

_HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),  # nginx would hold events back until its buffer is full
]


async def serve(hub: Hub, inquiry: Inquiry, scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with the stream, or with what Flask says to a caller who may not see the job.

    A client that comes back although it knows how the job ended gets 204, which tells a browser's
    `EventSource` to stay away.
    """
    answer = await inquiry.ask()
    if answer.status != 200:
        await respond(send, answer.status, answer.headers, bytes(answer.body))
        return
    job, after = job_of(answer), resume_from(scope)
    if await knows_the_end(hub, job, after):
        await respond(send, 204, about_the_request(answer))
        return
    await while_connected(receive, "http.disconnect", _stream(hub, inquiry, answer, job, after, send))


async def _stream(hub: Hub, inquiry: Inquiry, answer: Answer, job: Job, after: str, send: Send) -> None:
    async def write(chunk: str) -> None:
        await send({"type": "http.response.body", "body": chunk.encode(), "more_body": True})

    headers = [*about_the_request(answer), *_HEADERS]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await write("retry: 1000\n\n")
    try:
        async with aclosing(job_events(hub, inquiry, job, after)) as events:
            async for event in events:
                await write(": keep-alive\n\n" if event is None else _frame(event))
    except Refused:
        pass  # the client comes back and is told why
    await send({"type": "http.response.body", "body": b"", "more_body": False})


def _frame(event: Event) -> str:
    return f"id: {event.id}\nevent: {event.type}\ndata: {event.json()}\n\n"


def resume_from(scope: Scope) -> str:
    """Return the position in `Last-Event-ID`, or in `?last_event_id=` for clients that set no headers."""
    sent = header(scope["headers"], b"last-event-id")
    if sent is None:
        sent = parse_qs(scope["query_string"].decode("latin-1")).get("last_event_id", [""])[0]
    return position(sent)
