"""A process dies at the passing it was told of, and only in development."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from pingvas import faults, settings

_PASS = """
from pingvas import faults
for name in ("claimed", "stored", "claimed", "claimed"):
    print(name, flush=True)
    faults.point(name)
"""


@pytest.fixture(autouse=True)
def _settings_made_anew() -> Iterator[None]:
    settings.get.cache_clear()
    yield
    settings.get.cache_clear()


def test_it_dies_at_the_passing_it_was_told_of() -> None:
    environment = os.environ | {"PINGVAS_DEVELOPMENT": "true", "PINGVAS_FAULT": "claimed:2"}
    done = subprocess.run(
        [sys.executable, "-c", _PASS], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert done.stdout.split() == ["claimed", "stored", "claimed"]


def test_without_a_setting_it_does_nothing() -> None:
    for name in faults.POINTS:
        faults.point(name)


def test_it_is_refused_outside_development(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PINGVAS_FAULT", "claimed:2")
    with pytest.raises(settings.SettingsError, match=r"PINGVAS_FAULT.*PINGVAS_DEVELOPMENT"):
        settings.get()


def test_a_fault_that_cannot_be_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PINGVAS_DEVELOPMENT", "true")
    monkeypatch.setenv("PINGVAS_FAULT", "claimed:0")
    with pytest.raises(settings.SettingsError, match="PINGVAS_FAULT"):
        settings.get()
