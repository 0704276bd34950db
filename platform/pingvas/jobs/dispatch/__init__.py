"""The doorbell: the one place in `pingvas` that touches Celery. A message says "look at row N", no more.

A user has at most the plan's `max_concurrent_jobs` on the broker; the rest wait in the table, and ending
one releases the next, so a queue that is first in, first out still takes turns between users.
"""

from pingvas.jobs.dispatch.bell import (
    BATCH_PRIORITY,
    GENERATE,
    INTERACTIVE_PRIORITY,
    RETRY_PRIORITY,
    Bell,
    wire_priority,
)
from pingvas.jobs.dispatch.broker import BrokerAway, depths, ring
from pingvas.jobs.dispatch.places import refill
from pingvas.jobs.dispatch.ringer import announce, flush

__all__ = [
    "BATCH_PRIORITY",
    "GENERATE",
    "INTERACTIVE_PRIORITY",
    "RETRY_PRIORITY",
    "Bell",
    "BrokerAway",
    "announce",
    "depths",
    "flush",
    "refill",
    "ring",
    "wire_priority",
]
