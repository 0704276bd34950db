"""Celery settings, shared by the API's doorbell, workers, beat and Flower. Why: docs/decisions/0004, 0009."""

from kombu import Exchange, Queue

from beat_schedule import beat_schedule as beat_schedule
from pingvas import settings
from pingvas.jobs.dispatch import PRIORITIES

TIERS = ("enterprise", "studio", "pro", "starter", "free")  # highest first: the order of strict mode

broker_url = settings.get().broker_url
if not broker_url:
    raise settings.SettingsError("BROKER_URL: not set, and no embedded server runs on this data folder")
broker_connection_retry_on_startup = True
broker_connection_max_retries = None  # a worker outlives any broker outage
broker_pool_limit = 10
if settings.get().broker_is_rabbitmq:
    broker_heartbeat = 20
    broker_transport_options = {}
else:
    broker_transport_options = {
        "priority_steps": sorted(PRIORITIES),  # where sender and worker differ, messages stick for ever
        "visibility_timeout": 3_600,  # longer than any job: a lost worker is the lease's business
        "unacked_restore_interval": 5,
        "socket_timeout": 10,
        "socket_connect_timeout": 3,
        "socket_keepalive": True,
        "health_check_interval": 5,
    }

