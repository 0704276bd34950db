"""Resets that are due, in chunks of one statement each."""

from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Final

from sqlalchemy import text

from pingvas import clock, db
from pingvas.billing import plans
from pingvas.billing.resets import notices
from pingvas.billing.subscriptions import changes

CHUNK: Final = 20_000
AT_ONCE: Final = 2

# One statement does a chunk: what is left of a month expires, the plan's credits are given.
# Whatever number of months was missed, there is one grant, for the month that `now` is in (`months.month`).
# A wallet that somebody has locked is left for the next round. Keys are those of `wallets.month_key`. A month
# that the ledger has begun already, as after a wallet was set back by hand, is not begun again: no credits
# move, and only the next month's day is set.
# What is worked out is materialized, to be worked out once, and sorted, since indexes fill faster in order.
_CHUNK = text(
    """
    WITH due AS MATERIALIZED (
        SELECT w.user_id, w.monthly, w.purchased, w.anchor_at AT TIME ZONE 'UTC' AS anchor, plan.*
        FROM (
            SELECT user_id, monthly, purchased, anchor_at FROM wallets WHERE resets_at <= :now
            ORDER BY resets_at LIMIT :most FOR UPDATE SKIP LOCKED
        ) AS w
        JOIN users ON users.id = w.user_id
        JOIN unnest(CAST(:tiers AS text[]), CAST(:credits AS bigint[])) AS plan (tier, credits)
            ON plan.tier = users.tier
        ORDER BY w.user_id
    ), counted AS MATERIALIZED (
        SELECT *, greatest(0, (date_part('year', today) - date_part('year', anchor)) * 12
                              + date_part('month', today) - date_part('month', anchor))::int AS months
        FROM due, (SELECT CAST(:now AS timestamptz) AT TIME ZONE 'UTC') AS clock (today)
    ), begun AS MATERIALIZED (
        SELECT *, months - (months > 0 AND anchor + make_interval(months => months) > today)::int AS number
        FROM counted
    ), dated AS MATERIALIZED (
        SELECT user_id, monthly, purchased, tier, credits,
               (anchor + make_interval(months => number + 1)) AT TIME ZONE 'UTC' AS next,
               to_char(anchor + make_interval(months => number), 'YYYY-MM-DD"T"HH24|MI') AS start
        FROM begun
    ), named AS MATERIALIZED (
        SELECT *, format('reset|%s|%s', user_id, start) AS key,
               format('reset|%s|%s|expiry', user_id, start) AS key_of_expiry
        FROM dated
    ), work AS MATERIALIZED (
        SELECT *, uuidv7() AS expiry, uuidv7() AS allocation,
               (SELECT true FROM ledger_transactions AS t WHERE t.business_key = key) IS NULL
               AND (SELECT true FROM ledger_transactions AS t WHERE t.business_key = key_of_expiry) IS NULL
               AS new
        FROM named
    ), reset AS (
        UPDATE wallets SET monthly = CASE WHEN new THEN work.credits ELSE wallets.monthly END,
                           allocated = CASE WHEN new THEN work.credits ELSE wallets.allocated END,
                           last_reset_at = :now, resets_at = work.next
        FROM work WHERE wallets.user_id = work.user_id
    ), lines AS (
        INSERT INTO ledger_transactions
            (id, business_key, type, user_id, amount, balance_after, description, created_at)
        SELECT expiry, key_of_expiry, 'expiry', user_id, -monthly, purchased, 'Monthly credits expired', :now
        FROM work WHERE monthly > 0 AND new
        UNION ALL
        SELECT allocation, key, 'monthly_allocation', user_id, credits, purchased + credits,
               'Credits of the month', :now
        FROM work WHERE credits > 0 AND new
    ), legs AS (
        INSERT INTO ledger_entries (transaction_id, user_id, account, amount)
        SELECT leg.* FROM work, LATERAL (VALUES
            (expiry, user_id, 'monthly', -monthly), (expiry, NULL, 'grants', monthly),
            (allocation, user_id, 'monthly', credits), (allocation, NULL, 'grants', -credits)
        ) AS leg (transaction_id, user_id, account, amount)
        WHERE leg.amount <> 0 AND new
    )
    SELECT count(*), array_agg(user_id) FILTER (WHERE tier = ANY(:paid) AND new)
    FROM work""".replace("|", r"\:")
)


# To the planner a chunk is a large part of all wallets and users: it would read every one of them, each time.
_BY_INDEX = text("SET LOCAL enable_hashjoin = off; SET LOCAL enable_mergejoin = off")

# A statement of its own: the one above does not see holds that were made while it waited for its locks.
_LAPSE = text("""
    UPDATE holds SET lapsed = true FROM wallets
    WHERE settled_at IS NULL AND holds.monthly > 0 AND NOT lapsed
      AND wallets.user_id = holds.user_id AND wallets.xmin = pg_current_xact_id()\\:\\:xid""")


def run(chunk: int = CHUNK) -> int:
    """Begin the month of everybody whose month is over; return how many there were.

    Plans that end or shrink with the month do so first. Each chunk is committed by itself: a run that is
    killed has done some users wholly and the others not at all, and the next one goes on.
    """
    changes.settle_due()
    return reset_all(clock.now(), chunk)


def reset_all(now: datetime, chunk: int, at_once: int = AT_ONCE) -> int:
    """Reset everybody who is due, some chunks at a time; return how many there were.

    They wait for nothing of each other: a wallet that one has locked is not due to the others.
    """

    def work(_: int) -> int:
        total = 0
        while number := reset_chunk(now, chunk):
            total += number
        return total

    with ThreadPoolExecutor(at_once) as pool:
        return sum(pool.map(work, range(at_once)))


def reset_chunk(now: datetime, most: int | None) -> int:
    """Reset at most so many users (None: all) in one transaction; return how many."""
    table = plans.table()
    values = {
        "tiers": [tier.value for tier in table],
        "credits": [plan.monthly_credits for plan in table.values()],
        "paid": [tier.value for tier, plan in table.items() if plan.price_monthly],
        "now": now,
        "most": most,
    }
    with db.transaction() as session:
        if most is not None:
            session.execute(_BY_INDEX)
        number, paying = session.execute(_CHUNK, values).one()
        session.execute(_LAPSE)
        notices.tell_begun(session, paying or ())
    return int(number)
