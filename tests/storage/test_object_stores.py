"""One contract, run against the folder and against S3 (a moto server), then what is special to each."""

import errno
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from urllib.parse import parse_qsl, quote, urlsplit, urlunsplit

import boto3
import httpx
import pytest
from botocore.auth import S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from moto.server import ThreadedMotoServer
from pydantic import SecretStr

from pingvas import clock, storage
from pingvas.errors import Unavailable
from pingvas.settings import Settings
from pingvas.storage import LocalStore, Missing, ObjectKeyError, ObjectStore
from pingvas.storage.s3 import S3Store, disposition

KEY_ID, SECRET = "test-id", "test-secret"


@pytest.fixture(scope="module")
def s3_settings() -> Iterator[Settings]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    config = Settings(
        s3_bucket="pictures",
        s3_endpoint_url=f"http://{host}:{port}",
        s3_access_key_id=KEY_ID,
        s3_secret_access_key=SecretStr(SECRET),
        s3_prefix="team/a",
    )
    boto3.client(
        "s3",
        endpoint_url=config.s3_endpoint_url,
        region_name="us-east-1",
        aws_access_key_id=KEY_ID,
        aws_secret_access_key=SECRET,
    ).create_bucket(Bucket="pictures")
    yield config
    server.stop()


@pytest.fixture
def s3(s3_settings: Settings) -> S3Store:
    return S3Store.from_settings(s3_settings)


@pytest.fixture
def local(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "pictures")


class TestContract:
    @pytest.fixture(params=["local", "s3"])
    def store(self, request: pytest.FixtureRequest) -> ObjectStore:
        found: ObjectStore = request.getfixturevalue(request.param)
        return found

    def test_what_is_put_is_got(self, store: ObjectStore) -> None:
        data = bytes(range(256)) * 500
        store.put("pictures/one.png", data, "image/png")
        assert store.get("pictures/one.png") == data
        assert store.exists("pictures/one.png")

    def test_put_replaces(self, store: ObjectStore) -> None:
        store.put("a/b/c.txt", b"first", "text/plain")
        store.put("a/b/c.txt", b"", "text/plain")
        assert store.get("a/b/c.txt") == b""

    def test_absent(self, store: ObjectStore) -> None:
        assert not store.exists("nothing/here.png")
        with pytest.raises(Missing):
            store.get("nothing/here.png")
        with pytest.raises(Missing):
            store.get("nothing")

    def test_delete_twice(self, store: ObjectStore) -> None:
        store.put("gone.png", b"x", "image/png")
        store.delete("gone.png")
        store.delete("gone.png")
        store.delete("never/there.png")
        assert not store.exists("gone.png")

    @pytest.mark.parametrize(
        "key",
        [
            "",
            "/tmp/pingvas-key-of-a-test",  # absolute, and no loss should it ever be written
            "../x",
            "a/../../x",
            "a/./b",
            "a//b",
            "a/",
            "a\0b",
            "a\\b",
            "ä",
            "a b",
            "a\n",
            ".hidden",
            "a/.part",
            "a" * 201,
            "a/" * 300 + "a",
        ],
    )
    def test_bad_keys_are_refused_everywhere(self, store: ObjectStore, key: str) -> None:
        with pytest.raises(ObjectKeyError):
            store.put(key, b"x", "image/png")
        with pytest.raises(ObjectKeyError):
            store.get(key)
        with pytest.raises(ObjectKeyError):
            store.delete(key)
        with pytest.raises(ObjectKeyError):
            store.exists(key)
        with pytest.raises(ObjectKeyError):
            store.url(key, 60)

    def test_keys_are_listed_page_by_page_in_their_order(self, store: ObjectStore) -> None:
        keys = ["walk/a-b.png", "walk/a.png", "walk/a/1", "walk/a/b/2", "walk/a0", "walk/b/3", "walking/4"]
        for key in keys:
            store.put(key, b"x", "image/png")
        below = sorted(key for key in keys if key.startswith("walk/"))
        for limit in (1, 2, 4, 1_000):
            found: list[str] = []
            while page := store.keys("walk/", found[-1] if found else "", limit):
                assert len(page) <= limit
                found += [listed.key for listed in page]
            assert found == below
        assert [listed.key for listed in store.keys("walk/a/", "walk/a/1")] == ["walk/a/b/2"]
        assert list(store.keys("never/")) == []

    def test_listed_objects_say_when_they_were_put(self, store: ObjectStore) -> None:
        before = clock.now() - timedelta(seconds=2)  # S3 tells whole seconds
        store.put("times/one", b"x", "image/png")
        (listed,) = store.keys("times/")
        assert before < listed.modified < clock.now() + timedelta(seconds=2)

    @pytest.mark.parametrize("prefix", ["", "/", "images", "../", "a//", ".hidden/"])
    def test_bad_prefixes_are_refused_everywhere(self, store: ObjectStore, prefix: str) -> None:
        with pytest.raises(ObjectKeyError):
            store.keys(prefix)

    def test_tidying_leaves_objects_alone(self, store: ObjectStore) -> None:
        store.put("old/one.png", b"x", "image/png")
        assert store.tidy(clock.now() + timedelta(days=1)) == 0
        assert store.get("old/one.png") == b"x"

    def test_check(self, store: ObjectStore) -> None:
        store.check()


_PUT = "import sys; from pathlib import Path; from pingvas.storage import LocalStore; "
_PUT += "LocalStore(Path(sys.argv[1])).put('a/big.png', bytes(400_000_000), 'image/png')"


def files_in(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


class TestLocal:
    def test_the_api_serves_the_bytes(self, local: LocalStore) -> None:
        assert local.url("a.png", 60, "a.png") is None  # type: ignore[func-returns-value]

    def test_a_failed_write_leaves_the_old_object_and_no_litter(
        self, local: LocalStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        local.put("a.png", b"old", "image/png")

        def full(_: int) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(Unavailable, match="full"):
            local.put("a.png", b"new", "image/png")
        assert local.get("a.png") == b"old"
        assert files_in(tmp_path / "pictures") == ["a.png"]

    def test_what_is_being_written_is_not_listed(self, local: LocalStore, tmp_path: Path) -> None:
        local.put("a/one", b"x", "text/plain")
        (tmp_path / "pictures" / "a" / ".half.part").write_bytes(b"x")
        assert [listed.key for listed in local.keys("a/")] == ["a/one"]

    def test_what_a_killed_writer_has_left_is_tidied_up(self, local: LocalStore, tmp_path: Path) -> None:
        folder = tmp_path / "pictures"
        with subprocess.Popen([sys.executable, "-c", _PUT, str(folder)]) as writer:
            while not files_in(folder):
                assert writer.poll() is None
            writer.kill()
        assert not local.exists("a/big.png")
        assert len(files_in(folder)) == 1
        assert local.tidy(clock.now() - timedelta(days=1)) == 0  # it could be at work
        assert local.tidy(clock.now() + timedelta(days=1)) == 1
        assert files_in(folder) == []

    def test_no_empty_folder_is_left(self, local: LocalStore, tmp_path: Path) -> None:
        local.put("a/b/1", b"x", "text/plain")
        local.put("a/c/2", b"x", "text/plain")
        local.delete("a/b/1")
        assert sorted(path.name for path in (tmp_path / "pictures" / "a").iterdir()) == ["c"]
        local.delete("a/c/2")
        assert not (tmp_path / "pictures" / "a").exists()

    def test_a_folder_may_go_while_it_is_written_to(self, local: LocalStore) -> None:
        def put_and_delete(number: int) -> None:
            for _ in range(100):
                local.put(f"a/b/{number}", b"x", "text/plain")
                assert local.get(f"a/b/{number}") == b"x"
                local.delete(f"a/b/{number}")

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(put_and_delete, range(4)))
        assert local.keys("a/") == []

    def test_an_object_is_no_folder(self, local: LocalStore) -> None:
        local.put("a", b"x", "text/plain")
        with pytest.raises(ObjectKeyError):
            local.put("a/b", b"x", "text/plain")
        local.put("c/d", b"x", "text/plain")
        with pytest.raises(ObjectKeyError):
            local.put("c", b"x", "text/plain")
        local.delete("c")
        assert local.exists("c/d")

    def test_check_says_why(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_bytes(b"")
        with pytest.raises(Unavailable, match="Not a directory"):
            LocalStore(tmp_path / "file").check()


def signature_holds(url: str, now: float) -> bool:
    """Do what S3 does with a presigned GET and moto does not: sign it again, compare, look at the clock."""
    parts = urlsplit(url)
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    claimed = query.pop("X-Amz-Signature")
    signed = "&".join(f"{name}={quote(value, safe='-_.~')}" for name, value in query.items())
    request = AWSRequest(method="GET", url=urlunsplit(parts._replace(query=signed)))
    request.context["timestamp"] = query["X-Amz-Date"]
    signer = S3SigV4QueryAuth(Credentials(KEY_ID, SECRET), "s3", "us-east-1")
    request.headers["host"] = parts.netloc
    request.context["payload_signing_enabled"] = False
    text = signer.string_to_sign(request, signer.canonical_request(request))
    signed_at = time.mktime(time.strptime(query["X-Amz-Date"], "%Y%m%dT%H%M%SZ")) - time.timezone
    return signer.signature(text, request) == claimed and now < signed_at + int(query["X-Amz-Expires"])


class TestS3:
    def test_presigned_get_names_the_file(self, s3: S3Store) -> None:
        s3.put("pictures/cat.png", b"\x89PNG", "image/png")
        answer = httpx.get(s3.url("pictures/cat.png", 60, 'my "cat" ä.png'))
        assert answer.content == b"\x89PNG"
        assert answer.headers["content-type"] == "image/png"
        assert answer.headers["content-disposition"] == disposition('my "cat" ä.png')
        assert "content-disposition" not in httpx.get(s3.url("pictures/cat.png", 60)).headers

    def test_signature_covers_key_life_and_name(self, s3: S3Store) -> None:
        url = s3.url("pictures/cat.png", 60, "cat.png")
        now = time.time()
        assert "/pictures/team/a/pictures/cat.png?" in url
        assert signature_holds(url, now)
        assert not signature_holds(url, now + 61)
        assert not signature_holds(url.replace("Expires=60", "Expires=9000"), now)
        assert not signature_holds(url.replace("pictures/cat.png?", "pictures/dog.png?"), now)
        assert not signature_holds(url.replace("cat.png%22", "cat.exe%22"), now)

    @pytest.mark.parametrize("seconds", [0, 604_801])
    def test_life_is_bounded(self, s3: S3Store, seconds: int) -> None:
        with pytest.raises(ValueError, match="seconds"):
            s3.url("a.png", seconds)

    def test_a_header_cannot_be_smuggled_in(self) -> None:
        assert disposition('a"\r\nSet-Cookie: x') == (
            "attachment; filename=\"a___Set-Cookie: x\"; filename*=UTF-8''a%22%0D%0ASet-Cookie%3A%20x"
        )

    def test_check_says_why(self, s3_settings: Settings) -> None:
        elsewhere = S3Store.from_settings(s3_settings.model_copy(update={"s3_bucket": "nowhere"}))
        with pytest.raises(Unavailable, match="no such bucket"):
            elsewhere.check()
        away = S3Store.from_settings(s3_settings.model_copy(update={"s3_endpoint_url": "http://127.0.0.1:9"}))
        with pytest.raises(Unavailable, match="EndpointConnectionError"):
            away.check()


def test_the_settings_choose(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, s3_settings: Settings) -> None:
    config = Settings(data_dir=tmp_path)
    monkeypatch.setattr("pingvas.settings.get", lambda: config)
    assert isinstance(storage.default(), LocalStore)
    assert storage.default() is storage.default()
    monkeypatch.setattr("pingvas.settings.get", lambda: s3_settings)
    assert isinstance(storage.default(), S3Store)
