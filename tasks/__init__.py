"""Celery tasks: glue between `pingvas` (rows, money) and `gpu_worker` (pictures)."""

import logging
from typing import Any

from celery import Celery
from celery.signals import after_setup_logger, after_setup_task_logger

from pingvas import domains, logs
from tasks import broker

domains.load()
broker.install()
app = Celery("pingvas")
app.config_from_object("celeryconfig")


@after_setup_logger.connect
@after_setup_task_logger.connect
def _one_record_one_line(logger: logging.Logger, **_: Any) -> None:
    logs.apply(logger, app.conf.worker_log_format)


from tasks import worker as worker  # noqa: E402 (its signal handlers need the app)
