"""The second factor: turning it on, signing in with it, attacks on it."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import text

from pingvas import db, settings
from pingvas.embedded.servers import forget_settings
from tests.accounts.conftest import EMAIL, PASSWORD, Authenticator, Caller

Make = Callable[[str | None], Caller]
LOGIN = {"email": EMAIL, "password": PASSWORD}


def sign_in(nobody: Caller, **proof: str) -> tuple[int, Any]:
    return nobody("POST", "/auth/login", {**LOGIN, **proof})


def test_the_enrolment_shows_what_an_app_reads(ada: Caller) -> None:
    status, enrolled = ada("POST", "/auth/second-factor/enrol", {"password": PASSWORD})
    assert status == 200
    assert enrolled["otpauth_uri"].startswith("otpauth://totp/Pingvas:ada%40example.com?")
    assert f"secret={enrolled['secret']}" in enrolled["otpauth_uri"]
    assert enrolled["qr"].startswith("data:image/svg+xml")


def test_an_enrolment_that_nobody_confirms_changes_nothing(ada: Caller, nobody: Caller) -> None:
    ada("POST", "/auth/second-factor/enrol", {"password": PASSWORD})
    assert sign_in(nobody)[0] == 200
    assert ada("GET", "/auth/second-factor")[1]["enabled"] is False
    assert ada("POST", "/auth/second-factor/confirm", {"totp": "000000"})[0] == 403
    assert ada("POST", "/auth/step-up", {"totp": "000000"})[1]["code"] == "SECOND_FACTOR_REQUIRED"


@pytest.mark.parametrize("body", [{}, {"password": "not this one"}])
def test_a_thief_of_a_token_cannot_enrol_his_own(ada: Caller, body: dict[str, str]) -> None:
    assert ada("POST", "/auth/second-factor/enrol", body)[0] == 401


def test_a_password_alone_no_longer_signs_in(
    ada: Caller, nobody: Caller, authenticator: Authenticator, caller: Make
) -> None:
    status, problem = sign_in(nobody)
    assert (status, problem["code"]) == (403, "SECOND_FACTOR_REQUIRED")
    status, signed_in = sign_in(nobody, totp=authenticator.code())
    assert status == 200
    state = caller(signed_in["access_token"])("GET", "/auth/second-factor")[1]
    assert state == {"enabled": True, "proved": True, "recovery_codes_left": 10}


def test_a_wrong_password_does_not_tell_of_the_second_factor(
    nobody: Caller, authenticator: Authenticator
) -> None:
    answer = nobody(
        "POST", "/auth/login", {**LOGIN, "password": "not this one", "totp": authenticator.code()}
    )
    assert (answer[0], answer[1]["code"]) == (401, "INVALID_CREDENTIALS")


def test_turning_it_on_ends_sign_ins_that_have_not_proved_it(
    ada: Caller, nobody: Caller, caller: Make, request: pytest.FixtureRequest
) -> None:
    other = caller(sign_in(nobody)[1]["access_token"])
    request.getfixturevalue("authenticator")
    assert other("GET", "/auth/me")[0] == 401
    assert ada("GET", "/auth/second-factor")[1]["proved"] is True


def test_a_replayed_code_is_refused(nobody: Caller, authenticator: Authenticator) -> None:
    code = authenticator.code()
    assert sign_in(nobody, totp=code)[0] == 200
    status, problem = sign_in(nobody, totp=code)
    assert (status, problem["code"]) == (403, "SECOND_FACTOR_INVALID")


def test_a_code_used_by_two_at_once_works_once(nobody: Caller, authenticator: Authenticator) -> None:
    code = authenticator.code()
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: sign_in(nobody, totp=code)[0], range(4)))
    assert sorted(answers) == [200, 403, 403, 403]


def test_a_code_of_before_the_last_one_used_is_refused(nobody: Caller, authenticator: Authenticator) -> None:
    older = authenticator.code()
    assert sign_in(nobody, totp=authenticator.code())[0] == 200
    assert sign_in(nobody, totp=older)[0] == 403


@pytest.mark.parametrize(("seconds", "status"), [(30, 200), (90, 403)])
def test_a_code_is_good_for_a_step_around_its_time(
    nobody: Caller, authenticator: Authenticator, seconds: int, status: int
) -> None:
    code = authenticator.code()
    authenticator.move(seconds)
    assert sign_in(nobody, totp=code)[0] == status


@pytest.mark.parametrize("code", ["", "0", "00000é", "１２３４５６", "a" * 64])
def test_nonsense_is_refused(nobody: Caller, authenticator: Authenticator, code: str) -> None:
    assert sign_in(nobody, totp=code)[0] == 403
    assert sign_in(nobody, recovery_code=code)[0] == 403


def test_a_recovery_code_signs_in_once(ada: Caller, nobody: Caller, authenticator: Authenticator) -> None:
    code = ada.recovery_codes[0]
    assert sign_in(nobody, recovery_code=code.upper().replace("-", " "))[0] == 200
    assert sign_in(nobody, recovery_code=code)[0] == 403
    assert ada("GET", "/auth/second-factor")[1]["recovery_codes_left"] == 9


def test_new_recovery_codes_replace_the_old(
    ada: Caller, nobody: Caller, authenticator: Authenticator
) -> None:
    body = {"totp": authenticator.code()}
    status, renewed = ada("POST", "/auth/second-factor/recovery-codes", body)
    assert (status, len(set(renewed["recovery_codes"]))) == (200, 10)
    assert sign_in(nobody, recovery_code=ada.recovery_codes[0])[0] == 403
    assert sign_in(nobody, recovery_code=renewed["recovery_codes"][0])[0] == 200


def test_seed_and_recovery_codes_lie_nowhere_in_the_clear(ada: Caller, authenticator: Authenticator) -> None:
    secrets = [authenticator._totp.secret, ada.recovery_codes[0], ada.recovery_codes[0].replace("-", "")]
    with db.transaction() as session:
        for table in db.Base.metadata.tables:
            for row in session.scalars(text(f"SELECT t::text FROM {table} t")):
                assert not any(secret in row or secret.encode().hex() in row for secret in secrets), table


def test_turning_it_off_needs_it_and_takes_its_proofs_back(
    ada: Caller, nobody: Caller, authenticator: Authenticator
) -> None:
    assert ada("POST", "/auth/second-factor/remove", {"totp": "000000"})[0] == 403
    assert ada("POST", "/auth/second-factor/remove", {"totp": authenticator.code()}) == (204, None)
    assert ada("GET", "/auth/second-factor")[1] == {
        "enabled": False,
        "proved": False,
        "recovery_codes_left": 0,
    }
    assert sign_in(nobody)[0] == 200


def test_it_cannot_be_enrolled_over(ada: Caller, authenticator: Authenticator) -> None:
    assert ada("POST", "/auth/second-factor/enrol", {"password": PASSWORD})[0] == 409
    assert ada("POST", "/auth/second-factor/confirm", {"totp": authenticator.code()})[0] == 409


@pytest.mark.usefixtures("fresh_settings")
def test_a_seed_outlives_a_change_of_the_secret_key(
    nobody: Caller, authenticator: Authenticator, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = settings.get().secret_key.get_secret_value()
    monkeypatch.setenv("PINGVAS_SECRET_KEY", "another secret key of the tests, as long as that")
    monkeypatch.setenv("PINGVAS_SECRET_KEY_PREVIOUS", old)
    forget_settings()
    assert sign_in(nobody, totp=authenticator.code())[0] == 200
    monkeypatch.delenv("PINGVAS_SECRET_KEY_PREVIOUS")
    forget_settings()
    assert sign_in(nobody, totp=authenticator.code())[0] == 200  # sealed anew when it was used
    monkeypatch.setenv("PINGVAS_SECRET_KEY", "a third secret key that nobody has sealed with!!")
    forget_settings()
    assert sign_in(nobody, totp=authenticator.code())[0] == 403
