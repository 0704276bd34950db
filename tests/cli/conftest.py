"""The installed command, run as people run it: as a process of its own."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

COMMAND = str(Path(sys.executable).with_name("pingvas"))
_SERVERS = ("DATABASE_URL", "BROKER_URL", "REDIS_URL", "PINGVAS_SECRET_KEY")

Run = Callable[..., "subprocess.CompletedProcess[str]"]


def own_environment(data_dir: Path) -> dict[str, str]:
    """Return an environment with no server in it, as a newcomer's shell has it."""
    kept = {name: value for name, value in os.environ.items() if name not in _SERVERS}
    return {**kept, "PINGVAS_DATA_DIR": str(data_dir), "COLUMNS": "160"}


def run_command(environment: dict[str, str], *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run the command to its end; what it prints must never be a traceback."""
    done = subprocess.run(
        [COMMAND, *arguments], env=environment, capture_output=True, text=True, timeout=150, check=False
    )
    assert "Traceback" not in done.stdout + done.stderr
    return done


@pytest.fixture
def pingvas(clean_db: None) -> Run:
    """Run the command on the session's servers."""
    return lambda *arguments: run_command({**os.environ, "COLUMNS": "160"}, *arguments)
