"""Flask behind the front answers as behind any WSGI server."""

import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import httpx
import pytest

from pingvas.asgi.bridge import MOST_IN_HAND

if TYPE_CHECKING:
    from tests.events.conftest import Api


@pytest.mark.parametrize("size", [0, 1, 70_000, 1_048_576])
def test_bodies(api: "Api", size: int) -> None:
    data = bytes(i % 251 for i in range(size))
    assert httpx.post(f"{api.url}/echo", content=data).content == data
    chunked = httpx.post(f"{api.url}/echo", content=iter([data]))
    assert chunked.content == data
    assert chunked.headers["x-length"] == (str(size) if size else "None")


def test_a_body_that_is_too_large_is_refused_by_flask(api: "Api") -> None:
    data = b"x" * 1_048_577
    assert httpx.post(f"{api.url}/echo", content=data).status_code == 413
    assert httpx.post(f"{api.url}/echo", content=iter([data])).status_code == 413
    assert httpx.post(f"{api.url}/echo", content=iter([data] * 20)).status_code == 413


def test_large_answers_come_whole_and_side_by_side(api: "Api") -> None:
    with ThreadPoolExecutor(8) as pool:
        sizes = [1_000, 262_000, 263_000, 3_000_000] * 4
        answers = pool.map(lambda size: httpx.get(f"{api.url}/big/{size}"), sizes)
    assert [len(answer.content) for answer in answers] == sizes


def test_who_hangs_up_in_the_middle_blocks_no_thread(api: "Api") -> None:
    address = urlsplit(api.url)
    for _ in range(6):
        with socket.create_connection((address.hostname, address.port)) as client:
            client.sendall(b"GET /big/50000000 HTTP/1.1\r\nHost: x\r\n\r\n")
            client.recv(1_000)
    assert httpx.get(f"{api.url}/state", timeout=10).status_code == 200


UNFINISHED = b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nbegun"

STALLED = b"GET /big/50000000 HTTP/1.1\r\nHost: x\r\n\r\n"


@contextmanager
def connections(api: "Api", count: int, request: bytes) -> Iterator[list[socket.socket]]:
    """Give connections on each of which this was sent, and nothing is read."""
    address = urlsplit(api.url)
    with ExitStack() as stack:
        clients = []
        for _ in range(count):
            client = stack.enter_context(
                socket.create_connection((address.hostname, address.port), timeout=20)
            )
            client.sendall(request)
            clients.append(client)
        yield clients


def wait_for_answers(clients: list[socket.socket]) -> None:
    """Wait until each one's answer has begun to come, and leave it unread."""
    for client in clients:
        assert client.recv(1, socket.MSG_PEEK)


def test_bodies_that_never_come_hold_up_nobody(api: "Api") -> None:
    with connections(api, MOST_IN_HAND + 50, UNFINISHED):
        assert httpx.get(f"{api.url}/state", timeout=10).status_code == 200
        assert httpx.post(f"{api.url}/echo", content=b"x", timeout=10).content == b"x"


def test_a_body_that_never_comes_is_refused(impatient_api: "Api") -> None:
    with connections(impatient_api, 3, UNFINISHED) as clients:
        answers = [client.recv(1_000) for client in clients]
    assert [answer.split(b" ")[1] for answer in answers] == [b"408"] * 3
    assert b"TOO_SLOW" in answers[0]


def test_answers_that_nobody_reads_hold_up_nobody(api: "Api") -> None:
    with connections(api, 10, STALLED) as clients:
        wait_for_answers(clients)
        assert httpx.get(f"{api.url}/state", timeout=10).status_code == 200
        assert httpx.get(f"{api.url}/big/20000000", timeout=10).status_code == 503
    while httpx.get(f"{api.url}/big/20000000", timeout=10).status_code == 503:
        pass  # those that were left take no room


def test_who_reads_too_slowly_is_left(impatient_api: "Api") -> None:
    with connections(impatient_api, 1, STALLED) as [client]:
        wait_for_answers([client])
        while impatient_api.state()["held"]:
            pass
        got = 0
        while part := client.recv(1_000_000):
            got += len(part)
        assert 0 < got < 50_000_000


def test_paths_and_headers(api: "Api") -> None:
    headers = [(b"X-Twice", b"1"), (b"X-Twice", b"2"), (b"X_Forwarded_For", b"x"), (b"X-Real", "ä".encode())]
    seen = httpx.get(f"{api.url}/seen?q=%C3%A4&x=%ff", headers=headers).json()
    assert seen["query"] == "q=%C3%A4&x=%ff"
    assert seen["headers"]["X-Twice"] == "1,2"
    assert "X-Forwarded-For" not in seen["headers"]
    assert seen["headers"]["X-Real"] == "ä".encode().decode("latin-1")


@pytest.mark.parametrize("target", ["/%ff", "/%00", "/a%2Fb", "//", "/%C3%A4", "/seen?\xff", "/seen?%"])
def test_no_path_is_a_500(api: "Api", target: str) -> None:
    address = urlsplit(api.url)
    with socket.create_connection((address.hostname, address.port), timeout=10) as client:
        client.sendall(f"GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode("latin-1"))
        answer = client.recv(1_000)
    assert answer.split(b" ")[1] in (b"200", b"400", b"404", b"308"), answer
