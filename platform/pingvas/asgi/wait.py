"""`GET /api/v1/jobs/{id}` with `Prefer: wait=N`: the answer is held until the job has ended."""

import asyncio
import re
from contextlib import aclosing, suppress

from starlette.types import Receive, Send

from pingvas.asgi.bridge import Answer
from pingvas.asgi.feed import job_events, while_connected
from pingvas.asgi.internal import Inquiry, Job, Refused, job_of, respond
from pingvas.events import START
from pingvas.events.hub import Hub
from pingvas.events.model import ENDED

LONGEST = 60
_WAIT = re.compile(r'(?:^|,)\s*wait\s*=\s*"?(\d{1,6})"?\s*(?=,|;|$)', re.IGNORECASE)


def seconds(prefer: str | None) -> int | None:
    """Return N of `Prefer: wait=N` (RFC 7240), at most 60; None where there is none, or nothing to wait."""
    match = _WAIT.search(prefer or "")
    return min(int(match[1]), LONGEST) or None if match else None


async def serve(hub: Hub, inquiry: Inquiry, patience: int, receive: Receive, send: Send) -> None:
    """Answer what Flask answers once the job has ended, or after `patience` seconds."""
    answer = await while_connected(receive, "http.disconnect", _answer(hub, inquiry, patience))
    if answer is None:
        return
    applied = [(b"preference-applied", f"wait={patience}".encode()), (b"vary", b"Prefer")]
    headers = [*answer.headers, *applied] if answer.status == 200 else answer.headers
    await respond(send, answer.status, headers, bytes(answer.body))


async def _answer(hub: Hub, inquiry: Inquiry, patience: int) -> Answer:
    answer = await inquiry.ask()
    if answer.status != 200 or job_of(answer)["status"] in ENDED:
        return answer
    with suppress(TimeoutError, Refused):
        async with asyncio.timeout(patience):
            await _end(hub, inquiry, job_of(answer))
    return await inquiry.ask()


async def _end(hub: Hub, inquiry: Inquiry, job: Job) -> None:
    async with aclosing(job_events(hub, inquiry, job, START)) as events:
        async for _ in events:
            pass
