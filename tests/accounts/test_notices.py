"""Mails about what an owner has to know of: each such change sends one, in the account's language."""

from collections.abc import Callable

import pytest

from pingvas import clock
from tests.accounts.conftest import EMAIL, PASSWORD, Authenticator, Caller
from tests.mail.server import Post

Make = Callable[[str | None], Caller]


@pytest.fixture
def verified(ada: Caller, nobody: Caller, post: Post) -> Caller:
    assert nobody("POST", "/auth/verify-email", {"token": post.token()})[0] == 200
    return ada


def told(post: Post) -> list[tuple[str, str]]:
    return [(mail["To"], mail["Subject"]) for mail in post.collect()]


def test_a_new_key_and_a_rotated_one(verified: Caller, post: Post) -> None:
    body = {"name": "nightly\r\nbatch", "scopes": ["generate"]}
    key = verified("POST", "/api-keys", body)[1]
    [mail] = post.collect()
    assert (mail["To"], mail["Subject"]) == (EMAIL, "A new API key for your account")
    assert f'"nightly batch" ({key["prefix"]}…) was made' in mail.get_content()
    assert "It may: generate." in mail.get_content()
    assert key["key"] not in mail.get_content()
    assert verified("POST", f"/api-keys/{key['id']}/rotate", {})[0] == 201
    assert told(post) == [(EMAIL, "A new API key for your account")]


def test_the_second_factor_on_new_codes_and_off(
    verified: Caller, post: Post, request: pytest.FixtureRequest
) -> None:
    app: Authenticator = request.getfixturevalue("authenticator")
    assert verified("POST", "/auth/second-factor/recovery-codes", {"totp": app.code()})[0] == 200
    assert verified("POST", "/auth/second-factor/remove", {"totp": app.code()})[0] == 204
    subjects = [
        "Your second factor was changed",
        "You have new recovery codes",
        "Your second factor was changed",
    ]
    assert told(post) == [(EMAIL, subject) for subject in subjects]


def test_another_password_and_address(verified: Caller, nobody: Caller, post: Post) -> None:
    better = "a better battery staple"
    verified("POST", "/auth/change-password", {"password": PASSWORD, "new_password": better})
    assert told(post) == [(EMAIL, "Your password was changed")]
    verified("POST", "/auth/change-email", {"password": better, "email": "new@example.com"})
    token = post.token("new@example.com")
    assert nobody("POST", "/auth/verify-email", {"token": token})[0] == 200
    assert told(post) == [(EMAIL, "Your e-mail address was changed")]


def test_what_changes_nothing_is_not_told(verified: Caller, post: Post) -> None:
    verified(
        "POST", "/auth/change-password", {"password": "wrong", "new_password": "a better battery staple"}
    )
    verified("POST", "/auth/second-factor/confirm", {"totp": "000000"})
    verified("POST", "/api-keys", {"name": "", "scopes": ["generate"]})
    assert told(post) == []


def test_a_strangers_address_is_not_flooded(ada: Caller, post: Post, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever opens an account with it proves nothing, and could fill that inbox."""
    noon = clock.now().replace(minute=0)
    monkeypatch.setattr(clock, "now", lambda: noon)
    post.collect()
    for number in range(5):
        assert ada("POST", "/api-keys", {"name": f"batch {number}"})[0] == 201
    assert told(post) == [(EMAIL, "A new API key for your account")]
