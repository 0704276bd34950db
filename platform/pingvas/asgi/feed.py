"""What one follower of a job is told: the stream, and the row wherever the stream fails."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from contextlib import aclosing
from typing import TypeVar

from starlette.types import Receive

from pingvas.asgi.internal import Job
from pingvas.events import START, Event, of_job
from pingvas.events.hub import Hub
from pingvas.events.model import ENDED, beyond, is_beyond

T = TypeVar("T")


async def job_events(
    hub: Hub, job: Job, after: str, look: Callable[[], Awaitable[Job | None]]
) -> AsyncGenerator[Event | None, None]:
    """Yield the events of `job` after the position `after`, and end with the event that ends the job.

    When the hub is drained it ends without one, and the follower resumes elsewhere. None comes in a
    silence of `hub.keep_alive` seconds. `look` reads the row again and may raise; the row has the word
    when the stream is gone (a first `status`) or lacks its last event.
    """
    job_id: str = job["job_id"]
    if job["status"] not in ENDED:
        if not await hub.has_stream(job_id):
            yield Event(after if after != START else "0-1", *of_job(job))
        async with aclosing(hub.follow(job_id, after)) as stream:
            async for event in stream:
                yield event
                if event is not None:
                    after = event.id
                    if event.last:
                        return
                else:
                    job = await look() or job
                    if job["status"] in ENDED:
                        break
            else:
                return
    for event in await hub.read(job_id, after):
        after = event.id
        yield event
        if event.last:
            return
    yield Event(beyond(after), *of_job(job))


async def knows_the_end(hub: Hub, job: Job, after: str) -> bool:
    """Tell whether a follower who has come to `after` was told how the job ended."""
    if job["status"] not in ENDED or after == START:
        return False
    if is_beyond(after):
        return True
    event = await hub.at(job["job_id"], after)
    return event is not None and event.last


async def while_connected(receive: Receive, goodbye: str, work: Coroutine[None, None, T]) -> T | None:
    """Return what `work` returns, or None once the client has gone (a message of type `goodbye`)."""
    task = asyncio.create_task(work)
    gone = asyncio.create_task(_gone(receive, goodbye))
    try:
        await asyncio.wait((task, gone), return_when=asyncio.FIRST_COMPLETED)
    finally:
        for each in (task, gone):
            each.cancel()
        await asyncio.wait((task, gone))
    return None if task.cancelled() else task.result()


async def _gone(receive: Receive, goodbye: str) -> None:
    while (await receive())["type"] != goodbye:
        pass
