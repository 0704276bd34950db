"""`/metrics` of the control worker, where a port is set."""

import logging
from typing import Any

from celery.signals import worker_ready
from prometheus_client import CollectorRegistry, start_http_server

from pingvas import settings
from pingvas.jobs import routing
from pingvas.metrics import Collector

log = logging.getLogger(__name__)


@worker_ready.connect
def _serve(sender: Any, **_: object) -> None:
    config = settings.get()
    if not config.metrics_port or routing.CONTROL not in sender.app.amqp.queues.consume_from:
        return
    registry = CollectorRegistry()
    registry.register(Collector())
    try:
        start_http_server(config.metrics_port, config.metrics_host, registry)
    except OSError as error:  # another control worker of this host serves the same numbers
        log.warning("no /metrics at %s:%s: %s", config.metrics_host, config.metrics_port, error)
