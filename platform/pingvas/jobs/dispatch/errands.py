"""Ringing for a task of the control worker now, not only when beat does."""

import logging
from typing import Any

from pingvas.jobs import routing
from pingvas.jobs.dispatch.broker import BrokerAway, celery

log = logging.getLogger(__name__)


def call(task: str, **arguments: Any) -> bool:
    """Ring for a control task; False when the broker is away (beat's sweep does the work later)."""
    try:
        celery().send_task(task, kwargs=arguments, queue=routing.CONTROL, retry=False)
    except BrokerAway as error:
        log.warning("%s waits for beat, the broker is away: %s", task, error)
        return False
    return True
