"""Celery tasks: glue between `pingvas` (rows, money) and `gpu_worker` (pictures)."""

from celery import Celery

from pingvas import domains
from tasks import broker

domains.load()
broker.install()
app = Celery("pingvas")
app.config_from_object("celeryconfig")

from tasks import worker as worker  # noqa: E402 (its signal handlers need the app)
