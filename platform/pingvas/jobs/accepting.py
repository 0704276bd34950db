"""The one round trip of a submit: the database function `accept_jobs`, and what its refusals mean."""

import json
import time
from collections.abc import Sequence
from typing import Any
from uuid import UUID

from pingvas import clock, db, ids
from pingvas.billing import plans
from pingvas.errors import Forbidden, InsufficientCredits, QueueFull, TierRequired, TooMany, Unavailable
from pingvas.jobs import eta
from pingvas.together import Together, riding

_ACCEPT = """
    SELECT n, outcome, amount, rung, waits FROM jsonb_to_recordset(%(requests)s) AS request (
        n int, customer uuid, tier text, metered boolean, room bigint, places bigint, jobs jsonb, call jsonb,
        patient boolean),
    LATERAL accept_jobs(customer, tier, metered, room, places, %(now)s, jobs, call, patient) AS reply
    ORDER BY n"""
_BUSY_SECONDS = 5.0
_LOOK_AGAIN_SECONDS = 0.005


def call(tier: str) -> dict[str, Any]:
    """Return what a call with an API key costs, as `accept_jobs` takes it.

    Raises:
        TierRequired: the plan has no such calls.
    """
    most = plans.of(tier).api_calls_per_month
    if not most:
        lowest = [other for other, plan in plans.table().items() if plan.api_calls_per_month][-1]
        raise TierRequired(
            f"Generating with an API key is for the {plans.of(lowest).title} plan and above.", required=lowest
        )
    return {"id": str(ids.new()), "fee": plans.prices().api_call_credits, "most": plans.limit(most)}


def accept(values: dict[str, Any]) -> Any:
    """Write the jobs. On a lane nobody may wait for a wallet that is locked: it is looked at again."""
    values = {**values, "patient": riding() is None}
    end = time.monotonic() + _BUSY_SECONDS
    while (reply := _accept_once(values)).outcome == "busy":
        if time.monotonic() > end:
            raise Unavailable("Your account is busy with something else; try again.")
        _pause(None)
    return reply


def _accept_all(requests: Sequence[dict[str, Any]]) -> Sequence[Any]:
    numbered = [{"n": n, **request} for n, request in enumerate(requests)]
    return db.query(_ACCEPT, {"now": clock.now(), "requests": json.dumps(numbered)})


def _rest(requests: Sequence[None]) -> Sequence[None]:
    time.sleep(_LOOK_AGAIN_SECONDS)
    return requests


_accept_once: Together[dict[str, Any], Any] = Together(_accept_all)
_pause: Together[None, None] = Together(_rest)


def check(reply: Any, values: dict[str, Any], plan: plans.Plan) -> None:
    """Turn the reply to `values` into its error, if it is no acceptance.

    Raises:
        Forbidden: the account was suspended since the sign-in.
        InsufficientCredits, QueueFull, TooMany: see `submit.submit`.
    """
    amount: int = reply.amount
    if reply.outcome == "suspended":
        raise Forbidden("This account is suspended")
    if reply.outcome == "insufficient":
        total = sum(job["quote"] for job in values["jobs"]) + (values["call"] or {"fee": 0})["fee"]
        raise InsufficientCredits(
            f"This needs {total} credits and {amount} are available.", required=total, available=amount
        )
    if reply.outcome == "queue_full":
        raise _queue_full(amount, len(values["jobs"]), plan, UUID(values["customer"]))
    if reply.outcome == "no_calls":
        most = plan.api_calls_per_month
        raise TooMany(
            f"The {plan.title} plan has {most} calls with API keys a month, and this month's are used up.",
            policy="api-calls",
            limit=most,
            window=amount,
            retry_after=amount,
        )


def _queue_full(waiting: int, more: int, plan: plans.Plan, user_id: UUID) -> QueueFull:
    room = plan.max_queue_size
    message = f"{waiting} of your jobs are waiting and the {plan.title} plan allows {room}"
    message += f"; these would be {more} more." if more > 1 else "."
    return QueueFull(
        message,
        policy="waiting-jobs",
        limit=room,
        remaining=max(0, room - waiting),
        retry_after=eta.next_place_seconds(user_id),
    )
