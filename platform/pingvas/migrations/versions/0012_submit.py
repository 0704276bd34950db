"""Requests that generate are accepted many at a time; calls with API keys are counted and have a fee."""

from importlib import import_module

import sqlalchemy as sa
from alembic import op

from pingvas import roles
from pingvas.migrations.security import definer

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

OLD = "accept_jobs(uuid, text, boolean, bigint, bigint, timestamptz, jsonb)"
CALLERS = (roles.API, roles.CONTROL, roles.ADMIN)
NEW = "accept_jobs(uuid, text, boolean, bigint, bigint, timestamptz, jsonb, jsonb, boolean)"

ACCEPT_JOBS = """
-- Accept all jobs of a request or none: hold their quotes, write the rows, and say which of them to ring.
-- outcome: accepted | insufficient (amount: what can be spent) | queue_full (amount: jobs waiting)
--   | no_calls (amount: seconds until there are some) | busy (somebody else has the wallet) | suspended.
-- waits: each job's median wait, longer by eta_turn for each turn that the user's own jobs take before it,
-- and no shorter than those are expected to run; of one that runs, half is over.
-- p_call: the call with an API key that this is, {id, fee, most: calls a month or null}, else null.
-- p_patient: wait for a wallet that somebody else has locked.
-- p_room: most jobs the user may have waiting; p_places: most on the broker or running; null: no limit.
CREATE FUNCTION accept_jobs(
    p_user uuid, p_tier text, p_metered boolean, p_room bigint, p_places bigint, p_now timestamptz,
    p_jobs jsonb, p_call jsonb, p_patient boolean
) RETURNS TABLE (outcome text, amount bigint, rung uuid[], waits float[]) LANGUAGE plpgsql
SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    wallet wallets;
    spendable bigint;
    total bigint := (SELECT sum((job ->> 'quote')::bigint) FROM jsonb_array_elements(p_jobs) AS job);
    waiting bigint := 0;
    busy bigint := 0;
    own float := 0;
    calls int := 0;
    fee bigint := 0;
    part bigint;  -- of the fee, from monthly credits; or of time, until there are calls again
BEGIN
    -- Submits of one user take turns from here on: what follows sees what the one before has committed.
    IF p_patient THEN
        SELECT * INTO STRICT wallet FROM wallets WHERE user_id = p_user FOR UPDATE;
    ELSE
        SELECT * INTO wallet FROM wallets WHERE user_id = p_user FOR UPDATE SKIP LOCKED;
        IF NOT FOUND THEN
            RETURN QUERY SELECT 'busy', 0::bigint, NULL::uuid[], NULL::float[];
            RETURN;
        END IF;
    END IF;
    -- Who suspends waits for this lock before it cancels what waits, so that no job slips in between.
    IF EXISTS (SELECT FROM users WHERE id = p_user AND suspended_at IS NOT NULL) THEN
        RETURN QUERY SELECT 'suspended', 0::bigint, NULL::uuid[], NULL::float[];
        RETURN;
    END IF;
    IF p_call IS NOT NULL THEN
        fee := p_call ->> 'fee';
        IF wallet.api_calls_since = wallet.last_reset_at THEN
            calls := wallet.api_calls;
        END IF;
        IF calls >= (p_call ->> 'most')::bigint THEN
            part := greatest(1, ceil(extract(epoch FROM wallet.resets_at - p_now)));
            RETURN QUERY SELECT 'no_calls', part, NULL::uuid[], NULL::float[];
            RETURN;
        END IF;
    END IF;
    spendable := wallet.monthly + wallet.purchased;
    IF total + fee > spendable AND NOT p_metered THEN
        RETURN QUERY SELECT 'insufficient', spendable, NULL::uuid[], NULL::float[];
        RETURN;
    END IF;
    IF EXISTS (SELECT FROM tier_states WHERE tier = p_tier AND state = 'paused') THEN
        p_places := 0;
    END IF;
    IF p_room IS NOT NULL OR p_places > 0 THEN
        SELECT count(*) FILTER (WHERE status = 'pending'),
               count(*) FILTER (WHERE status = 'in_progress' OR run_after <= clock_timestamp()),
               coalesce(sum(CASE status WHEN 'pending' THEN run_seconds ELSE run_seconds / 2 END), 0)
        INTO waiting, busy, own FROM jobs WHERE user_id = p_user AND status IN ('pending', 'in_progress');
    END IF;
    IF waiting + jsonb_array_length(p_jobs) > p_room THEN
        RETURN QUERY SELECT 'queue_full', waiting, NULL::uuid[], NULL::float[];
        RETURN;
    END IF;

    IF p_call IS NOT NULL THEN
        part := CASE WHEN p_metered THEN 0 ELSE least(fee, wallet.monthly) END;
        UPDATE wallets SET api_calls = calls + 1, api_calls_since = last_reset_at, monthly = monthly - part,
                           purchased = purchased - CASE WHEN p_metered THEN 0 ELSE fee - part END
        WHERE user_id = p_user RETURNING * INTO wallet;
        spendable := wallet.monthly + wallet.purchased;
    END IF;
    IF fee > 0 THEN
        INSERT INTO ledger_transactions (id, business_key, type, user_id, amount, balance_after, description,
                                         created_at)
        SELECT id, format('call:%s', id), 'api_call', p_user, -fee, spendable, 'Call with an API key', p_now
        FROM (SELECT (p_call ->> 'id')::uuid) AS called (id);
        INSERT INTO ledger_entries (transaction_id, user_id, account, amount)
        SELECT (p_call ->> 'id')::uuid, payer, leg.account, leg.credits
        FROM (VALUES (p_user, 'monthly', -part),
            (p_user, 'purchased', CASE WHEN p_metered THEN 0 ELSE part - fee END),
            (p_user, 'receivable', CASE WHEN p_metered THEN -fee ELSE 0 END), (NULL, 'revenue', fee)
        ) AS leg (payer, account, credits)
        WHERE leg.credits <> 0;
    END IF;

    RETURN QUERY
    WITH asked AS (
        SELECT *, sum(quote) OVER (ORDER BY n) - quote AS before, (busy + n > p_places) IS NOT TRUE AS rings,
               coalesce((busy + n - 1) / nullif(p_places, 0), 0) AS turns,
               own + sum(run_seconds) OVER (ORDER BY n) - run_seconds AS own_before
        FROM ROWS FROM (jsonb_to_recordset(p_jobs) AS (
            id uuid, posting uuid, priority text, model text, prompt text, parameters jsonb, quote bigint,
            eta_p50 float, eta_p90 float, eta_turn float, run_seconds float)) WITH ORDINALITY AS job (
            id, posting, priority, model, prompt, parameters, quote,
            eta_p50, eta_p90, eta_turn, run_seconds, n)
    ), drawn AS (  -- monthly credits first: they expire, purchased ones do not
        SELECT *, CASE WHEN p_metered THEN 0
                       ELSE greatest(0, least(quote, wallet.monthly - before)) END AS monthly,
                  CASE WHEN turns > 0 THEN greatest(eta_turn * turns, own_before / p_places - eta_p50)
                       ELSE 0 END AS later
        FROM asked
    ), written AS (
        INSERT INTO jobs (id, user_id, kind, status, tier, priority, model, prompt, parameters,
                          credits_quoted, attempt, failures, eta_p50, eta_p90, run_seconds, created_at,
                          run_after, rung_at)
        SELECT id, p_user, 'text2image', 'pending', p_tier, priority, model, prompt, parameters,
               quote, 0, 0, eta_p50 + later, eta_p90 + later, run_seconds, p_now, clock_timestamp(),
               CASE WHEN rings THEN clock_timestamp() END
        FROM drawn
    ), held AS (
        INSERT INTO holds (job_id, user_id, quote, monthly, purchased, created_at)
        SELECT id, p_user, quote, monthly, CASE WHEN p_metered THEN 0 ELSE quote - monthly END, p_now
        FROM drawn
    ), posted AS (
        INSERT INTO ledger_transactions (id, business_key, type, user_id, job_id, amount, balance_after,
                                         description, created_at)
        SELECT posting, format('job:%s:hold', id), 'hold', p_user, id, -quote, spendable - before - quote,
               'Held for a job', p_now
        FROM drawn WHERE NOT p_metered
    ), entered AS (
        INSERT INTO ledger_entries (transaction_id, user_id, account, amount)
        SELECT posting, p_user, leg.account, leg.credits
        FROM drawn, LATERAL (
            VALUES ('monthly', -monthly), ('purchased', monthly - quote), ('held', quote)
        ) AS leg (account, credits)
        WHERE leg.credits <> 0 AND NOT p_metered
    ), paid AS (
        UPDATE wallets SET monthly = wallet.monthly - least(total, wallet.monthly),
                           purchased = wallet.purchased - greatest(0, total - wallet.monthly),
                           held = wallet.held + total
        WHERE user_id = p_user AND NOT p_metered
    )
    SELECT 'accepted', total, coalesce(array_agg(id ORDER BY n) FILTER (WHERE rings), '{}'),
           array_agg(eta_p50 + later ORDER BY n) FROM drawn;
END $$"""


def upgrade() -> None:
    """Count calls in the wallet, since when its month began, and replace the function."""
    op.add_column("wallets", sa.Column("api_calls", sa.Integer(), server_default="0", nullable=False))
    op.add_column("wallets", sa.Column("api_calls_since", sa.DateTime(timezone=True), nullable=True))
    op.execute(f"DROP FUNCTION {OLD}")
    _create(ACCEPT_JOBS)
    definer(NEW, *CALLERS)


def _create(function: str) -> None:
    op.execute(function.replace(":hold", r"\:hold"))  # no parameter


def downgrade() -> None:
    """Bring the function back that knew of no calls."""
    op.execute(f"DROP FUNCTION {NEW}")
    _create(import_module("pingvas.migrations.versions.0004_accept_jobs").ACCEPT_JOBS)
    definer(OLD, *CALLERS)
    op.drop_column("wallets", "api_calls_since")
    op.drop_column("wallets", "api_calls")
