"""How long an attempt may run: what its plan gives, or what its customer was quoted, twice."""

from typing import Any, Final

from sqlalchemy import case, func

from pingvas import settings
from pingvas.billing import plans
from pingvas.billing.plans import Tier
from pingvas.jobs.models import Job

MISSES: Final = 2
"""So many attempts may miss their deadline; then the job has failed."""

_QUOTES: Final = 2


def seconds(tier: str, credits_quoted: int) -> float:
    """Return how long an attempt may run, from its claim to its pictures."""
    return max(_of_plan(tier), float(_QUOTES * credits_quoted))


def from_now() -> Any:
    """Return the SQL of the instant by which a job's attempt that begins now must have ended."""
    plan = case({tier.value: _of_plan(tier) for tier in Tier}, value=Job.tier)
    seconds = func.greatest(plan, _QUOTES * Job.credits_quoted)
    return func.clock_timestamp() + func.make_interval(0, 0, 0, 0, 0, 0, seconds)


def _of_plan(tier: str) -> float:
    own = plans.of(tier).job_deadline_seconds
    return settings.get().job_deadline_seconds if own is None else float(own)
