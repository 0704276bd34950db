"""Child processes that end with their parent, and processes that another run left behind."""

import ctypes
import os
import pwd
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]

_PR_SET_PDEATHSIG = 1
_POLL_SECONDS = 0.02
# Looked up here: between fork and exec nothing may be imported or allocated that can be avoided.
_prctl = ctypes.CDLL(None).prctl if sys.platform == "linux" else None


@dataclass(frozen=True)
class Identity:
    """A process, told from a later one with the same number by when it started."""

    pid: int
    started: float

    @classmethod
    def of(cls, pid: int) -> "Identity | None":
        """Return the identity of a running process, None when there is no such process."""
        try:
            return cls(pid, psutil.Process(pid).create_time())
        except psutil.NoSuchProcess:
            return None

    def process(self) -> "psutil.Process | None":
        """Return the process if it still is this one and no zombie."""
        try:
            found = psutil.Process(self.pid)
            same = abs(found.create_time() - self.started) < 0.1
            return found if same and found.status() != psutil.STATUS_ZOMBIE else None
        except psutil.NoSuchProcess:
            return None


def spawn(
    argv: Sequence[str],
    *,
    log: Path,
    cwd: Path,
    env: Mapping[str, str] | None = None,
    user: str | None = None,
    stdin: bytes = b"",
    death_signal: signal.Signals = signal.SIGTERM,
) -> subprocess.Popen[bytes]:
    """Start a program in a session of its own, its output appended to `log`.

    In its own session it does not get the terminal's Ctrl-C: its parent decides when it stops. On Linux it
    gets `death_signal` when the *thread* that called this ends, also by kill -9: call it from the main one.
    """
    with log.open("ab") as output:
        child = subprocess.Popen(  # noqa: S603 (our own programs)
            argv,
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=cwd,
            env=env,
            **as_user(user),
            start_new_session=True,
            preexec_fn=_tether(death_signal),
        )
    assert child.stdin is not None
    with suppress(BrokenPipeError), child.stdin:
        child.stdin.write(stdin)
    return child


def as_user(name: str | None) -> dict[str, Any]:
    """Return the arguments that make `subprocess` run a program as another user, with none of our groups."""
    if name is None:
        return {}
    return {"user": name, "group": pwd.getpwnam(name).pw_gid, "extra_groups": []}


def _tether(death_signal: signal.Signals) -> Callable[[], None] | None:
    if _prctl is None:
        return None
    parent, number = os.getpid(), int(death_signal)

    def tether() -> None:
        _prctl(_PR_SET_PDEATHSIG, number, 0, 0, 0)
        if os.getppid() != parent:  # it died before the call
            os._exit(1)

    return tether


def stop(child: subprocess.Popen[bytes], seconds: float, how: signal.Signals = signal.SIGTERM) -> bool:
    """End a child of ours and its whole group; False when it had to be killed."""
    if child.poll() is None:
        child.send_signal(how)
    return wait_or_kill(child, seconds)


def wait_or_kill(child: subprocess.Popen[bytes], seconds: float) -> bool:
    """Wait for a child that was asked to stop, and kill what is left of its group; False when too slow."""
    try:
        child.wait(max(0.0, seconds))
        in_time = True
    except subprocess.TimeoutExpired:
        in_time = False
    _kill_group(child.pid)
    child.wait()
    return in_time


def end(identity: Identity, seconds: float, how: signal.Signals = signal.SIGTERM) -> None:
    """End a process that another run left behind, and its group; nothing happens when it is gone."""
    for number, limit in ((how, seconds), (signal.SIGKILL, 5.0)):
        process = identity.process()
        if process is None:
            break
        with suppress(psutil.NoSuchProcess):
            process.send_signal(number)
        deadline = time.monotonic() + limit
        # Not psutil's wait: it also waits for a zombie, which where nobody reaps orphans is for ever.
        while identity.process() is not None and time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS)
    _kill_group(identity.pid)


def _kill_group(leader: int) -> None:
    # Every child leads its own group. A group lasts while it has members, so its number cannot be another's.
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, signal.SIGKILL)


def tail(log: Path, lines: int = 15) -> str:
    """Return the last lines of a log, "" when there is none."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - 20_000))
            text = file.read().decode(errors="replace")
    except FileNotFoundError:
        return ""
    return "\n".join(text.splitlines()[-lines:])
