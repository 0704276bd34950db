"""Addresses that users name: nothing inside is reachable by them, whatever the trick."""

import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from itertools import cycle

import pytest

from pingvas.web.fetching import AddressRefused, Fetcher, NotFetched, is_public

HERE, INSIDE = "127.0.0.1", "127.0.0.2"  # all of 127/8 is this machine; the second plays the metadata service


class Site(BaseHTTPRequestHandler):
    """A public site, and on the other address something that nobody may reach."""

    seen: list[tuple[str, str, str]]
    leave: threading.Event

    def do_GET(self) -> None:
        self.seen.append((str(self.connection.getsockname()[0]), self.path, self.headers["Host"]))
        getattr(self, f"_{self.path.strip('/').partition('?')[0]}")()

    def _answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def _picture(self) -> None:
        self._answer(200, b"bytes", Content_Type="image/png")

    def _missing(self) -> None:
        self._answer(404)

    def _away(self) -> None:
        self._answer(302, Location=self.path.partition("?")[2])

    def _loop(self) -> None:
        self._answer(307, Location="/loop")

    def _endless(self) -> None:
        self._answer(200)
        try:
            while not self.leave.is_set():
                self.wfile.write(bytes(65_536))
        except OSError:
            pass

    def _drip(self) -> None:
        self._answer(200)
        self._trickle(b"x")

    def _drip_headers(self) -> None:
        self.wfile.write(b"HTTP/1.0 200 OK\r\n")
        self._trickle(b"X-A: b\r\n")

    def _trickle(self, piece: bytes) -> None:
        try:
            while not self.leave.wait(0.05):
                self.wfile.write(piece)
        except OSError:
            pass

    def _bomb(self) -> None:
        self._answer(200, b"\x1f\x8b", Content_Encoding="gzip")

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def site() -> Iterator[type[Site]]:
    class Fresh(Site):
        seen: list[tuple[str, str, str]] = []  # noqa: RUF012
        leave = threading.Event()

    server = ThreadingHTTPServer(("0.0.0.0", 0), Fresh)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    Fresh.port = server.server_port  # type: ignore[attr-defined]
    yield Fresh
    Fresh.leave.set()
    server.shutdown()
    server.server_close()


def fetcher(site: type[Site], names: dict[str, list[str]] | None = None, **limits: float) -> Fetcher:
    """One for which 127.0.0.1 is public; `names` maps hosts to addresses, others stand for themselves."""

    async def resolve(host: str, port: int) -> list[str]:
        return (names or {}).get(host, [host])

    return Fetcher(
        allowed=lambda address: str(address) == HERE,
        resolve=resolve,
        ports=frozenset({site.port}),  # type: ignore[attr-defined]
        max_bytes=int(limits.get("max_bytes", 1_000_000)),
        seconds=limits.get("seconds", 5),
    )


def url(site: type[Site], path: str, host: str = HERE) -> str:
    return f"http://{host}:{site.port}/{path}"  # type: ignore[attr-defined]


def test_a_public_address_is_fetched_by_its_name(site: type[Site]) -> None:
    found = fetcher(site, {"cdn.example.com": [HERE]}).fetch(url(site, "picture", "cdn.example.com"))
    assert (found.data, found.content_type) == (b"bytes", "image/png")
    assert site.seen == [(HERE, "/picture", f"cdn.example.com:{site.port}")]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "localhost",
        "0.0.0.0",
        "127.1",
        "2130706433",
        "0x7f000001",
        "0177.0.0.1",
        "10.0.0.1",
        "172.16.3.4",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "192.0.0.192",
        "224.0.0.1",
        "255.255.255.255",
        "[::1]",
        "[::]",
        "[::ffff:127.0.0.1]",
        "[::ffff:169.254.169.254]",
        "[64:ff9b::169.254.169.254]",
        "[2002:7f00:1::]",
        "[fe80::1]",
        "[fd00:ec2::254]",
        "[ff02::1]",
        "[fec0::1]",
    ],
)
def test_nothing_inside_is_opened(host: str) -> None:
    for scheme in ("http", "https"):
        with pytest.raises((AddressRefused, NotFetched)) as refusal:
            Fetcher(seconds=5).fetch(f"{scheme}://{host}/latest/meta-data/")
        if isinstance(refusal.value, NotFetched):  # the system's resolver does not know this spelling
            assert not host.startswith("[")
            assert "." not in host or host == "0177.0.0.1"


@pytest.mark.parametrize("text", ["8.8.8.8", "93.184.215.14", "2606:2800:21f:cb07:6820:80da:af6b:8b2c"])
def test_the_internet_is_public(text: str) -> None:
    assert is_public(ip_address(text))


def test_a_name_with_one_address_inside_is_refused(site: type[Site]) -> None:
    names = {"both.example.com": [HERE, INSIDE], "none.example.com": []}
    for host in names:
        with pytest.raises(AddressRefused):
            fetcher(site, names).fetch(url(site, "picture", host))
    assert site.seen == []


def test_a_name_is_asked_for_once_so_that_it_cannot_change_its_mind(site: type[Site]) -> None:
    answers, asked = cycle([[HERE], [INSIDE]]), []

    async def rebinding(host: str, port: int) -> list[str]:
        asked.append(host)
        return next(answers)

    base = fetcher(site)
    tricked = Fetcher(allowed=base.allowed, resolve=rebinding, ports=base.ports)
    assert tricked.fetch(url(site, "picture", "rebind.example.com")).data == b"bytes"
    assert asked == ["rebind.example.com"]
    with pytest.raises(AddressRefused):
        tricked.fetch(url(site, "picture", "rebind.example.com"))
    assert [address for address, _, _ in site.seen] == [HERE]


@pytest.mark.parametrize("target", ["inside", "by-name", "file:///etc/passwd", "gopher://x/", "//[::1]/"])
def test_a_redirect_leads_nowhere_that_a_user_may_not_go(site: type[Site], target: str) -> None:
    names = {"inside.example.com": [INSIDE]}
    to = {"inside": url(site, "picture", INSIDE), "by-name": url(site, "picture", "inside.example.com")}
    with pytest.raises(AddressRefused):
        fetcher(site, names).fetch(url(site, f"away?{to.get(target, target)}"))
    assert {address for address, _, _ in site.seen} == {HERE}


def test_a_good_redirect_is_followed_and_an_endless_one_is_not(site: type[Site]) -> None:
    found = fetcher(site).fetch(url(site, f"away?{url(site, 'picture')}"))
    assert (found.data, found.url) == (b"bytes", url(site, "picture"))
    with pytest.raises(NotFetched, match="redirects"):
        fetcher(site).fetch(url(site, "loop"))
    assert len(site.seen) == 2 + 4


@pytest.mark.parametrize("path", ["endless", "missing", "bomb"])
def test_too_much_or_nothing_is_not_fetched(site: type[Site], path: str) -> None:
    with pytest.raises(NotFetched):
        fetcher(site, max_bytes=100_000).fetch(url(site, path))


@pytest.mark.parametrize("path", ["drip", "drip_headers"])
def test_a_server_that_trickles_costs_no_more_than_the_time_allowed(site: type[Site], path: str) -> None:
    began = time.monotonic()
    with pytest.raises(NotFetched, match="longer than"):
        fetcher(site, seconds=0.5).fetch(url(site, path))
    assert time.monotonic() - began < 3


@pytest.mark.parametrize(
    "text",
    [
        "file:///etc/passwd",
        "ftp://example.com/",
        "gopher://127.0.0.1:6379/_FLUSHALL",
        "unix:///run/docker.sock",
        "http://",
        "http:///x",
        "nonsense",
        "",
        "http://user:password@example.com/",
        "http://example.com:22/",
        "http://example.com:6379/",
        "http://exa mple.com/",
        "http://example.com\r\nX-Injected: 1/",
        "http://[::1",
        "http://xn--a.example.com/",
        "http://" + "a" * 300 + ".com/",
    ],
)
def test_what_is_no_web_address_is_refused(text: str) -> None:
    with pytest.raises((AddressRefused, NotFetched)):
        Fetcher(seconds=5).fetch(text)
