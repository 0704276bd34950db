"""Subscriptions whose renewal is overdue are read from the shop: a webhook that was lost is made up for."""

import json
import logging
from datetime import timedelta
from typing import Final
from uuid import UUID

from sqlalchemy import or_, select, update

from pingvas import clock, db
from pingvas.billing.lemonsqueezy import client, inbox
from pingvas.billing.subscriptions.decide import Phase
from pingvas.billing.subscriptions.models import Subscription
from pingvas.errors import Unavailable

log = logging.getLogger(__name__)

GRACE: Final = timedelta(days=1)
"""So long after its renewal was due a subscription is asked about, and again each such time."""


def read_again(limit: int = 200) -> dict[str, int]:
    """Ask the shop about at most so many subscriptions; return how many answers there were, and how many new.

    An answer is stored like a webhook, and handled as one: the same twice counts once, and a webhook that
    is late after all finds its news known.
    """
    counts = {"asked": 0, "new": 0}
    if not client.is_configured():
        return counts
    for row_id, provider_id in _overdue(limit):
        try:
            counts["new"] += _read(provider_id)
            counts["asked"] += 1
        except client.Refused as error:
            log.error("subscription %s is overdue, and cannot be read: %s", provider_id, error)
        except Unavailable:
            break  # none of the others would be answered: the next run asks
        with db.transaction() as session:
            asked = update(Subscription).where(Subscription.id == row_id)
            session.execute(asked.values(asked_at=clock.now()))
    return counts


def _overdue(limit: int) -> list[tuple[UUID, str]]:
    before = clock.now() - GRACE
    overdue = (
        select(Subscription.id, Subscription.provider_id)
        .where(Subscription.phase != Phase.ENDED, Subscription.status != "cancelled")
        .where(Subscription.renews_at < before)
        .where(or_(Subscription.asked_at.is_(None), Subscription.asked_at < before))
    )
    with db.transaction() as session:
        rows = session.execute(overdue.order_by(Subscription.asked_at.nulls_first()).limit(limit))
        return [(row.id, row.provider_id) for row in rows]


def _read(provider_id: str) -> bool:
    meta = {"event_name": "subscription_updated", "read_again": True}
    body = {"meta": meta, "data": client.subscription(provider_id)}
    return inbox.store(json.dumps(body, sort_keys=True).encode())
