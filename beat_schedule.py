"""What beat rings, and when. Every tick is idempotent, and one that nobody took in time is dropped.

Two beats may run: each task is done once a period by `pingvas.beats` (docs/decisions/0012).
"""

from typing import Any

from pingvas import settings


def _every(seconds: float, task: str) -> dict[str, Any]:
    return {"task": task, "schedule": seconds, "options": {"queue": "control", "expires": seconds}}


beat_schedule = {
    "sweep leases, free places and unanswered rows": _every(
        settings.get().sweep_seconds, "tasks.control.sweep"
    ),
    "replay what the infrastructure failed": _every(30.0, "tasks.control.replay_dead_letters"),
    "send mails that nobody was rung for, and those whose turn comes again": _every(
        15.0, "tasks.control.send_mails"
    ),
    "handle webhooks of the shop": _every(10.0, "tasks.control.handle_webhooks"),
    "ask the shop about renewals that are overdue": _every(3_600.0, "tasks.control.read_subscriptions"),
    "begin the months of accounts": _every(300.0, "tasks.control.reset_months"),
    "tell who is short of credits": _every(600.0, "tasks.control.tell_low_credits"),
    "prove the books": _every(3_600.0, "tasks.control.reconcile"),
    "delete rows past their time": _every(3_600.0, "tasks.control.trim_history"),
    "delete bytes of pictures that have no row": _every(3_600.0, "tasks.control.collect_orphans"),
    "drop expired idempotency keys": _every(3_600.0, "tasks.control.expire_idempotency_keys"),
}

periods = {entry["task"]: float(entry["schedule"]) for entry in beat_schedule.values()}
"""By task, the seconds from one run to the next."""
