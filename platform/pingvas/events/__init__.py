"""What happens to a job, told in order: one stream per job on Redis.

The row in the database is the truth. A stream lives for a day and may be lost at any moment; who follows
it (`pingvas.events.hub`, `pingvas.asgi`) falls back to the row.
"""

from pingvas.events.model import CHANNEL, START, Event, first, of_job, position, stream_key
from pingvas.events.stream import knock, latest_progress, publish, read

__all__ = [
    "CHANNEL",
    "START",
    "Event",
    "first",
    "knock",
    "latest_progress",
    "of_job",
    "position",
    "publish",
    "read",
    "stream_key",
]
