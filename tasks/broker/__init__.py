"""The order in which a worker takes messages: tiers share by weight, on Redis and on RabbitMQ alike.

`fair` decides, `turns` keeps one order a process and charges it, `redis` and `amqp` are the transports
that ask it. Why: docs/decisions/0009 and 0010.
"""

from kombu.transport import TRANSPORT_ALIASES

_TRANSPORTS = {
    "redis": "tasks.broker.redis:Transport",
    "rediss": "tasks.broker.redis:Transport",
    "amqp": "tasks.broker.amqp:Transport",
    "amqps": "tasks.broker.amqp:SSLTransport",
}


def install() -> None:
    """Let connections of this process take messages in the fair order.

    Called before the first connection. URLs keep their schemes, so that Flower knows them; whoever only
    sends needs none of this.
    """
    TRANSPORT_ALIASES.update(_TRANSPORTS)
