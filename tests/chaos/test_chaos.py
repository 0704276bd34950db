"""A short run of `make chaos`: processes die under sixty orders, and nothing is lost or doubled."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
COMMAND = [sys.executable, "-m", "tests.chaos", "--seed", "1", "--jobs", "60", "--faults", "6"]


@pytest.mark.skipif(sys.platform != "linux", reason="the store is broken by limits of running processes")
def test_nothing_is_lost_and_nothing_happens_twice() -> None:
    done = subprocess.run(COMMAND, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Nothing lost, nothing twice." in done.stdout
