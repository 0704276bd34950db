"""`/metrics` of the control worker, where a port is set."""

import logging
import threading
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, make_server

from celery.signals import worker_ready
from prometheus_client import CollectorRegistry, make_wsgi_app
from prometheus_client.exposition import ThreadingWSGIServer

from pingvas import internal_tokens, settings
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
        app = internal_tokens.guarded(make_wsgi_app(registry))
        server = make_server(config.metrics_host, config.metrics_port, app, ThreadingWSGIServer, _Quiet)
    except OSError as error:  # another control worker of this host serves the same numbers
        log.warning("no /metrics at %s:%s: %s", config.metrics_host, config.metrics_port, error)
        return
    threading.Thread(target=server.serve_forever, name="metrics", daemon=True).start()


class _Quiet(WSGIRequestHandler):
    def log_message(self, *args: object) -> None:
        """Keep scrapes out of the log."""
