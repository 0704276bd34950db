"""What one follower of a job is told: the stream, and the row wherever the stream fails."""

import asyncio
from collections.abc import AsyncGenerator, Coroutine, Iterator
from contextlib import aclosing
from dataclasses import replace
from typing import TypeVar

from starlette.types import Receive

from pingvas.asgi.internal import Inquiry, Job
from pingvas.events import START, Event, of_job
from pingvas.events.hub import Hub, Knock
from pingvas.events.model import (
    ENDED,
    FIRST,
    beyond,
    first,
    following,
    is_beyond,
    is_later,
    is_of_another_stream,
)

T = TypeVar("T")


class _Telling:
    """What one follower has been told. Positions only grow, whatever becomes of the stream."""

    def __init__(self, after: str) -> None:
        self.place = after
        self._state: tuple[object, object] | None = None

    def knows(self, job: Job) -> bool:
        """Tell whether the follower was told of the state that the row is in."""
        return self._state == (job["status"], job.get("attempt"))

    def event(self, event: Event) -> Event:
        """Return an event of the stream as it is told: a stream that was lost may begin anew further back."""
        if not is_later(event.id, self.place):
            event = replace(event, id=beyond(self.place) if event.last else following(self.place))
        self.place = event.id
        if "status" in event.data:
            self._state = event.data["status"], event.data.get("attempt")
        return event

    def row(self, job: Job) -> Event:
        """Return the event that the row amounts to."""
        last = job["status"] in ENDED
        return self.event(Event(beyond(self.place) if last else following(self.place), *of_job(job)))


async def job_events(hub: Hub, inquiry: Inquiry, job: Job, after: str) -> AsyncGenerator[Event | None, None]:
    """Yield the events of `job` after the position `after`, and end with the event that ends the job.

    When the hub is drained it ends without one, and the follower resumes elsewhere. None comes in a
    silence of `hub.keep_alive` seconds. `inquiry`, which `job` is the last answer to, is made again after
    `hub.look_every` of them (thousands who only wait must not keep the API busy), and at once when somebody
    knocks for its caller. The row has the word wherever the stream lacks something: all of it, its beginning,
    a change of status, its last event.

    Raises:
        Refused: the caller may no longer see the job.
    """
    job_id: str = job["job_id"]
    telling = _Telling(after)
    read = after  # the position in the stream, which is not what was told once the stream was lost
    silences = 0
    if after == START:
        steps = job.get("progress", {}).get("total_steps", 0)
        yield telling.event(first(job_id, steps))
    while job["status"] not in ENDED:
        newest = await hub.newest(job_id)
        read = _resume(read, newest)
        if (silences or newest in (None, START)) and not telling.knows(job):
            yield telling.row(job)
        async with aclosing(hub.follow(job_id, read, inquiry.caller, inquiry.knocks)) as stream:
            async for event in stream:
                if isinstance(event, Knock):
                    break
                if event is None:
                    yield None
                    silences += 1
                    if silences % hub.look_every == 0:
                        break
                    continue
                if telling.place == FIRST and event.type == "progress":
                    yield telling.row(job)  # what came before is gone
                read = event.id
                yield telling.event(event)
            else:
                return
        job = await inquiry.job() or job
    for told in _rest(telling, job, await hub.read(job_id, _resume(read, await hub.newest(job_id)))):
        yield told


def _rest(telling: _Telling, job: Job, left: list[Event]) -> Iterator[Event]:
    """Yield what is left of the stream of a job that has ended; the row has the end if the stream has not."""
    for event in left:
        yield telling.event(event)
        if event.last:
            return
    yield telling.row(job)


def _resume(read: str, newest: str | None) -> str:
    """Return the position to read from: all of a stream that began after the one read so far was lost."""
    return START if newest is not None and is_of_another_stream(read, newest) else read


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
