"""Routes: turn the second factor on and off, prove it again, recovery codes."""

from datetime import timedelta

from pydantic import ConfigDict, Field, SecretStr

from pingvas import clock, db
from pingvas.accounts import credentials, login, notices, second_factor, sign_ins, tokens, users
from pingvas.accounts.models import SignInRow
from pingvas.accounts.second_factor import Proof
from pingvas.accounts.views.blueprint import SignInReply, bp, origin, with_session
from pingvas.accounts.views.sign_in import MAX_CODE, proof_of
from pingvas.errors import (
    Conflict,
    Forbidden,
    InvalidCredentials,
    SecondFactorInvalid,
    SecondFactorRequired,
    Unauthorized,
)
from pingvas.web import auth
from pingvas.web.api import Body, Reply, endpoint
from pingvas.web.auth import Principal

_FRESH = timedelta(minutes=10)


class EnrolBody(Body):
    """The account's password; an account without one needs a sign-in of the last ten minutes instead."""

    password: SecretStr | None = Field(None, max_length=1_024)


class EnrolReply(Reply):
    """What goes into the authenticator app. It counts once a code of it has come to `confirm`."""

    secret: str
    otpauth_uri: str
    qr: str = Field(description="The URI as a QR code: an SVG in a data URI.")


class CodeBody(Body):
    """Six digits of the app."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"totp": "123456"}]})

    totp: SecretStr = Field(max_length=MAX_CODE)


class ProofBody(Body):
    """Six digits of the app, or a recovery code."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"totp": "123456"}]})

    totp: SecretStr | None = Field(None, max_length=MAX_CODE)
    recovery_code: SecretStr | None = Field(None, max_length=MAX_CODE)


class ChallengeBody(ProofBody):
    """What a sign-in through another provider was answered with, and the second factor."""

    challenge: str = Field(max_length=1_024)


class CodesReply(Reply):
    """Recovery codes, shown this once; each works once, in place of a code of the app."""

    recovery_codes: list[str]


class FactorReply(Reply):
    """Whether the account has a second factor, and this sign-in has proved it."""

    enabled: bool
    proved: bool
    recovery_codes_left: int


@bp.get("/auth/second-factor")
@endpoint(reply=FactorReply)
def show_factor() -> FactorReply:
    """Show the state of the second factor."""
    principal = auth.current()
    with db.transaction() as session:
        return FactorReply(
            enabled=second_factor.is_enabled(principal.id),
            proved=principal.second_factor,
            recovery_codes_left=second_factor.recovery_codes_left(session, principal.id),
        )


@bp.post("/auth/second-factor/enrol")
@endpoint(body=EnrolBody, reply=EnrolReply, errors=(Conflict, InvalidCredentials), scope="account")
def enrol(body: EnrolBody) -> EnrolReply:
    """Make a seed for an authenticator app."""
    principal = auth.current()
    _check_owner(principal, body.password)
    with db.transaction() as session:
        made = second_factor.begin(session, users.get(session, principal.id))
    return EnrolReply(secret=made.secret, otpauth_uri=made.uri, qr=made.qr)


@bp.post("/auth/second-factor/confirm")
@endpoint(body=CodeBody, reply=CodesReply, errors=(Conflict, SecondFactorInvalid), scope="account")
def confirm(body: CodeBody) -> CodesReply:
    """Turn the second factor on; ends every other sign-in, as those have not proved it."""
    principal = auth.current()
    with login.counted(f"second factor of {principal.id}") as attempt, db.transaction() as session:
        codes = second_factor.confirm(session, principal.id, body.totp.get_secret_value())
        tokens.end_all(session, principal.id, but=principal.sign_in)
        if principal.sign_in:
            sign_ins.note_proof(session, principal.sign_in)
        _tell(principal, enabled=True)
        attempt.succeeded()
    return CodesReply(recovery_codes=codes)


@bp.post("/auth/second-factor/recovery-codes")
@endpoint(
    body=CodeBody, reply=CodesReply, errors=(SecondFactorRequired, SecondFactorInvalid), scope="account"
)
def renew_codes(body: CodeBody) -> CodesReply:
    """Replace the recovery codes."""
    principal = auth.current()
    _prove(principal, body.totp, None)
    with db.transaction() as session:
        notices.tell(session, users.get(session, principal.id), "recovery-codes-changed")
        return CodesReply(recovery_codes=second_factor.renew_recovery_codes(session, principal.id))


@bp.post("/auth/second-factor/remove")
@endpoint(body=ProofBody, status=204, errors=(SecondFactorRequired, SecondFactorInvalid), scope="account")
def remove(body: ProofBody) -> None:
    """Turn the second factor off."""
    principal = auth.current()
    _prove(principal, body.totp, body.recovery_code)
    with db.transaction() as session:
        second_factor.remove(session, principal.id)
        sign_ins.forget_proofs(session, principal.id)
        _tell(principal, enabled=False)


@bp.post("/auth/step-up")
@endpoint(body=ProofBody, status=204, errors=(SecondFactorRequired, SecondFactorInvalid), scope="account")
def step_up(body: ProofBody) -> None:
    """Prove the second factor again; for ten minutes this sign-in may do what is dangerous."""
    principal = auth.current()
    _prove(principal, body.totp, body.recovery_code)
    with db.transaction() as session:
        if principal.sign_in:
            sign_ins.note_proof(session, principal.sign_in)


@bp.post("/auth/login/second-factor")
@endpoint(
    body=ChallengeBody,
    reply=SignInReply,
    errors=(Unauthorized, Forbidden, SecondFactorRequired, SecondFactorInvalid),
    public=True,
    limit="sign-in",
)
def finish_sign_in(body: ChallengeBody) -> SignInReply:
    """Finish a sign-in through another provider with the second factor."""
    user_id = tokens.read_challenge(body.challenge)
    proof = _needed(body.totp, body.recovery_code)
    db.act_for(user_id)
    login.prove(user_id, proof)
    with db.transaction() as session:
        user = users.get(session, user_id)
        signed_in = tokens.sign_in(session, user, second_factor=True, origin=origin())
    return with_session(signed_in)


def _check_owner(principal: Principal, password: SecretStr | None) -> None:
    """See that it is the owner who enrols: with a stolen token, a thief would lock him out for good.

    Raises:
        InvalidCredentials: the password is missing or wrong, or the sign-in is not fresh.
    """
    with db.transaction() as session:
        has_password = users.get(session, principal.id).password_hash is not None
        row = session.get(SignInRow, principal.sign_in) if principal.sign_in else None
    if has_password:
        if password is None:
            raise InvalidCredentials("The password is needed")
        credentials.check_own_password(principal.id, password.get_secret_value())
    elif row is None or row.created_at < clock.now() - _FRESH:
        raise InvalidCredentials("Sign in again first")


def _prove(principal: Principal, totp: SecretStr | None, recovery_code: SecretStr | None) -> None:
    login.prove(principal.id, _needed(totp, recovery_code))


def _needed(totp: SecretStr | None, recovery_code: SecretStr | None) -> Proof:
    proof = proof_of(totp, recovery_code)
    if proof is None:
        raise SecondFactorRequired("Give `totp` or a `recovery_code`")
    return proof


def _tell(principal: Principal, *, enabled: bool) -> None:
    with db.transaction() as session:
        notices.tell(session, users.get(session, principal.id), "second-factor-changed", enabled=enabled)
