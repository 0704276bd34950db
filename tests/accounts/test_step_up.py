"""What a sign-in has proved, and for how long."""

import pytest
from sqlalchemy import text

from pingvas import db
from pingvas.accounts import principals
from pingvas.web.auth import Principal
from tests.accounts.conftest import EMAIL, PASSWORD, Authenticator, Caller

LOGIN = {"email": EMAIL, "password": PASSWORD}


def who(token: str) -> Principal:
    found = principals.by_token(token)
    assert found is not None
    return found


def test_a_sign_in_with_a_second_factor_is_stepped_up_for_ten_minutes(
    nobody: Caller, authenticator: Authenticator
) -> None:
    token = nobody("POST", "/auth/login", {**LOGIN, "totp": authenticator.code()})[1]["access_token"]
    assert (who(token).second_factor, who(token).stepped_up) == (True, True)
    authenticator.move(601)
    assert (who(token).second_factor, who(token).stepped_up) == (True, False)


def test_a_step_up_proves_it_again(nobody: Caller, authenticator: Authenticator, caller: object) -> None:
    assert callable(caller)
    token = nobody("POST", "/auth/login", {**LOGIN, "totp": authenticator.code()})[1]["access_token"]
    authenticator.move(601)
    signed_in = caller(token)
    assert signed_in("POST", "/auth/step-up", {"totp": "000000"})[0] == 403
    assert who(token).stepped_up is False
    assert signed_in("POST", "/auth/step-up", {"totp": authenticator.code()}) == (204, None)
    assert who(token).stepped_up is True


def test_an_exchanged_token_keeps_what_the_sign_in_proved(
    nobody: Caller, authenticator: Authenticator
) -> None:
    signed_in = nobody("POST", "/auth/login", {**LOGIN, "totp": authenticator.code()})[1]
    newer = nobody("POST", "/auth/refresh", {"refresh_token": signed_in["refresh_token"]})[1]
    assert who(newer["access_token"]).second_factor is True


def test_a_sign_in_without_one_has_proved_nothing(nobody: Caller, ada: Caller) -> None:
    token = nobody("POST", "/auth/login", LOGIN)[1]["access_token"]
    assert (who(token).second_factor, who(token).stepped_up) == (False, False)


@pytest.mark.usefixtures("authenticator")
def test_an_operators_reset_lets_the_owner_in_without_it(ada: Caller, nobody: Caller) -> None:
    from pingvas.accounts import second_factor

    with db.transaction() as session:
        user_id = session.scalar(text("SELECT id FROM users"))
        assert second_factor.remove(session, user_id)
    assert nobody("POST", "/auth/login", LOGIN)[0] == 200
