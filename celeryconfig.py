"""Celery settings, shared by the API's doorbell, workers, beat and Flower. Why: docs/decisions/0004."""

from kombu import Exchange, Queue

from beat_schedule import beat_schedule as beat_schedule
from pingvas import settings

TIERS = ("enterprise", "studio", "pro", "starter", "free")  # the order in which a worker serves them

broker_url = settings.get().broker_url
if not broker_url:
    raise settings.SettingsError("BROKER_URL: not set, and no embedded server runs on this data folder")
broker_connection_retry_on_startup = True
broker_connection_max_retries = None  # a worker outlives any broker outage
broker_pool_limit = 10
broker_transport_options = {
    "queue_order_strategy": "priority",  # strictly in the order of the -Q option
    "priority_steps": [0],  # with several, a free message at priority 0 would overtake enterprise
    "visibility_timeout": 3_600,  # longer than any job: a lost worker is the lease's business
    "unacked_restore_interval": 5,
    "socket_timeout": 10,
    "socket_connect_timeout": 3,
    "socket_keepalive": True,
    "health_check_interval": 5,
}

task_queues = [
    Queue(name, Exchange("pingvas", type="direct"), routing_key=name) for name in (*TIERS, "control")
]
task_default_queue = "control"
task_default_exchange = "pingvas"
task_default_routing_key = "control"
task_create_missing_queues = False  # a misspelt queue is an error, not a new queue

imports = ("tasks.generation", "tasks.control")
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
