"""Objects as files of one folder; what a laptop and a single server use."""

import errno
import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path

from pingvas.errors import Unavailable
from pingvas.storage.port import MAX_KEYS, Listed, Missing, ObjectKeyError, checked, checked_prefix

_PARTS = ".parts"  # no key begins with a dot
_TRIES = 100


class LocalStore:
    """`ObjectStore` over `folder`, which is made when the first object comes. Content types are not kept."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder.absolute()  # so that a later chdir does not move the store
        self._parts = self._folder / _PARTS

    def put(self, key: str, data: bytes, content_type: str) -> None:
        """Write to a temporary file, flush it to the disk, then rename it over the key."""
        path = self._path(key)
        with _storage_errors():
            try:
                _make_folder(self._parts)
                _write(self._parts, path, data)
            except (IsADirectoryError, NotADirectoryError, FileExistsError):
                raise ObjectKeyError(f"{key!r} is a folder of other keys, or lies below an object") from None

    def get(self, key: str) -> bytes:
        """Return the bytes; raises `Missing`."""
        path = self._path(key)
        with _storage_errors():
            try:
                return path.read_bytes()
            except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
                raise Missing from None

    def delete(self, key: str) -> None:
        """Remove the file, if there is one, and the folders that are empty without it."""
        path = self._path(key)
        with _storage_errors(), suppress(FileNotFoundError, IsADirectoryError, NotADirectoryError):
            path.unlink()
        with suppress(OSError):  # it is not empty
            for folder in path.parents:
                if folder == self._folder:
                    break
                folder.rmdir()

    def exists(self, key: str) -> bool:
        """Tell whether the key is a file."""
        path = self._path(key)
        with _storage_errors():
            return path.is_file()

    def url(self, key: str, seconds: int, filename: str | None = None) -> None:
        """Return None: the API serves these bytes."""
        checked(key)

    def keys(self, prefix: str, after: str = "", limit: int = MAX_KEYS) -> list[Listed]:
        """Walk the folders in the keys' order; those that lie before `after` are not opened."""
        with _storage_errors():
            return list(islice(self._walk(checked_prefix(prefix), after), limit))

    def _walk(self, prefix: str, after: str) -> Iterator[Listed]:
        try:
            names = {prefix + entry.name + "/" * entry.is_dir(): entry for entry in self._scan(prefix)}
        except (FileNotFoundError, NotADirectoryError):
            return
        for key, entry in sorted(names.items()):
            if key.endswith("/"):
                if key > after or after.startswith(key):
                    yield from self._walk(key, after)
            elif key > after:
                with suppress(FileNotFoundError):  # deleted meanwhile
                    yield Listed(key, datetime.fromtimestamp(entry.stat().st_mtime, UTC))

    def _scan(self, prefix: str) -> list["os.DirEntry[str]"]:
        with os.scandir(self._folder / prefix) as entries:
            return [entry for entry in entries if not entry.name.startswith(".")]  # those are being written

    def tidy(self, before: datetime) -> int:
        """Remove temporary files whose writer must have died."""
        removed = 0
        with _storage_errors(), suppress(FileNotFoundError), os.scandir(self._parts) as entries:
            for entry in entries:
                with suppress(FileNotFoundError):  # renamed meanwhile
                    if entry.stat().st_mtime < before.timestamp():
                        Path(entry).unlink()
                        removed += 1
        return removed

    def check(self) -> None:
        """Write a byte beside the objects: a read-only or full disk is found before a picture is lost."""
        with _storage_errors():
            _make_folder(self._folder)
            with tempfile.TemporaryFile(dir=self._folder) as probe:
                probe.write(b"1")
                probe.flush()

    def _path(self, key: str) -> Path:
        return self._folder / checked(key)


@contextmanager
def _storage_errors() -> Iterator[None]:
    """Turn what the disk says into `Unavailable`, without the path: a client reads the detail."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise Unavailable("The object store is full", retry_after=60) from error
        reason = error.strerror or type(error).__name__
        raise Unavailable(f"The object store cannot be used: {reason}") from error


def _make_folder(folder: Path) -> None:
    """Make `folder` and the folders above it, each one entered durably in its parent."""
    if folder.is_dir():
        return
    _make_folder(folder.parent)
    with suppress(FileExistsError):
        folder.mkdir()
        _flush_folder(folder.parent)
    if not stat.S_ISDIR(folder.stat().st_mode):
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))


def _write(parts: Path, path: Path, data: bytes) -> None:
    descriptor, name = tempfile.mkstemp(suffix=".part", dir=parts)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        _move(Path(name), path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _move(part: Path, path: Path) -> None:
    """Rename a file over a key, and again where somebody has removed its folder, empty until then."""
    for left in reversed(range(_TRIES)):
        try:
            _make_folder(path.parent)
            part.replace(path)
            break
        except FileNotFoundError:
            if not left:
                raise
    with suppress(FileNotFoundError):  # deleted already
        _flush_folder(path.parent)


def _flush_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
