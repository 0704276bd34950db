"""RabbitMQ: messages are fetched one by one in the fair order, instead of being pushed in any.

RabbitMQ keeps no order between queues, and one queue with priorities can only be strict. So while there is
work a worker asks the queues itself (`basic.get`, an answer at once); only when all are empty does it let
the broker push, until the next message comes.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

from kombu.transport import pyamqp

from tasks.broker.turns import fair_order

Deliver = Callable[[Any], object]


class Channel(pyamqp.Channel):
    """Fetches for every consumer that acknowledges; Celery's control queues, which do not, are pushed."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._consumers: dict[str, tuple[str, Deliver]] = {}  # by queue: consumer tag, callback
        self._places: int | None = None  # messages that may be unacknowledged; 0 means any number
        self._unacknowledged: set[int] = set()
        self._listening: list[str] = []  # tags of consumers the broker pushes to
        super().__init__(*args, **kwargs)

    def basic_qos(self, prefetch_size: int, prefetch_count: int, a_global: bool, *_: Any) -> None:
        """Take the number of places; the broker is told once that a consumer gets one message, see `_listen`.

        After a lost connection Celery calls this from a task's thread, which must not read from the socket.
        """
        first, self._places = self._places is None, prefetch_count
        if first:
            super().basic_qos(prefetch_size, 1, False)

    def basic_consume(  # type: ignore[override]  # only what kombu gives
        self, queue: str, consumer_tag: str = "", no_ack: bool = False, callback: Any = None, **kwargs: Any
    ) -> str:
        """Fetch for this consumer from now on."""
        if no_ack:
            return super().basic_consume(queue, consumer_tag, no_ack=True, callback=callback, **kwargs)
        self._stop_listening()  # the queue joins at the next look
        self._consumers[queue] = consumer_tag, callback
        return consumer_tag

    def basic_cancel(self, consumer_tag: str, nowait: bool = False, argsig: str = "sb") -> None:
        """Fetch no more for this consumer."""
        queue = next((queue for queue, (tag, _) in self._consumers.items() if tag == consumer_tag), None)
        if queue is None:
            super().basic_cancel(consumer_tag, nowait, argsig)
        else:
            self._stop_listening()
            del self._consumers[queue]

    def basic_ack(self, delivery_tag: int, multiple: bool = False, argsig: str = "Lb") -> None:
        """Acknowledge, and have a free place again."""
        self._unacknowledged.discard(delivery_tag)
        super().basic_ack(delivery_tag, multiple, argsig)

    def basic_reject(self, delivery_tag: int, requeue: bool, argsig: str = "Lb") -> None:
        """Give back, and have a free place again."""
        self._unacknowledged.discard(delivery_tag)
        super().basic_reject(delivery_tag, requeue, argsig)

    def fetch(self) -> None:
        """Fill the free places; once the queues are empty, listen."""
        while self._consumers and not self._listening and self._has_place():
            if not self._fetch_one():
                self._listen()

    def _has_place(self) -> bool:
        return not self._places or len(self._unacknowledged) < self._places

    def _fetch_one(self) -> bool:
        for queue in fair_order().order(list(self._consumers)):
            message = self.basic_get(queue)
            if message is not None:
                self._deliver(queue, message)
                return True
        return False

    def _deliver(self, queue: str, message: Any) -> None:
        tag, callback = self._consumers[queue]
        message.delivery_info["consumer_tag"] = tag
        self._unacknowledged.add(message.delivery_tag)
        fair_order().served(queue)
        callback(message)

    def _listen(self) -> None:
        """Let the broker push the next message: nothing waits, so there is no order to keep."""
        for queue, (tag, _) in self._consumers.items():
            # No wait for an answer: while waiting, the first message could be pushed to half a set.
            super().basic_consume(queue, tag, nowait=True, callback=partial(self._pushed, queue))
            self._listening.append(tag)

    def _pushed(self, queue: str, message: Any) -> None:
        awaited = bool(self._listening)
        self._stop_listening()  # more may be waiting by now, in an order of ours
        if awaited and self._has_place():
            self._deliver(queue, message)
        else:  # it was on its way before the broker knew
            self.basic_reject(message.delivery_tag, requeue=True)

    def _stop_listening(self) -> None:
        tags, self._listening = self._listening, []
        for tag in tags:
            super().basic_cancel(tag, nowait=True)


class Connection(pyamqp.Connection):
    """py-amqp's, with that channel."""

    Channel = Channel


class Transport(pyamqp.Transport):
    """kombu's; its channels fetch at every turn of a worker's event loop."""

    Connection = Connection

    def register_with_event_loop(self, connection: Any, loop: Any) -> None:
        """Fetch before every wait of the loop: a finished task's acknowledgement wakes it."""
        super().register_with_event_loop(connection, loop)

        def fetch() -> None:
            if not connection.connected:
                loop.on_tick.discard(fetch)
                return
            for channel in list(connection.channels.values()):
                if isinstance(channel, Channel):
                    channel.fetch()

        loop.on_tick.add(fetch)


class SSLTransport(Transport, pyamqp.SSLTransport):
    """The same over TLS."""
