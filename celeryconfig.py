"""Celery settings, shared by the API's doorbell, workers, beat and Flower. Why: docs/decisions/0004, 0009."""

from typing import Any

from kombu import Exchange, Queue

from beat_schedule import beat_schedule as beat_schedule
from pingvas import settings
from pingvas.jobs import routing
from pingvas.jobs.dispatch import BATCH_PRIORITY, INTERACTIVE_PRIORITY, RETRY_PRIORITY

broker_url = settings.get().broker_url
if not broker_url:
    raise settings.SettingsError("BROKER_URL: not set, and no embedded server runs on this data folder")
broker_connection_retry_on_startup = True
broker_connection_max_retries = None  # a worker outlives any broker outage
broker_pool_limit = 10

_redis_options = {
    # Where sender and worker differ in these, messages stick for ever.
    "priority_steps": [RETRY_PRIORITY, INTERACTIVE_PRIORITY, BATCH_PRIORITY],
    "visibility_timeout": 3_600,  # longer than any job: a lost worker is the lease's business
    "unacked_restore_interval": 5,
    "socket_timeout": 5,  # several times what a BRPOP of ours waits; a silent line is noticed in 20 s
    "socket_connect_timeout": 3,
    "socket_keepalive": True,
    "health_check_interval": 5,
}
# Without timeouts a worker says goodbye to a silent line, and waits for an answer for ever. Beat and senders
# have no heartbeat: without confirmation they talk to such a line for ever.
_rabbitmq_options = {"connect_timeout": 3, "read_timeout": 5, "write_timeout": 5, "confirm_publish": True}


def transport_options(url: str) -> dict[str, Any]:
    """Return what kombu is told of the broker at `url`, by senders and workers alike."""
    return dict(_rabbitmq_options if settings.is_rabbitmq(url) else _redis_options)


broker_transport_options = transport_options(broker_url)
# RabbitMQ keeps an exclusive queue for a silent line; a worker that comes back over another would die of it.
control_queue_exclusive = event_queue_exclusive = False
broker_heartbeat = 5  # of RabbitMQ, and two may be missed; Redis has its health check

task_queues = [
    Queue(name, Exchange("pingvas", type="direct"), routing_key=name, max_priority=BATCH_PRIORITY)
    for name in (*routing.all_queues(), routing.CONTROL)
]
task_default_queue = routing.CONTROL
task_default_exchange = "pingvas"
task_default_routing_key = routing.CONTROL
task_create_missing_queues = False  # a misspelt queue is an error, not a new queue

beat_scheduler = "tasks.schedule:Scheduler"
beat_max_loop_interval = 30  # longer than that without a tick, and `/healthz` of beat would be wrong

imports = ("tasks.generation", "tasks.control", "tasks.metrics")
task_serializer = "json"
accept_content = ["json"]
task_ignore_result = True  # what a task came to is in the database
task_acks_late = True
worker_prefetch_multiplier = 1  # a reserved message is one that a higher tier cannot overtake
worker_send_task_events = True
worker_log_format = "%(asctime)s %(levelname)s %(name)s: %(message)s"
worker_task_log_format = worker_log_format
enable_utc = True
timezone = "UTC"
