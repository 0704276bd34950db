"""Celery tasks: glue between `pingvas` (rows, money) and `gpu_worker` (pictures)."""

from celery import Celery

from pingvas import domains

domains.load()
app = Celery("pingvas")
app.config_from_object("celeryconfig")

from tasks import worker as worker  # noqa: E402 (its signal handlers need the app)
