"""Routes: prove and change the address, change and reset the password."""

from pydantic import ConfigDict, Field, SecretStr

from pingvas import db
from pingvas.accounts import credentials, one_time, users
from pingvas.accounts.register import MAX_EMAIL, MAX_PASSWORD, MIN_PASSWORD, normal_email
from pingvas.accounts.views.blueprint import UserReply, bp
from pingvas.accounts.views.sign_in import preferred_language
from pingvas.errors import EmailTaken, Forbidden, InvalidCredentials, InvalidToken
from pingvas.web import auth
from pingvas.web.api import Body, endpoint

_NEW_PASSWORD = Field(min_length=MIN_PASSWORD, max_length=MAX_PASSWORD)


class TokenBody(Body):
    """A token from a mail."""

    token: SecretStr = Field(max_length=256)


class AddressBody(Body):
    """An address."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"email": "ada@example.com"}]})

    email: str = Field(max_length=MAX_EMAIL)


class ResetBody(TokenBody):
    """A token from a mail, and the password to set."""

    password: SecretStr = _NEW_PASSWORD


class PasswordBody(Body):
    """The present password and the next."""

    password: SecretStr = Field(max_length=1_024)
    new_password: SecretStr = _NEW_PASSWORD


class EmailBody(Body):
    """The address to move to, and the password."""

    email: str = Field(max_length=MAX_EMAIL)
    password: SecretStr = Field(max_length=1_024)


@bp.post("/auth/verify-email")
@endpoint(body=TokenBody, reply=UserReply, errors=(InvalidToken, EmailTaken), public=True)
def verify_email(body: TokenBody) -> UserReply:
    """Prove an address with the token from its mail; a new one becomes the account's now."""
    principal = auth.peek()
    here = principal.sign_in if principal else None
    return UserReply.model_validate(credentials.verify_email(body.token.get_secret_value(), sign_in=here))


@bp.post("/auth/resend-verification")
@endpoint(status=202, scope="account")
def resend_verification() -> None:
    """Send the mail that asks to verify the address again, at most once a minute."""
    with db.transaction() as session:
        user = users.get(session, auth.current().id)
        one_time.request(session, "verify-email", user.email, user.language, user)


@bp.post("/auth/request-password-reset")
@endpoint(body=AddressBody, status=202, public=True)
def request_password_reset(body: AddressBody) -> None:
    """Have a token mailed that sets a new password; the answer is the same for an unknown address."""
    email = normal_email(body.email)
    with db.transaction() as session:
        one_time.request(session, "reset-password", email, preferred_language())


@bp.post("/auth/reset-password")
@endpoint(body=ResetBody, status=204, errors=(InvalidToken,), public=True)
def reset_password(body: ResetBody) -> None:
    """Set a new password with the token from a mail; ends every sign-in."""
    credentials.reset_password(body.token.get_secret_value(), body.password.get_secret_value())


@bp.post("/auth/change-password")
@endpoint(body=PasswordBody, status=204, errors=(InvalidCredentials, Forbidden), scope="account")
def change_password(body: PasswordBody) -> None:
    """Set another password; ends every other sign-in."""
    principal = auth.current()
    credentials.change_password(
        principal.id,
        body.password.get_secret_value(),
        body.new_password.get_secret_value(),
        sign_in=principal.sign_in,
    )


@bp.post("/auth/change-email")
@endpoint(body=EmailBody, status=202, errors=(InvalidCredentials, Forbidden), scope="account")
def change_email(body: EmailBody) -> None:
    """Have a token mailed to a new address; `verify-email` with it moves the account there."""
    credentials.request_email(auth.current().id, body.password.get_secret_value(), body.email)
