"""Following many jobs in one process: one subscription to the doorbell, fanned out to asyncio waiters."""

import asyncio
import logging
import random
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TypeVar
from uuid import UUID

import redis
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.client import PubSub
from redis.backoff import NoBackoff
from redis.retry import Retry

from pingvas.events.model import CHANNEL, START, Event, is_knock, knock_of, stream_key
from pingvas.events.stream import parse

_BACKOFF = (0.1, 0.5, 1.0, 2.0, 5.0)  # seconds between attempts to subscribe; the last one repeats
_PING_SECONDS = 10.0
_CONNECTIONS = 16

T = TypeVar("T")

log = logging.getLogger(__name__)


class Bell(asyncio.Event):
    """Set when a job's stream may have grown; `knocked`: or when its follower has to be looked at again."""

    knocked = False


class Knock:
    """In place of an event: see whether the follower may still follow."""


class Hub:
    """The doorbell of this process, and the streams behind it. Belongs to one event loop.

    `keep_alive` (seconds) is how long a follower waits at most before it looks at its stream again,
    so a lost doorbell delays an event and loses none. After `look_every` such silences it looks at the row.
    """

    def __init__(self, url: str, keep_alive: float = 15.0, look_every: int = 4) -> None:
        self.keep_alive = keep_alive
        self.look_every = look_every
        self._url = url
        self._bells: dict[str, set[Bell]] = {}
        self._knocks = 0
        self._subscription: asyncio.Task[None] | None = None
        self._redis: Redis[str] | None = None
        self._draining = False

    @property
    def followers(self) -> int:
        """How many are waiting for a doorbell."""
        return sum(len(bells) for name, bells in self._bells.items() if not is_knock(name))

    @property
    def knocks(self) -> int:
        """How many knocks were heard, at whosever door: see `follow`."""
        return self._knocks

    @property
    def draining(self) -> bool:
        """Whether the process is about to stop."""
        return self._draining

    def start(self) -> None:
        """Subscribe in the background; again has no effect. Needs a running loop."""
        if self._subscription is None and self._url:
            self._redis = self._connect()
            self._subscription = asyncio.create_task(self._listen(self._redis), name="doorbell")

    def drain(self) -> None:
        """Let everybody who follows a job come to an end: the process is about to stop."""
        self._draining = True
        self._ring_all()

    async def stop(self) -> None:
        """Unsubscribe and close the connections."""
        if self._subscription is not None:
            self._subscription.cancel()
            with suppress(asyncio.CancelledError):
                await self._subscription
            self._subscription = None
        if self._redis is not None:
            await self._redis.connection_pool.disconnect()
            self._redis = None

    @contextmanager
    def listening(self, job_id: str | UUID, whose: str | None = None) -> Iterator[Bell]:
        """Give an event that is set whenever the job's stream may have grown, or a knock is for `whose`."""
        names = [str(job_id)] if whose is None else [str(job_id), knock_of(whose)]
        bell = Bell()
        for name in names:
            self._bells.setdefault(name, set()).add(bell)
        try:
            yield bell
        finally:
            for name in names:
                bells = self._bells[name]
                bells.discard(bell)
                if not bells:
                    del self._bells[name]

    async def read(self, job_id: str | UUID, after: str = START) -> list[Event]:
        """Return the events after the position `after`; empty when Redis cannot be reached."""
        if self._redis is None:
            return []
        try:
            return parse(await _cancellable(self._redis.xrange(stream_key(job_id), min=f"({after}")))
        except redis.RedisError as error:
            log.warning("events of job %s not read: %s", job_id, error)
            return []

    async def at(self, job_id: str | UUID, place: str) -> Event | None:
        """Return the event at exactly this position; None when Redis cannot be reached."""
        if self._redis is None:
            return None
        try:
            found = parse(await _cancellable(self._redis.xrange(stream_key(job_id), min=place, max=place)))
        except redis.RedisError as error:
            log.warning("events of job %s not read: %s", job_id, error)
            return None
        return found[0] if found else None

    async def newest(self, job_id: str | UUID) -> str | None:
        """Return the position of the stream's newest event, `START` without one; None when Redis is away."""
        if self._redis is None:
            return None
        try:
            found = await _cancellable(self._redis.xrevrange(stream_key(job_id), count=1))
        except redis.RedisError as error:
            log.warning("events of job %s not read: %s", job_id, error)
            return None
        return str(found[0][0]) if found else START

    async def follow(
        self, job_id: str | UUID, after: str = START, whose: str | None = None, knocks: int | None = None
    ) -> AsyncGenerator[Event | Knock | None, None]:
        """Yield every event after the position `after`, once and in order, to the last or until drained.

        None comes after `keep_alive` seconds in which nothing happened, a `Knock` when somebody knocks for
        the user `whose`, and at once if the hub has heard any since it had heard `knocks`. Close the iterator
        (`contextlib.aclosing`) to stop listening.
        """
        with self.listening(job_id, whose) as bell:
            bell.knocked = knocks is not None and knocks != self._knocks
            while True:
                if bell.knocked:
                    bell.knocked = False
                    yield Knock()
                # Cleared before the read: what is published during it rings again, so nothing slips between.
                bell.clear()
                for event in await self.read(job_id, after):
                    after = event.id
                    yield event
                    if event.last:
                        return
                if self._draining:
                    return
                if not await self._rings(bell):
                    yield None

    async def _rings(self, bell: asyncio.Event) -> bool:
        # Spread a little, so that followers who came together do not all look at the same moment.
        patience = self.keep_alive * random.uniform(0.8, 1.0)
        try:
            async with asyncio.timeout(patience):
                await bell.wait()
        except TimeoutError:
            return False
        return True

    def _connect(self) -> "Redis[str]":
        pool: Any = BlockingConnectionPool.from_url(
            self._url,
            max_connections=_CONNECTIONS,
            timeout=5,
            decode_responses=True,
            socket_connect_timeout=2,
            socket_timeout=5,
            socket_keepalive=True,
            retry=Retry(NoBackoff(), 1),
        )
        return Redis(connection_pool=pool, decode_responses=True)

    async def _listen(self, client: "Redis[str]") -> None:
        failures = 0
        while True:
            try:
                async with client.pubsub() as subscription:
                    await subscription.subscribe(CHANNEL)
                    async for message in _messages(subscription):
                        failures = 0
                        self._ring(message)
            except (redis.RedisError, OSError) as error:
                if not failures:
                    log.warning("the doorbell of events is silent: %s", error)
                await asyncio.sleep(_BACKOFF[min(failures, len(_BACKOFF) - 1)])
                failures += 1

    def _ring(self, message: dict[str, Any]) -> None:
        if message["type"] == "message":
            name = str(message["data"])
            knocked = is_knock(name)
            self._knocks += knocked
            for bell in self._bells.get(name, ()):
                bell.knocked |= knocked
                bell.set()
        elif message["type"] == "subscribe":  # connected, perhaps again: who knows what rang before
            self._ring_all()

    def _ring_all(self) -> None:
        for bells in self._bells.values():
            for bell in bells:
                bell.set()


async def _cancellable(asking: Awaitable[T]) -> T:
    """Await a question to Redis so that a cancellation reaches the caller: redis-py loses some of them."""
    return await asyncio.shield(asyncio.ensure_future(asking))


async def _messages(subscription: PubSub) -> AsyncIterator[dict[str, Any]]:
    """Yield what the subscription receives.

    Raises:
        redis.ConnectionError: the server is gone, or has not even answered a ping for 10 seconds.
    """
    asked = False
    while True:
        message = await subscription.get_message(timeout=_PING_SECONDS)
        if message is not None:
            asked = False
            yield message
        elif asked:
            raise redis.ConnectionError("no answer to a ping")
        else:
            await subscription.ping()
            asked = True
