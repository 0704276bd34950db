"""Proving an address, moving to another, resetting a password: what a mail proves, once and for a while."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import text

from pingvas import clock, db
from tests.accounts.conftest import EMAIL, PASSWORD, Caller
from tests.mail.server import Post

Make = Callable[[str | None], Caller]
NEW = "a better battery staple"
LOGIN = {"email": EMAIL, "password": PASSWORD}


def pass_time(monkeypatch: pytest.MonkeyPatch, **duration: float) -> None:
    moment = clock.now() + timedelta(**duration)
    monkeypatch.setattr(clock, "now", lambda: moment)


def reset(nobody: Caller, post: Post) -> str:
    assert nobody("POST", "/auth/request-password-reset", {"email": EMAIL}) == (202, None)
    return post.token()


def test_a_sign_up_is_asked_to_prove_its_address(ada: Caller, nobody: Caller, post: Post) -> None:
    assert ada("GET", "/auth/me")[1]["email_verified_at"] is None
    token = post.token()
    status, user = nobody("POST", "/auth/verify-email", {"token": token})
    assert status == 200
    assert user["email_verified_at"] is not None
    assert ada("GET", "/auth/me")[1] == user


@pytest.mark.parametrize(
    ("language", "header", "subject"),
    [
        (None, "ko-KR,ko;q=0.9,en;q=0.8", "이메일 주소를 확인해 주세요"),
        (None, "de", "Please confirm your e-mail address"),
        ("en", "ko", "Please confirm your e-mail address"),
    ],
)
def test_mails_speak_the_language_of_the_sign_up(
    app: Flask, post: Post, language: str | None, header: str, subject: str
) -> None:
    body = {**LOGIN, **({"language": language} if language else {})}
    answer = app.test_client().post("/api/v1/auth/register", json=body, headers={"Accept-Language": header})
    assert answer.status_code == 201
    assert [message["Subject"] for message in post.collect()] == [subject]


def test_a_token_works_once(ada: Caller, nobody: Caller, post: Post) -> None:
    token = post.token()
    assert nobody("POST", "/auth/verify-email", {"token": token})[0] == 200
    status, problem = nobody("POST", "/auth/verify-email", {"token": token})
    assert (status, problem["code"]) == (422, "INVALID_TOKEN")


def test_a_token_expires(ada: Caller, nobody: Caller, post: Post, monkeypatch: pytest.MonkeyPatch) -> None:
    verify, renew = post.token(), reset(nobody, post)
    pass_time(monkeypatch, minutes=61)
    assert nobody("POST", "/auth/reset-password", {"token": renew, "password": NEW})[0] == 422
    pass_time(monkeypatch, hours=23)
    assert nobody("POST", "/auth/verify-email", {"token": verify})[0] == 422


def test_a_token_is_good_for_its_purpose_only(ada: Caller, nobody: Caller, post: Post) -> None:
    verify = post.token()
    assert nobody("POST", "/auth/reset-password", {"token": verify, "password": NEW})[0] == 422
    renew = reset(nobody, post)
    assert nobody("POST", "/auth/verify-email", {"token": renew})[0] == 422


def test_no_table_holds_a_token(ada: Caller, nobody: Caller, post: Post) -> None:
    tokens = [post.token(), reset(nobody, post)]
    with db.transaction() as session:
        for table in db.Base.metadata.tables:
            for row in session.scalars(text(f"SELECT t::text FROM {table} t")):
                assert not any(token in row or token.encode().hex() in row for token in tokens), table


def test_the_mail_can_be_had_again_but_not_by_the_dozen(
    ada: Caller, post: Post, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert len(post.collect()) == 1
    pass_time(monkeypatch, seconds=61)
    for _ in range(3):
        assert ada("POST", "/auth/resend-verification")[0] == 202
    assert len(post.collect()) == 1


def test_a_verified_address_gets_no_more_mails(
    ada: Caller, nobody: Caller, post: Post, monkeypatch: pytest.MonkeyPatch
) -> None:
    nobody("POST", "/auth/verify-email", {"token": post.token()})
    pass_time(monkeypatch, seconds=61)
    assert ada("POST", "/auth/resend-verification")[0] == 202
    assert post.collect() == []


def test_a_reset_sets_the_password_and_ends_every_sign_in(
    ada: Caller, nobody: Caller, post: Post, account: dict[str, Any]
) -> None:
    post.collect()
    assert nobody("POST", "/auth/reset-password", {"token": reset(nobody, post), "password": NEW}) == (
        204,
        None,
    )
    assert ada("GET", "/auth/me")[0] == 401
    assert nobody("POST", "/auth/refresh", {"refresh_token": account["refresh_token"]})[0] == 401
    assert nobody("POST", "/auth/login", LOGIN)[0] == 401
    status, signed_in = nobody("POST", "/auth/login", {**LOGIN, "password": NEW})
    assert status == 200
    assert signed_in["user"]["email_verified_at"] is not None
    assert [message["Subject"] for message in post.collect()] == ["Your password was changed"]


def test_the_first_proof_of_an_address_ends_keys_that_somebody_else_may_have_made(
    ada: Caller, nobody: Caller, post: Post, caller: Make
) -> None:
    key = ada("POST", "/api-keys", {"name": "squatter's"})[1]["key"]
    post.collect()
    nobody("POST", "/auth/reset-password", {"token": reset(nobody, post), "password": NEW})
    assert caller(key)("GET", "/auth/me")[0] == 401


def test_a_reset_of_a_proved_address_leaves_keys_alone(
    ada: Caller, nobody: Caller, post: Post, caller: Make
) -> None:
    nobody("POST", "/auth/verify-email", {"token": post.token()})
    key = ada("POST", "/api-keys", {"name": "mine"})[1]["key"]
    nobody("POST", "/auth/reset-password", {"token": reset(nobody, post), "password": NEW})
    assert caller(key)("GET", "/auth/me")[0] == 200


def test_using_one_reset_ends_the_others(
    ada: Caller, nobody: Caller, post: Post, monkeypatch: pytest.MonkeyPatch
) -> None:
    post.collect()
    first = reset(nobody, post)
    pass_time(monkeypatch, minutes=6)
    second = reset(nobody, post)
    assert nobody("POST", "/auth/reset-password", {"token": second, "password": NEW})[0] == 204
    assert nobody("POST", "/auth/reset-password", {"token": first, "password": NEW})[0] == 422


def test_a_reset_with_a_bad_password_leaves_the_token(ada: Caller, nobody: Caller, post: Post) -> None:
    post.collect()
    token = reset(nobody, post)
    assert nobody("POST", "/auth/reset-password", {"token": token, "password": "short"})[0] == 422
    assert nobody("POST", "/auth/reset-password", {"token": token, "password": NEW})[0] == 204


def test_a_reset_for_an_unknown_address_answers_the_same_and_does_the_same(
    ada: Caller, nobody: Caller, post: Post
) -> None:
    post.collect()
    known = nobody("POST", "/auth/request-password-reset", {"email": EMAIL})
    unknown = nobody("POST", "/auth/request-password-reset", {"email": "nobody@example.com"})
    assert known == unknown == (202, None)
    with db.transaction() as session:
        rows = session.execute(
            text("SELECT user_id, values FROM mails WHERE template = 'reset-password'")
        ).all()
    assert [tuple(row) for row in rows] == [(None, {})] * 2
    assert [message["To"] for message in post.collect()] == [EMAIL]


def test_a_new_address_counts_once_it_is_proved(
    ada: Caller, nobody: Caller, post: Post, caller: Make
) -> None:
    post.collect()
    other = caller(nobody("POST", "/auth/login", LOGIN)[1]["access_token"])
    body = {"email": "Ada@New.example", "password": PASSWORD}
    assert ada("POST", "/auth/change-email", body) == (202, None)
    assert ada("GET", "/auth/me")[1]["email"] == EMAIL
    status, user = ada("POST", "/auth/verify-email", {"token": post.token("ada@new.example")})
    assert (status, user["email"]) == (200, "ada@new.example")
    assert user["email_verified_at"] is not None
    assert ada("GET", "/auth/me")[1]["email"] == "ada@new.example"
    assert other("GET", "/auth/me")[0] == 401
    assert [(message["To"], message["Subject"]) for message in post.collect()] == [
        (EMAIL, "Your e-mail address was changed")
    ]
    assert nobody("POST", "/auth/login", LOGIN)[0] == 401


def test_a_new_address_needs_the_password_and_cannot_be_taken(
    ada: Caller, nobody: Caller, post: Post
) -> None:
    nobody("POST", "/auth/register", {"email": "bob@example.com", "password": PASSWORD})
    post.collect()
    wrong = {"email": "new@example.com", "password": "not this one"}
    assert ada("POST", "/auth/change-email", wrong)[1]["code"] == "INVALID_CREDENTIALS"
    assert ada("POST", "/auth/change-email", {"email": "bob@example.com", "password": PASSWORD})[0] == 202
    assert post.collect() == []


def test_an_address_that_is_taken_meanwhile_is_409(ada: Caller, nobody: Caller, post: Post) -> None:
    post.collect()
    ada("POST", "/auth/change-email", {"email": "new@example.com", "password": PASSWORD})
    token = post.token("new@example.com")
    nobody("POST", "/auth/register", {"email": "new@example.com", "password": PASSWORD})
    status, problem = nobody("POST", "/auth/verify-email", {"token": token})
    assert (status, problem["code"]) == (409, "EMAIL_TAKEN")
    assert ada("GET", "/auth/me")[1]["email"] == EMAIL


def test_a_reset_mailed_to_the_old_address_dies_with_it(ada: Caller, nobody: Caller, post: Post) -> None:
    post.collect()
    old = reset(nobody, post)
    ada("POST", "/auth/change-email", {"email": "new@example.com", "password": PASSWORD})
    ada("POST", "/auth/verify-email", {"token": post.token("new@example.com")})
    assert nobody("POST", "/auth/reset-password", {"token": old, "password": NEW})[0] == 422


def test_a_changed_password_ends_other_sign_ins_and_keeps_this_one(
    ada: Caller, nobody: Caller, post: Post, caller: Make
) -> None:
    post.collect()
    other = caller(nobody("POST", "/auth/login", LOGIN)[1]["access_token"])
    body = {"password": PASSWORD, "new_password": NEW}
    assert ada("POST", "/auth/change-password", {**body, "password": "wrong"})[0] == 401
    assert other("GET", "/auth/me")[0] == 200
    assert ada("POST", "/auth/change-password", body) == (204, None)
    assert ada("GET", "/auth/me")[0] == 200
    assert other("GET", "/auth/me")[0] == 401
    assert nobody("POST", "/auth/login", LOGIN)[0] == 401
    assert [message["Subject"] for message in post.collect()] == ["Your password was changed"]


@pytest.mark.parametrize("path", ["verify-email", "reset-password"])
@pytest.mark.parametrize("token", ["", "x", "é" * 100, "a" * 256])
def test_nonsense_is_422(nobody: Caller, path: str, token: str) -> None:
    body = {"token": token, **({"password": NEW} if path == "reset-password" else {})}
    assert nobody("POST", f"/auth/{path}", body)[0] == 422


def test_an_api_key_cannot_change_who_the_account_is(ada: Caller, caller: Make) -> None:
    scopes = ["generate", "read", "write", "billing"]
    program = caller(ada("POST", "/api-keys", {"name": "a", "scopes": scopes})[1]["key"])
    for path, body in (
        ("change-password", {"password": PASSWORD, "new_password": NEW}),
        ("change-email", {"email": "new@example.com", "password": PASSWORD}),
        ("second-factor/enrol", {"password": PASSWORD}),
        ("logout-all", None),
    ):
        assert program("POST", f"/auth/{path}", body)[0] == 403, path
