"""Beat's scheduler, Celery's own, which also tells when it last looked at its schedule."""

import logging
import time
from typing import Any, Final

from celery.beat import PersistentScheduler
from celery.signals import beat_init

from tasks import health

log = logging.getLogger(__name__)

LIMIT_SECONDS: Final = 60.0  # twice `beat_max_loop_interval`

_ticked_at = time.monotonic()


class Scheduler(PersistentScheduler):
    """Notes each tick, whatever comes of it: a broker that is away is no reason to start beat again."""

    def tick(self, *args: Any, **kwargs: Any) -> Any:
        """Ring for what is due; return the seconds until the next tick."""
        global _ticked_at
        _ticked_at = time.monotonic()
        return super().tick(*args, **kwargs)

    def _ensure_connected(self) -> Any:
        def away(error: BaseException, seconds: float) -> None:
            global _ticked_at
            _ticked_at = time.monotonic()
            log.error("the broker is away, trying again in %.0f s: %s", seconds, error)

        limit = self.app.conf.broker_connection_max_retries
        return self.connection.ensure_connection(away, limit)


@beat_init.connect
def _serve(**_: object) -> None:
    health.serve(health.of_beat(lambda: time.monotonic() - _ticked_at, LIMIT_SECONDS))
