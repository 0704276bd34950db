"""Celery's entry point of the chaos suite: the product's tasks, on an engine that draws nothing to speak of.

Back-offs are short too: the suite wants to see many attempts, not to wait for them.
"""

from pingvas.jobs import lifecycle
from tasks import app, worker
from tests.chaos.standin import StandIn

__all__ = ["app"]

lifecycle.BACKOFF_SECONDS = (0, 1, 2)
worker._engine = StandIn()  # type: ignore[assignment]  # the methods that a worker calls
