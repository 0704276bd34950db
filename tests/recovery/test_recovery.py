"""`make recovery` itself, with the fault that is over first."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_it_says_how_long_a_fault_lasts() -> None:
    argv = [sys.executable, "-m", "tests.recovery", "beat"]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert " beat: " in done.stdout
