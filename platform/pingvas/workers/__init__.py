"""GPU workers that are alive, by their own word in Redis. Who may run a job is decided by its row alone."""

from pingvas.workers.drains import ask_to_drain, asked_to_drain
from pingvas.workers.names import Name
from pingvas.workers.presence import ANNOUNCE_SECONDS, Worker, announce, forget, known, live, withdraw
from pingvas.workers.wakeups import listen, wake

__all__ = [
    "ANNOUNCE_SECONDS",
    "Name",
    "Worker",
    "announce",
    "ask_to_drain",
    "asked_to_drain",
    "forget",
    "known",
    "listen",
    "live",
    "wake",
    "withdraw",
]
