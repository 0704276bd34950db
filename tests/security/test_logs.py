"""Nothing secret gets into a log, and nothing that users write forges a line of it."""

import io
import logging
import os
import subprocess
import sys

import pytest

from pingvas import logs, settings
from pingvas.embedded.servers import forget_settings

FORGED = "x\r\n2026-01-01 00:00:00 CRITICAL pingvas: everything is fine\x1b[2J\u2028y"


@pytest.fixture
def written() -> tuple[logging.Logger, io.StringIO]:
    stream, logger = io.StringIO(), logging.Logger("forged")
    logger.addHandler(logging.StreamHandler(stream))
    logs.apply(logger, "%(asctime)s %(levelname)s %(name)s: %(message)s")
    return logger, stream


def test_a_record_is_one_line_whatever_users_write(written: tuple[logging.Logger, io.StringIO]) -> None:
    logger, stream = written
    logger.error("no such model: %s", FORGED)
    (line,) = stream.getvalue().splitlines()
    assert "\\r\\n2026-01-01" in line
    assert "\x1b" not in line


def test_lines_of_a_traceback_are_set_in(written: tuple[logging.Logger, io.StringIO]) -> None:
    logger, stream = written
    try:
        raise ValueError(FORGED)
    except ValueError:
        logger.exception("it failed")
    first, *rest = stream.getvalue().split("\n")
    assert first.endswith("it failed")
    assert all(line.startswith("  ") for line in rest if line)
    assert "\r" not in stream.getvalue()


@pytest.mark.parametrize("module", ["pingvas.app", "tasks"])
def test_processes_log_like_this(module: str, database: str, broker: str) -> None:
    code = {
        "pingvas.app": "import logging, pingvas.app as app; app._log()",
        "tasks": "import logging, tasks; tasks.app.log.setup(loglevel='INFO')",
    }[module]
    done = subprocess.run(
        [sys.executable, "-c", f"{code}; logging.getLogger('pingvas').error({FORGED!r})"],
        env=os.environ,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    lines = [line for line in done.stderr.splitlines() if "everything is fine" in line]
    assert len(lines) == 1
    assert not lines[0].startswith("2026-01-01 00:00:00")


@pytest.mark.usefixtures("fresh_settings")
def test_settings_do_not_show_their_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    secrets = {
        "DATABASE_URL": "postgresql://pingvas:sentinel-1@db/pingvas",
        "BROKER_URL": "amqp://pingvas:sentinel-2@rabbit//",
        "REDIS_URL": "redis://:sentinel-3@redis/0",
        "S3_SECRET_ACCESS_KEY": "sentinel-4",
        "PINGVAS_SECRET_KEY": "sentinel-5-qwertzuiopasdfghjklyxcvbnm",
    }
    for name, value in secrets.items():
        monkeypatch.setenv(name, value)
    forget_settings()
    found = settings.get()
    assert "sentinel" not in f"{found!r} {found!s}"


@pytest.mark.usefixtures("fresh_settings")
@pytest.mark.parametrize("name", ["DATABASE_URL", "BROKER_URL", "PINGVAS_SECRET_KEY", "PINGVAS_SMTP_URL"])
def test_a_bad_setting_is_named_and_not_shown(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "nonsense://sentinel")
    forget_settings()
    with pytest.raises(settings.SettingsError, match=name) as error:
        settings.get()
    assert "sentinel" not in str(error.value)
