"""Beat's scheduler, Celery's own, which also tells when it last looked at its schedule, and what is in it."""

import logging
import math
import time
from typing import Any, Final

from celery.beat import PersistentScheduler
from celery.signals import beat_init
from sqlalchemy.exc import SQLAlchemyError

from beat_schedule import periods
from pingvas import beats, settings
from tasks import health

log = logging.getLogger(__name__)

LIMIT_SECONDS: Final = 60.0  # twice `beat_max_loop_interval`
_TELL_AGAIN_SECONDS: Final = 60.0

_ticked_at = time.monotonic()


class Scheduler(PersistentScheduler):
    """Notes each tick, whatever comes of it: a broker that is away is no reason to start beat again."""

    _tell_at = 0.0  # by the monotonic clock; infinity: told

    def tick(self, *args: Any, **kwargs: Any) -> Any:
        """Ring for what is due; return the seconds until the next tick."""
        global _ticked_at
        _ticked_at = time.monotonic()
        if _ticked_at >= self._tell_at:
            self._tell()
        return super().tick(*args, **kwargs)

    def _tell(self) -> None:
        """Say in the database which tasks are expected to run; without it ticks are rung all the same."""
        try:
            beats.expect(periods)
            self._tell_at = math.inf
        except (SQLAlchemyError, settings.SettingsError) as error:
            self._tell_at = _ticked_at + _TELL_AGAIN_SECONDS
            log.warning("a task that never runs would not be noticed: %s", error)

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
