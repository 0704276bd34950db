"""Proof of the books: balances against entries, transactions against zero, holds against jobs."""

from sqlalchemy import text
from sqlalchemy.orm import Session

# Each query returns one line of text per thing that is wrong; no rows means the books are right.
CHECKS = {
    "transactions that do not sum to zero": """
        SELECT 'transaction ' || transaction_id || ' sums to ' || sum(amount)
        FROM ledger_entries GROUP BY transaction_id HAVING sum(amount) <> 0""",
    "transactions that say another amount than their entries": """
        SELECT 'transaction ' || t.business_key || ' says ' || t.amount || ', its entries ' ||
               coalesce(sum(e.amount), 0)
        FROM ledger_transactions t LEFT JOIN ledger_entries e
            ON e.transaction_id = t.id AND e.account IN ('monthly', 'purchased', 'receivable')
        GROUP BY t.id HAVING t.amount <> coalesce(sum(e.amount), 0)""",
    "balances that differ from their entries": """
        SELECT 'user ' || w.user_id || ': ' || a.account || ' is ' || a.balance || ', entries say ' ||
               coalesce(sum(e.amount), 0)
        FROM wallets w
        CROSS JOIN LATERAL (VALUES ('monthly', w.monthly), ('purchased', w.purchased), ('held', w.held))
            AS a(account, balance)
        LEFT JOIN ledger_entries e ON e.user_id = w.user_id AND e.account = a.account
        GROUP BY w.user_id, a.account, a.balance
        HAVING a.balance <> coalesce(sum(e.amount), 0)""",
    "held credits that no open hold explains": """
        SELECT 'user ' || w.user_id || ': held ' || w.held || ', open holds ' ||
               coalesce(sum(h.monthly + h.purchased), 0)
        FROM wallets w LEFT JOIN holds h ON h.user_id = w.user_id AND h.settled_at IS NULL
        GROUP BY w.user_id, w.held HAVING w.held <> coalesce(sum(h.monthly + h.purchased), 0)""",
    "holds whose job has ended, or jobs that run without one": """
        SELECT 'job ' || j.id || ' is ' || j.status || ' and its hold is ' ||
               CASE WHEN h.job_id IS NULL THEN 'missing' WHEN h.settled_at IS NULL THEN 'open'
                    ELSE 'settled' END
        FROM jobs j LEFT JOIN holds h ON h.job_id = j.id
        WHERE h.job_id IS NULL
           OR (h.settled_at IS NULL) <> (j.status IN ('pending', 'in_progress'))""",
    "jobs charged otherwise than their ledger says": """
        SELECT 'job ' || j.id || ' says ' || coalesce(j.credits_consumed, 0) || ', captured ' ||
               coalesce(h.captured, 0) || ', quoted ' || h.quote
        FROM jobs j JOIN holds h ON h.job_id = j.id
        WHERE coalesce(j.credits_consumed, 0) <> coalesce(h.captured, 0) OR h.captured > h.quote""",
    "holds that no row of jobs explains": """
        SELECT 'hold of job ' || h.job_id || ': no such job' FROM holds h
        WHERE h.settled_at IS NULL AND NOT EXISTS (SELECT FROM jobs WHERE jobs.id = h.job_id)""",
    "purchases that the ledger tells otherwise": """
        SELECT 'order ' || p.order_id || ': ' || p.credits - p.taken || ' credits, the ledger says ' ||
               coalesce(sum(t.amount), 0)
        FROM purchases p LEFT JOIN ledger_transactions t
            ON t.user_id = p.user_id AND (t.business_key = 'order:' || p.order_id
                                          OR t.business_key LIKE 'order:' || p.order_id || ':refund:%')
        GROUP BY p.order_id, p.credits, p.taken HAVING coalesce(sum(t.amount), 0) <> p.credits - p.taken""",
    "webhooks that were not handled within ten minutes": """
        SELECT 'webhook ' || id || ' of ' || received_at || ': ' || coalesce(problem, 'not tried')
        FROM webhook_events
        WHERE handled_at IS NULL AND received_at < clock_timestamp() - interval '10 minutes'""",
}


def problems(session: Session) -> dict[str, list[str]]:
    """Run every check and return what is wrong by the check's name; empty when the books are right."""
    # None of the queries has a parameter.
    queries = {name: text(query.replace(":", r"\:")) for name, query in CHECKS.items()}
    lines = {name: list(session.execute(query).scalars()) for name, query in queries.items()}
    return {name: found for name, found in lines.items() if found}
