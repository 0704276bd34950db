"""One fair order a process, charged with what its tasks cost."""

import threading
from functools import cache
from typing import Any

from celery.signals import task_postrun

from pingvas import settings
from pingvas.billing import plans
from tasks.broker.fair import FairOrder, tier_of

_running = threading.local()  # a task runs in one thread from its start to `task_postrun`


@cache
def fair_order() -> FairOrder:
    """Return this process's order; it outlives connections to the broker."""
    weights = {tier.value: plan.weight for tier, plan in plans.table().items()}
    return FairOrder(weights, strict=settings.get().queue_order == "strict")


def spent(gpu_seconds: float) -> None:
    """Note what the running task has cost; one that notes nothing was free."""
    _running.gpu_seconds = getattr(_running, "gpu_seconds", 0.0) + gpu_seconds


@task_postrun.connect
def _settle(task: Any, **_: object) -> None:
    """Charge every task that was started, however it ended, to the queue it came from."""
    cost, _running.gpu_seconds = getattr(_running, "gpu_seconds", 0.0), 0.0
    fair_order().settle(tier_of((task.request.delivery_info or {}).get("routing_key") or ""), cost)
