"""Object store of pictures and adapters: one port, a local folder and S3 behind it."""

from functools import lru_cache

from pingvas import settings
from pingvas.storage.local import LocalStore
from pingvas.storage.port import Listed, Missing, ObjectKeyError, ObjectStore

__all__ = ["Listed", "LocalStore", "Missing", "ObjectKeyError", "ObjectStore", "default"]


def default() -> ObjectStore:
    """Return the store that the settings name: S3 when `S3_BUCKET` is set, else `<data_dir>/pictures`."""
    return _store(settings.get())


@lru_cache(maxsize=4)
def _store(config: settings.Settings) -> ObjectStore:
    if not config.s3_bucket:
        return LocalStore(config.data_dir / "pictures")
    from pingvas.storage.s3 import S3Store  # boto3 is a third of a second that a local start need not pay

    return S3Store.from_settings(config)
