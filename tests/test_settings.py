"""Every setting has a safe default, stands in the table, and a bad value names itself."""

from pathlib import Path

import pytest

from pingvas import settings

TABLE = Path(__file__).parent.parent / "docs" / "operations.md"


def test_the_table_in_the_docs_is_the_code() -> None:
    assert settings.markdown() in TABLE.read_text(), "run python -m pingvas.settings and paste its table"


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("PINGVAS_LEASE_SECONDS", "soon"),
        ("PINGVAS_MAX_ATTEMPTS", "0"),
        ("PINGVAS_LOG_LEVEL", "LOUD"),
        ("DATABASE_URL", "mysql://nowhere/db"),
        ("BROKER_URL", "not a url"),
        ("PINGVAS_SMTP_URL", "http://mail.example.com"),
    ],
)
def test_a_bad_value_names_its_variable(
    fresh_settings: None, monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(settings.SettingsError, match=variable):
        settings.get()


def test_events_need_a_redis_beside_rabbitmq(fresh_settings: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BROKER_URL", "amqp://rabbit.example.com//")
    with pytest.raises(settings.SettingsError, match="REDIS_URL: needed for events"):
        settings.get()
    monkeypatch.setenv("REDIS_URL", "redis://redis.example.com")
    assert settings.get().events_url == "redis://redis.example.com"
