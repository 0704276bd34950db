"""Second factor: codes of an authenticator app (TOTP, RFC 6238), and recovery codes for when it is lost.

Six digits of SHA-1 every 30 s, which every app speaks. A code counts one step early or late, and no step
counts twice.
"""

import hashlib
import hmac
import logging
import secrets
from dataclasses import dataclass
from typing import Final
from uuid import UUID

import pyotp
import segno
from sqlalchemy import delete, func, select, update
from sqlalchemy.orm import Session

from pingvas import clock, db, secret_keys
from pingvas.accounts.models import RecoveryCode, SecondFactor, User
from pingvas.errors import Conflict, SecondFactorInvalid

log = logging.getLogger(__name__)

ISSUER: Final = "Pingvas"
RECOVERY_CODES: Final = 10
_STEP_SECONDS: Final = 30
_ALPHABET: Final = "abcdefghjkmnpqrstuvwxyz23456789"
_LENGTH: Final = 16  # 79 bits: a plain hash is enough


@dataclass(frozen=True)
class Proof:
    """A code of the app, or a recovery code."""

    totp: str | None = None
    recovery_code: str | None = None


@dataclass(frozen=True)
class Enrolment:
    """What goes into the app: the seed (base32), as a URI, as a picture of it (SVG in a data URI)."""

    secret: str
    uri: str
    qr: str


def is_enabled(user_id: UUID) -> bool:
    """Say whether an account has a confirmed second factor."""
    with db.transaction() as session:
        return _confirmed(session, user_id) is not None


def begin(session: Session, user: User) -> Enrolment:
    """Make a seed, which counts once it is confirmed; one that was not is replaced.

    Raises:
        Conflict: there is a second factor already.
    """
    row = session.get(SecondFactor, user.id, with_for_update=True)
    if row is not None and row.confirmed_at is not None:
        raise Conflict("This account has a second factor; remove it first")
    secret = pyotp.random_base32()
    sealed = secret_keys.seal(secret.encode())
    if row is None:
        session.add(SecondFactor(user_id=user.id, sealed=sealed))
    else:
        row.sealed, row.last_step = sealed, -1
    uri = pyotp.TOTP(secret).provisioning_uri(name=user.email, issuer_name=ISSUER)
    return Enrolment(secret, uri, segno.make_qr(uri).svg_data_uri(scale=4))


def confirm(session: Session, user_id: UUID, totp: str) -> list[str]:
    """Turn the second factor on; return the recovery codes, which nothing can show again.

    Raises:
        Conflict: none is waiting to be confirmed.
        SecondFactorInvalid: the code is wrong.
    """
    row = session.get(SecondFactor, user_id, with_for_update=True)
    if row is None or row.confirmed_at is not None:
        raise Conflict("No second factor waits to be confirmed; enrol it first")
    if not _take_step(session, row, totp):
        raise SecondFactorInvalid("This code is wrong; does the app's clock go right?")
    row.confirmed_at = clock.now()
    return renew_recovery_codes(session, user_id)


def renew_recovery_codes(session: Session, user_id: UUID) -> list[str]:
    """Replace the recovery codes; return the new ones."""
    session.execute(delete(RecoveryCode).where(RecoveryCode.user_id == user_id))
    codes = ["".join(secrets.choice(_ALPHABET) for _ in range(_LENGTH)) for _ in range(RECOVERY_CODES)]
    session.add_all(RecoveryCode(user_id=user_id, code_hash=_digest(code)) for code in codes)
    return ["-".join(code[at : at + 4] for at in range(0, _LENGTH, 4)) for code in codes]


def recovery_codes_left(session: Session, user_id: UUID) -> int:
    """Return how many recovery codes were not used."""
    unused = (RecoveryCode.user_id == user_id, RecoveryCode.used_at.is_(None))
    return session.scalar(select(func.count()).select_from(RecoveryCode).where(*unused)) or 0


def remove(session: Session, user_id: UUID) -> bool:
    """Turn the second factor off; False when there was none."""
    session.execute(delete(RecoveryCode).where(RecoveryCode.user_id == user_id))
    gone = delete(SecondFactor).where(SecondFactor.user_id == user_id).returning(SecondFactor.user_id)
    return session.scalar(gone) is not None


def check(user_id: UUID, proof: Proof) -> bool:
    """Say whether the proof is good, and use it up."""
    with db.transaction() as session:
        row = _confirmed(session, user_id)
        if row is None:
            return False
        if proof.totp is not None:
            return _take_step(session, row, proof.totp)
        return proof.recovery_code is not None and _use(session, user_id, proof.recovery_code)


def _confirmed(session: Session, user_id: UUID) -> SecondFactor | None:
    mine = (SecondFactor.user_id == user_id, SecondFactor.confirmed_at.is_not(None))
    return session.scalar(select(SecondFactor).where(*mine))


def _take_step(session: Session, row: SecondFactor, code: str) -> bool:
    try:
        secret = secret_keys.unseal(row.sealed).decode()
    except ValueError:
        log.critical("the second factor of %s cannot be read: it was sealed with a lost key", row.user_id)
        return False
    step = _step_of(secret, code)
    if step is None:
        return False
    # Compare-and-set: of two requests with one code, one wins. Sealed anew, so that a key can be retired.
    fresh = (SecondFactor.user_id == row.user_id, SecondFactor.last_step < step)
    values = {"last_step": step, "sealed": secret_keys.seal(secret.encode())}
    taken = update(SecondFactor).where(*fresh).values(values).returning(SecondFactor.user_id)
    return session.scalar(taken) is not None


def _step_of(secret: str, code: str) -> int | None:
    """Return the time step whose code this is: the present one, or one beside it."""
    given = "".join(code.split()).encode()
    totp, now = pyotp.TOTP(secret), int(clock.now().timestamp()) // _STEP_SECONDS
    for step in (now, now - 1, now + 1):
        if hmac.compare_digest(totp.generate_otp(step).encode(), given):
            return step
    return None


def _use(session: Session, user_id: UUID, code: str) -> bool:
    unused = (RecoveryCode.user_id == user_id, RecoveryCode.used_at.is_(None))
    mine = update(RecoveryCode).where(*unused, RecoveryCode.code_hash == _digest(code))
    used = mine.values(used_at=clock.now()).returning(RecoveryCode.user_id)
    return session.scalar(used) is not None


def _digest(code: str) -> bytes:
    return hashlib.sha256(code.strip().lower().replace("-", "").replace(" ", "").encode()).digest()
