"""Hashing passwords takes memory on purpose; a burst of sign-ins must not take all of it."""

import subprocess
import sys

_BURST = """
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from pingvas.accounts import passwords

def peak():
    [line] = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1])

before = peak()
with ThreadPoolExecutor(16) as pool:
    hashes = list(pool.map(passwords.hash_of, ["correct horse"] * 16))
assert len(set(hashes)) == 16
assert all(passwords.matches(each, "correct horse") for each in hashes[:2])
print(peak() - before)
"""


def test_a_burst_takes_the_memory_of_four() -> None:
    done = subprocess.run([sys.executable, "-c", _BURST], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert 60_000 < int(done.stdout) < 5 * 65_536
