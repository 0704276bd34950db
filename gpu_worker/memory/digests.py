"""Fingerprints of weight files.

A single file's digest is its SHA-256, as model sites publish it. A folder's digest is the SHA-256 of the
lines `<SHA-256>  <path>` of its `.safetensors` files, sorted by their paths relative to the folder (bytewise,
with forward slashes). A shell gives it as

    cd folder
    find . -name '*.safetensors' -printf '%P\\n' | LC_ALL=C sort | xargs -d '\\n' sha256sum | sha256sum
"""

import hashlib
import threading
from pathlib import Path

from huggingface_hub import snapshot_download
from huggingface_hub.errors import LocalEntryNotFoundError

from gpu_worker.errors import ModelUnavailable
from gpu_worker.memory.sources import Source

_Stamp = tuple[Path, int, int]


class Digests:
    """Computes digests, each file's once per (path, size, time of change). Any thread."""

    def __init__(self) -> None:
        self._known: dict[_Stamp, str] = {}
        self._lock = threading.Lock()

    def of(self, location: str) -> str:
        """The digest (64 hex digits) of a file, a folder or a downloaded hub id.

        Raises `ModelUnavailable` where there is no weight file, `OSError` where one cannot be read.
        """
        path = local_path(location)
        if path.is_file():
            return self._of_file(path)
        files = sorted(path.rglob("*.safetensors"), key=lambda file: _relative(file, path).encode())
        if not files:
            raise ModelUnavailable("there are no weight files")
        lines = (f"{self._of_file(file)}  {_relative(file, path)}\n" for file in files)
        return hashlib.sha256("".join(lines).encode()).hexdigest()

    def verify(self, source: Source) -> None:
        """Raises `ModelUnavailable` where `source` names a digest and its files have another."""
        if source.digest is not None and self.of(source.location) != source.digest.lower():
            message = f"{source.slug!r} cannot be loaded: its files are not those expected"
            raise ModelUnavailable(message)

    def _of_file(self, path: Path) -> str:
        stat = path.stat()
        stamp = path, stat.st_size, stat.st_mtime_ns
        with self._lock:
            known = self._known.get(stamp)
        if known is None:
            with path.open("rb") as file:
                known = hashlib.file_digest(file, "sha256").hexdigest()
            with self._lock:
                self._known[stamp] = known
        return known


def digest_of(location: str) -> str:
    """The digest of a file, a folder or a downloaded hub id; see `Digests.of`."""
    return Digests().of(location)


def is_local(location: str) -> bool:
    return Path(location).exists()


def local_path(location: str) -> Path:
    """Where its files are. Raises `ModelUnavailable` where a hub id has not been downloaded."""
    if is_local(location):
        return Path(location)
    try:
        return Path(snapshot_download(location, local_files_only=True))
    except (LocalEntryNotFoundError, ValueError) as error:
        raise ModelUnavailable("its files are missing") from error


def _relative(file: Path, folder: Path) -> str:
    return file.relative_to(folder).as_posix()
