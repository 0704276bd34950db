"""Who may do what in the database: the table that the grants are held against.

A letter is a privilege on the whole table (s select, i insert, u update, d delete); columns follow a colon:
`u:name,language`. FOR UPDATE and FOR SHARE ask for `u` on some column. A role may have several lines.
"""

from typing import Final

_LETTERS: Final = {"s": "SELECT", "i": "INSERT", "u": "UPDATE", "d": "DELETE"}

_TABLE: Final = """
alembic_version:
    api: s
    worker: s
    control: s
    admin: s
api_keys:
    api: s i u:revoked_at,expires_at
audit_log:
    control: s i
    admin: s i
beat_runs:
    control: s i u
    admin: s
catalog_entries:
    api: s
    worker: s
    control: s
    admin: s
dead_letters:
    worker: s i
    control: s i u d
    admin: s u
holds:
    api: s u:captured,settled_at
    worker: s u:captured,settled_at
    control: s u:captured,settled_at,lapsed
    admin: s u:captured,settled_at
idempotency_keys:
    api: s i d
    control: s:user_id,key,created_at u:created_at d
    admin: s i d
identities:
    api: s i u:last_used_at
images:
    api: s
    worker: s i
    control: s
    admin: s
job_attempts:
    worker: s i
    control: s i u:ended_at d
    admin: s
job_queue:
    api: s
    worker: s
    control: s
    admin: s
jobs:
    api: s u:status,cancel_requested_at,completed_at,credits_consumed,rung_at
    worker: s u
    control: s u
    admin: s u
ledger_entries:
    api: s i
    worker: s i
    control: s i
    admin: s i
ledger_transactions:
    api: s i
    worker: s i
    control: s i
    admin: s i
mails:
    api: i
    control: s i u d
    admin: i
one_time_tokens:
    api: s u:used_at
    control: s:ctid,expires_at i u:expires_at d
purchases:
    control: s i u
    admin: s
recovery_codes:
    api: s i u:used_at d
refresh_tokens:
    api: s i u:used_at
    control: s:ctid,expires_at u:expires_at d
second_factors:
    api: s i u d
sign_ins:
    api: s i u:last_used_at,expires_at,ended_at,second_factor_at,stepped_up_at
    control: s:ctid,expires_at u:expires_at d
    admin: s:id,user_id,ended_at u:ended_at
store_walks:
    control: s i u d
subscription_payments:
    control: s i
    admin: s
subscriptions:
    api: s
    control: s i u
    admin: s
tier_states:
    api: s
    worker: s u:changed_by
    control: s u:changed_by
    admin: s
users:
    api: s i u:name,language,password_hash,email,email_verified_at
    worker: s:id,tier
    control: s:id,email,email_verified_at,name,language,tier,role,created_at,suspended_at
    control: u:tier
    admin: s:id,email,email_verified_at,name,language,tier,role,created_at,suspended_at
    admin: u:tier,role,suspended_at
wallets:
    api: s i u:monthly,purchased,held,allocated
    worker: s u:monthly,purchased,held,allocated
    control: s u
    admin: s u:monthly,purchased,held,allocated
webhook_events:
    api: i
    control: s i u d
    admin: s
"""


def _privileges(cell: str) -> set[str]:
    found = set()
    for letter, _, columns in (part.partition(":") for part in cell.split()):
        name = _LETTERS[letter]
        found |= {f"{name}({column})" for column in columns.split(",")} if columns else {name}
    return found


def _read() -> dict[str, dict[str, set[str]]]:
    found: dict[str, dict[str, set[str]]] = {}
    table = ""
    for line in _TABLE.strip().splitlines():
        name, _, allowed = line.partition(":")
        if line[0] == " ":
            found[table].setdefault(name.strip(), set()).update(_privileges(allowed))
        else:
            table = name
            found[table] = {}
    return found


GRANTS: Final = _read()
"""By table and role (without `pingvas_`)."""
