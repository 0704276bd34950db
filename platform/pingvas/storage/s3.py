"""Objects in an S3 bucket (AWS, MinIO, R2, …), read by clients through presigned addresses."""

import mimetypes
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING
from urllib.parse import quote

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from pingvas.errors import Unavailable
from pingvas.settings import Settings
from pingvas.storage.port import MAX_KEYS, MAX_URL_SECONDS, Listed, Missing, checked, checked_prefix

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client
    from mypy_boto3_s3.type_defs import GetObjectRequestTypeDef

_ABSENT = frozenset({"404", "NoSuchKey", "NotFound"})


class S3Store:
    """`ObjectStore` over a bucket that exists already; every key goes below `prefix`. Safe for threads."""

    def __init__(self, client: "S3Client", bucket: str, prefix: str = "") -> None:
        self._client = client
        self._bucket = bucket
        self._prefix = f"{prefix.strip('/')}/" if prefix.strip("/") else ""

    @classmethod
    def from_settings(cls, config: Settings) -> "S3Store":
        """Connect as the settings say; nothing is sent yet."""
        secret = config.s3_secret_access_key
        options = Config(
            signature_version="s3v4",
            connect_timeout=3,
            read_timeout=20,
            retries={"total_max_attempts": 3, "mode": "standard"},
            max_pool_connections=32,
            # A bucket as host name needs wildcard DNS, which a server of one's own rarely has.
            s3={"addressing_style": "path" if config.s3_endpoint_url else "auto"},
            # Servers other than AWS refuse the trailing checksums that boto3 sends by default.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        )
        client = boto3.client(
            "s3",
            endpoint_url=config.s3_endpoint_url or None,
            region_name=config.s3_region,
            aws_access_key_id=config.s3_access_key_id or None,
            aws_secret_access_key=secret.get_secret_value() if secret else None,
            config=options,
        )
        return cls(client, config.s3_bucket, config.s3_prefix)

    def put(self, key: str, data: bytes, content_type: str) -> None:
        """Upload in one request: S3 shows the object whole or not at all."""
        with _storage_errors():
            self._client.put_object(
                Bucket=self._bucket, Key=self._key(key), Body=data, ContentType=content_type
            )

    def get(self, key: str) -> bytes:
        """Return the bytes; raises `Missing`."""
        with _storage_errors():
            return self._client.get_object(Bucket=self._bucket, Key=self._key(key))["Body"].read()

    def delete(self, key: str) -> None:
        """Remove the object, if there is one."""
        with _storage_errors():
            self._client.delete_object(Bucket=self._bucket, Key=self._key(key))

    def exists(self, key: str) -> bool:
        """Tell whether the key holds an object."""
        try:
            with _storage_errors():
                self._client.head_object(Bucket=self._bucket, Key=self._key(key))
        except Missing:
            return False
        return True

    def url(self, key: str, seconds: int, filename: str | None = None) -> str:
        """Return a presigned GET address; see `ObjectStore.url`."""
        if not 1 <= seconds <= MAX_URL_SECONDS:
            raise ValueError(f"a presigned address lives 1 to {MAX_URL_SECONDS} seconds, not {seconds}")
        request: GetObjectRequestTypeDef = {"Bucket": self._bucket, "Key": self._key(key)}
        content_type = mimetypes.guess_type(key)[0]
        if content_type:
            request["ResponseContentType"] = content_type
        if filename:
            request["ResponseContentDisposition"] = disposition(filename)
        with _storage_errors():
            return self._client.generate_presigned_url("get_object", Params=request, ExpiresIn=seconds)

    def keys(self, prefix: str, after: str = "", limit: int = MAX_KEYS) -> list[Listed]:
        """Ask for one page; see `ObjectStore.keys`."""
        with _storage_errors():
            answer = self._client.list_objects_v2(
                Bucket=self._bucket,
                Prefix=self._prefix + checked_prefix(prefix),
                StartAfter=self._prefix + after if after else "",
                MaxKeys=limit,
            )
        return [
            Listed(found["Key"].removeprefix(self._prefix), found["LastModified"])
            for found in answer.get("Contents", [])
        ]

    def tidy(self, before: datetime) -> int:
        """Return 0: an upload is one request, of which nothing is left when it fails."""
        return 0

    def check(self) -> None:
        """Ask for the bucket."""
        try:
            with _storage_errors():
                self._client.head_bucket(Bucket=self._bucket)
        except Missing as error:
            raise Unavailable("The object store has no such bucket") from error

    def _key(self, key: str) -> str:
        return self._prefix + checked(key)


def disposition(filename: str) -> str:
    """Return the `Content-Disposition` that saves under `filename` (RFC 6266, with its ASCII fallback)."""
    plain = "".join(c if c.isascii() and c.isprintable() and c not in '"\\/%' else "_" for c in filename)
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(filename, safe='')}"


@contextmanager
def _storage_errors() -> Iterator[None]:
    """Turn what boto3 raises into `Missing` or `Unavailable`; no addresses: a client reads the detail."""
    try:
        yield
    except ClientError as error:
        code = str(error.response.get("Error", {}).get("Code", "unknown"))
        if code in _ABSENT:
            raise Missing from error
        raise Unavailable(f"The object store refused the request: {code}") from error
    except BotoCoreError as error:
        raise Unavailable(f"The object store cannot be reached: {type(error).__name__}") from error
