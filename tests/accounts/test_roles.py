"""Who may do what an operator may: the role, and a sign-in that proved the second factor."""

from dataclasses import replace
from uuid import uuid4

import pytest

from pingvas.errors import Forbidden, SecondFactorRequired, StepUpRequired
from pingvas.web import auth
from pingvas.web.auth import KEY_SCOPES, Principal

ADMIN = Principal(uuid4(), "ada@example.com", "free", "admin", "token", second_factor=True)


def test_an_admin_with_a_second_factor_passes() -> None:
    auth.check_role(ADMIN, "admin")
    auth.check_role(ADMIN, "operator", "admin")


@pytest.mark.parametrize("role", ["user", "artist", "operator"])
def test_another_role_does_not(role: str) -> None:
    with pytest.raises(Forbidden) as caught:
        auth.check_role(replace(ADMIN, role=role), "admin")
    assert caught.value.code == "FORBIDDEN"


@pytest.mark.parametrize("role", ["admin", "operator"])
def test_without_a_second_factor_the_role_is_not_enough(role: str) -> None:
    with pytest.raises(SecondFactorRequired):
        auth.check_role(replace(ADMIN, role=role, second_factor=False), "admin", "operator")


def test_an_artist_needs_none() -> None:
    auth.check_role(replace(ADMIN, role="artist", second_factor=False), "artist")


def test_a_key_needs_the_scope() -> None:
    key = replace(ADMIN, via="key", scopes=KEY_SCOPES)
    auth.check_role(key, "admin")
    with pytest.raises(Forbidden, match="scope"):
        auth.check_role(replace(key, scopes=frozenset({"read", "generate"})), "admin")


def test_a_step_up_is_asked_for_by_name() -> None:
    auth.check_stepped_up(replace(ADMIN, stepped_up=True))
    with pytest.raises(StepUpRequired):
        auth.check_stepped_up(ADMIN)
