"""What beat rings, and when. Every tick is idempotent, and one that nobody took in time is dropped."""

from pingvas import settings

_sweep = settings.get().sweep_seconds

beat_schedule = {
    "sweep leases, free places and unanswered rows": {
        "task": "tasks.control.sweep",
        "schedule": _sweep,
        "options": {"queue": "control", "expires": _sweep},
    },
    "drop expired idempotency keys": {
        "task": "tasks.control.expire_idempotency_keys",
        "schedule": 3_600.0,
        "options": {"queue": "control", "expires": 3_600},
    },
}
