"""Redis: the fair order through kombu's `queue_order_strategy`, and priorities inside a queue."""

from collections.abc import Sequence
from time import monotonic

from kombu.transport import redis

from tasks.broker.turns import fair_order


class Cycle:
    """What kombu asks for the order of one channel's queues; the process's order decides."""

    def __init__(self) -> None:
        self._queues: list[str] = []

    def update(self, queues: Sequence[str]) -> None:
        """Take the channel's queues."""
        self._queues = list(queues)

    def consume(self, n: int) -> list[str]:
        """Return the first `n` queues to look into."""
        return fair_order().order(self._queues)[:n]

    def rotate(self, last_used: str) -> str:
        """Note which queue had a message."""
        fair_order().served(last_used)
        return last_used


class Channel(redis.Channel):
    """Looks through the queues one by one, and only inside a queue by priority.

    kombu asks for priority 0 of every queue before priority 1 of any: there a retried job of the lowest tier
    would go before all others' first attempts.
    """

    queue_order_strategy = Cycle  # type: ignore[assignment]  # kombu takes a class too

    def _brpop_start(self, timeout: float | None = None) -> None:
        """As kombu 5.7 does it, save for the order of the keys."""
        queues = self._queue_cycle.consume(len(self.active_queues))  # type: ignore[attr-defined]
        if not queues:
            return
        key = self._q_for_pri  # type: ignore[attr-defined]
        keys = [key(queue, step) for queue in queues for step in self.priority_steps]
        command = ["BRPOP", *keys, timeout or self.brpop_timeout]
        if self.global_keyprefix:
            command = self.client._prefix_args(command)
        self._in_poll = self.client.connection
        self._brpop_sent_at = monotonic()
        self.client.connection.send_command(*command)


class Transport(redis.Transport):
    """kombu's, with that channel."""

    Channel = Channel
