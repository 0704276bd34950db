"""EC2's instance metadata as a small server has it: a token first, then the notice."""

import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest

from pingvas import clock
from tasks import spot
from tasks.spot import Metadata, NoNotice


class Instance(ThreadingHTTPServer):
    """Answers as IMDSv2 does. `notice` is the body of `spot/instance-action`, None while there is none."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.notice: str | None = None
        self.tokens = ["no token was ever given"]
        self.looked = threading.Semaphore(0)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    server: Instance

    def do_PUT(self) -> None:
        given = self.path == "/latest/api/token" and "X-aws-ec2-metadata-token-ttl-seconds" in self.headers
        self.server.tokens.append(f"token-{len(self.server.tokens)}")
        self._answer(200 if given else 400, self.server.tokens[-1])

    def do_GET(self) -> None:
        self.server.looked.release()
        if self.headers.get("X-aws-ec2-metadata-token") != self.server.tokens[-1]:
            self._answer(401, "")
        elif self.path != "/latest/meta-data/spot/instance-action" or self.server.notice is None:
            self._answer(404, "")
        else:
            self._answer(200, self.server.notice)

    def _answer(self, status: int, body: str) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (the base class's name)
        pass


@pytest.fixture
def instance() -> Iterator[Instance]:
    server = Instance()
    yield server
    server.shutdown()
    server.server_close()


def test_no_notice_and_then_one(instance: Instance) -> None:
    metadata = Metadata(instance.url)
    assert metadata.notice() is None
    instance.notice = '{"action": "terminate", "time": "2027-09-18T08:22:00Z"}'
    assert metadata.notice() == datetime(2027, 9, 18, 8, 22, tzinfo=UTC)
    assert len(instance.tokens) == 2  # one was enough


def test_a_token_that_is_too_old_is_renewed(instance: Instance) -> None:
    metadata = Metadata(instance.url)
    metadata.notice()
    instance.tokens.append("another")
    assert metadata.notice() is None


@pytest.mark.parametrize("notice", ["[]", "{}", "no JSON", '{"time": "soon"}'])
def test_what_is_no_notice_is_an_error_and_no_reason_to_leave(instance: Instance, notice: str) -> None:
    instance.notice = notice
    with pytest.raises(NoNotice):
        Metadata(instance.url).notice()


def test_metadata_that_are_away(instance: Instance) -> None:
    with pytest.raises(httpx.HTTPError):
        Metadata("http://127.0.0.1:1").notice()


def test_it_looks_until_there_is_a_notice_and_leaves_in_time(instance: Instance) -> None:
    left: list[float] = []
    watcher = threading.Thread(target=spot.until_notice, args=(Metadata(instance.url), left.append, 0.01))
    instance.notice = "not yet"
    watcher.start()
    for _ in range(5):  # errors do not end it
        assert instance.looked.acquire(timeout=20)
    instance.notice = (
        f'{{"action": "terminate", "time": "{clock.rfc3339(clock.now() + timedelta(seconds=120))}"}}'
    )
    watcher.join(20)
    assert left == [pytest.approx(100, abs=5)]


def test_nothing_is_asked_where_no_address_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spot, "Metadata", lambda _: pytest.fail("nobody named an address"))
    spot.watch(lambda _: None)
