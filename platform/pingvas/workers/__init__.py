"""GPU workers that are alive, by their own word in Redis. Who may run a job is decided by its row alone."""

from pingvas.workers.presence import ANNOUNCE_SECONDS, Worker, announce, forget, live, withdraw
from pingvas.workers.wakeups import listen, wake

__all__ = ["ANNOUNCE_SECONDS", "Worker", "announce", "forget", "listen", "live", "wake", "withdraw"]
