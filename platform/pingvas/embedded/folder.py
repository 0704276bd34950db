"""The data folder of an instance: what lies where, its secrets, the lock that one instance holds on it."""

import errno
import fcntl
import json
import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pingvas.embedded.process import Identity

_POLL_SECONDS = 0.1


class EmbeddedError(Exception):
    """Something about the data folder or its servers that a person must mend; the text says what and how."""


class BusyError(EmbeddedError):
    """Another process holds the data folder."""


@dataclass
class Instance:
    """What a running instance tells the other commands; kept in `instance.json`.

    `environment` are the variables that make another process see the same servers; `processes` are those
    that a later run must end if this one is killed.
    """

    environment: dict[str, str] = field(default_factory=dict)
    url: str = ""
    flower_url: str = ""
    processes: dict[str, Identity] = field(default_factory=dict)


class DataFolder:
    """Everything that an instance keeps, under one folder."""

    def __init__(self, path: Path) -> None:
        self.path = path.expanduser().absolute()
        self.postgres = self.path / "postgres"
        self.redis = self.path / "redis"
        self.logs = self.path / "logs"

    def make(self) -> None:
        """Create the folder.

        Raises:
            EmbeddedError: it cannot be created or written.
        """
        try:
            for folder in (self.path, self.logs):
                folder.mkdir(parents=True, exist_ok=True)
            probe = self.path / f".writable-{os.getpid()}"
            probe.touch()
            probe.unlink()
        except OSError as error:
            reason = os.strerror(error.errno or errno.EIO)
            raise EmbeddedError(
                f"The data folder {self.path} cannot be written ({reason}). Choose another with --data-dir."
            ) from None

    def log(self, name: str) -> Path:
        """Return the log file of a program."""
        return self.logs / f"{name}.log"

    def secret_key(self) -> str:
        """Return the key that signs sessions and tokens; made on first use."""
        return self.secret("secret.key", 64)

    def secret(self, name: str, length: int) -> str:
        """Return a random text that is kept in the file `name`; made on first use."""
        path = self.path / name
        try:
            kept = path.read_text().strip()
        except FileNotFoundError:
            kept = ""
        if not kept:
            kept = secrets.token_urlsafe(length)[:length]
            write_private(path, kept + "\n")
        return kept

    @contextmanager
    def lock(self, wait_seconds: float = 0) -> Iterator[None]:
        """Hold the folder, so that only one process runs servers on it.

        Raises:
            BusyError: somebody else still holds it after `wait_seconds`.
        """
        deadline = time.monotonic() + wait_seconds
        with self._lock_file() as file:
            while not _try_lock(file):
                if time.monotonic() >= deadline:
                    raise BusyError(self._who_is_busy())
                time.sleep(_POLL_SECONDS)
            yield

    def locked(self) -> bool:
        """Tell whether a process holds the folder now."""
        if not (self.path / "lock").exists():
            return False
        with self._lock_file() as file:
            return not _try_lock(file)

    @contextmanager
    def _lock_file(self) -> Iterator[int]:
        descriptor = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    def _who_is_busy(self) -> str:
        found = self.read()
        if found and found.url:
            return f"Pingvas already runs on {self.path}: {found.url}. Stop it, or choose another --data-dir."
        return f"Another pingvas command works on {self.path}. Wait for it, or choose another --data-dir."

    def running(self) -> Instance | None:
        """Return the running instance, None when there is none (or none that has its servers up)."""
        if not self.locked():
            return None
        found = self.read()
        return found if found and found.environment else None

    def read(self) -> Instance | None:
        """Return what the last instance wrote, be it running or killed."""
        try:
            raw: dict[str, Any] = json.loads((self.path / "instance.json").read_text())
            raw["processes"] = {name: Identity(**value) for name, value in raw["processes"].items()}
            return Instance(**raw)
        except (FileNotFoundError, ValueError, TypeError, KeyError):
            return None

    def write(self, instance: Instance) -> None:
        """Tell the other commands about the running instance."""
        write_private(self.path / "instance.json", json.dumps(asdict(instance), indent=1))

    def forget(self) -> None:
        """Remove what `write` wrote: everything has stopped."""
        (self.path / "instance.json").unlink(missing_ok=True)


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner can read; readers see the old or the new text, never a part."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
    temporary.replace(path)
