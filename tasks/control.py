"""Scheduled work that needs no GPU."""

from typing import Any

from pingvas.jobs import sweep as jobs_sweep
from pingvas.web import idempotency
from tasks import app

EXPIRED_KEYS_PER_BATCH = 10_000


@app.task(name="tasks.control.sweep")
def sweep() -> dict[str, Any]:
    """Act again on rows that nobody answered for."""
    return jobs_sweep.sweep().__dict__


@app.task(name="tasks.control.expire_idempotency_keys")
def expire_idempotency_keys() -> int:
    """Forget old Idempotency-Keys."""
    forgotten = 0
    while (batch := idempotency.expire(EXPIRED_KEYS_PER_BATCH)) > 0:
        forgotten += batch
    return forgotten
