"""An HTTP client that costs little: prebuilt requests over keep-alive connections, latencies noted."""

import asyncio
import time
from collections.abc import Iterator
from dataclasses import dataclass, field


@dataclass
class Load:
    """What one round did: seconds of each answered request; how many had another status, and one of these."""

    seconds: float = 0.0
    latencies: list[float] = field(default_factory=list)
    refused: int = 0
    example: bytes = b""

    @property
    def rate(self) -> float:
        """Requests per second."""
        return len(self.latencies) / self.seconds


def post(path: str, body: bytes, authorization: str = "") -> bytes:
    """Return the bytes of a POST request."""
    sign_in = f"Authorization: Bearer {authorization}\r\n" if authorization else ""
    head = f"POST {path} HTTP/1.1\r\nHost: bench\r\n{sign_in}Content-Type: application/json\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def run(port: int, requests: Iterator[bytes], *, connections: int, seconds: float, status: int) -> Load:
    """Send requests over so many connections for so long, each connection one after the other."""
    return asyncio.run(_run(port, requests, connections, seconds, status))


def once(port: int, request: bytes) -> bytes:
    """Send one request and return its answer."""

    async def send() -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(request)
        answer = await _answer(reader)
        writer.close()
        return answer

    return asyncio.run(send())


async def _run(port: int, requests: Iterator[bytes], connections: int, seconds: float, status: int) -> Load:
    load = Load()
    start = time.perf_counter()
    end = start + seconds
    wanted = f"HTTP/1.1 {status} ".encode()
    async with asyncio.TaskGroup() as group:
        for _ in range(connections):
            group.create_task(_connection(port, requests, end, wanted, load))
    load.seconds = time.perf_counter() - start
    return load


async def _connection(port: int, requests: Iterator[bytes], end: float, wanted: bytes, load: Load) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        while (sent := time.perf_counter()) < end:
            writer.write(next(requests))
            answer = await _answer(reader)
            if not answer.startswith(wanted):
                load.refused, load.example = load.refused + 1, answer
            load.latencies.append(time.perf_counter() - sent)
    finally:
        writer.close()


async def _answer(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    length = head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0]
    return head + await reader.readexactly(int(length or 0))
