"""Internal endpoints ask for a token, and tokens can be changed without a gap."""

from collections.abc import Callable

import pytest
from werkzeug.test import Client
from werkzeug.wrappers import Response

from pingvas import internal_tokens, settings
from pingvas.embedded.servers import forget_settings

OLD, NEW = "old-7c1e9f3b5d2a4860" * 2, "new-4f8b2d6c0e9a1735" * 2


@pytest.fixture
def endpoint(fresh_settings: None, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Client]:
    """Return a client of an endpoint behind these tokens."""

    def make(tokens: str) -> Client:
        monkeypatch.setenv("PINGVAS_INTERNAL_TOKEN", tokens)
        forget_settings()
        return Client(internal_tokens.guarded(Response("numbers")))

    return make


def status(client: Client, header: str | None) -> int:
    headers = {} if header is None else {"Authorization": header}
    return client.get("/metrics", headers=headers).status_code


@pytest.mark.parametrize(
    "header",
    [None, "", "Bearer", "Bearer ", "Bearer x", f"Basic {OLD}", OLD, f"Bearer {OLD}x", "Bearer \u00e9"],
)
def test_who_has_no_token_gets_nothing(endpoint: Callable[[str], Client], header: str | None) -> None:
    answer = endpoint(OLD).get("/metrics", headers={} if header is None else {"Authorization": header})
    assert (answer.status_code, answer.data) == (401, b"")
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")


def test_a_change_of_tokens_leaves_no_gap(endpoint: Callable[[str], Client]) -> None:
    for tokens, sent, accepted, refused in (
        (OLD, OLD, {OLD}, {NEW}),
        (f"{OLD}, {NEW}", OLD, {OLD, NEW}, set()),
        (f"{NEW},{OLD}", NEW, {OLD, NEW}, set()),
        (NEW, NEW, {NEW}, {OLD}),
    ):
        client = endpoint(tokens)
        assert internal_tokens.current() == sent
        assert all(status(client, f"Bearer {token}") == 200 for token in accepted)
        assert all(status(client, f"Bearer {token}") == 401 for token in refused)


@pytest.mark.parametrize("tokens", ["short", f"{OLD},short", "change-me-" * 5])
def test_a_weak_token_stops_the_start(endpoint: Callable[[str], Client], tokens: str) -> None:
    with pytest.raises(settings.SettingsError, match="PINGVAS_INTERNAL_TOKEN"):
        endpoint(tokens).get("/metrics")
