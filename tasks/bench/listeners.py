"""What 2,000 idle listeners of events do to POST /generate: the same load with and without them, in turns."""

import asyncio
import json
import threading
from collections.abc import Iterator
from statistics import median

from gpu_worker.bench import tables
from tasks.bench import load, post, stand
from tasks.bench.load import Load

LISTENERS = 2_000
SECONDS = 4.0
CONNECTIONS = 16
TURNS = "ABBAABBA"  # without and with
_AT_ONCE = 50
_PATIENCE = 30.0


class Listeners:
    """Clients that each follow a waiting job over server-sent events, on a thread and loop of their own."""

    def __init__(self, port: int, tokens: list[str], number: int) -> None:
        self._port = port
        self._jobs = [(token, _job(port, token)) for token in tokens]
        self._number = number
        self._writers: list[asyncio.StreamWriter] = []
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, daemon=True).start()

    def open(self) -> None:
        """Connect all, and wait until each has had its first event."""
        asyncio.run_coroutine_threadsafe(self._open(), self._loop).result()

    def close(self) -> None:
        """Hang up."""
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result()

    async def _open(self) -> None:
        gate = asyncio.Semaphore(_AT_ONCE)
        async with asyncio.TaskGroup() as group:
            for i in range(self._number):
                group.create_task(self._connect(gate, *self._jobs[i % len(self._jobs)]))

    async def _connect(self, gate: asyncio.Semaphore, token: str, job: str) -> None:
        sign_in = f"Authorization: Bearer {token}"
        request = f"GET /api/v1/jobs/{job}/events HTTP/1.1\r\nHost: bench\r\n{sign_in}\r\n\r\n"
        async with gate, asyncio.timeout(_PATIENCE):
            reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
            writer.write(request.encode())
            await reader.readuntil(b"event: status")
            self._writers.append(writer)

    async def _close(self) -> None:
        for writer in self._writers:
            writer.close()
        self._writers.clear()


def _job(port: int, token: str) -> str:
    """Submit a job that no worker will take."""
    body = json.dumps(post.ORDER).encode()
    answer = load.once(port, load.post("/api/v1/generate", body, token))
    return str(json.loads(answer.partition(b"\r\n\r\n")[2])["job_id"])


def main() -> None:
    """Print the table."""
    with stand.running() as bench:
        tokens = post.customers()
        _, port = post.api(bench)
        listeners = Listeners(port, tokens[:100], LISTENERS)
        requests = post.orders(tokens[100:])
        load.run(port, requests, connections=CONNECTIONS, seconds=1.0, status=202)
        _report(_rounds(port, listeners, requests))


def _rounds(port: int, listeners: Listeners, requests: Iterator[bytes]) -> dict[str, list[Load]]:
    rounds: dict[str, list[Load]] = {"A": [], "B": []}
    for turn, before in zip(TURNS, f"A{TURNS}", strict=False):
        if turn != before:
            (listeners.open if turn == "B" else listeners.close)()
        made = load.run(port, requests, connections=CONNECTIONS, seconds=SECONDS, status=202)
        rounds[turn].append(made)
    listeners.close()
    return rounds


def _report(rounds: dict[str, list[Load]]) -> None:
    rows = []
    for name, turn in (("nobody listens", "A"), (f"{LISTENERS:,} listeners", "B")):
        latencies = [each for made in rounds[turn] for each in made.latencies]
        spread = tables.spread([made.rate for made in rounds[turn]])
        p50, p99 = median(latencies), tables.percentile(latencies, 0.99)
        rows.append((name, spread, f"{1e3 * p50:.1f} ms", f"{1e3 * p99:.1f} ms"))
    ratio = median(made.rate for made in rounds["B"]) / median(made.rate for made in rounds["A"])
    tables.show(
        f"POST /generate beside {LISTENERS:,} idle listeners ÷ alone = {ratio:.2f}",
        ("", "requests/s", "p50", "p99"),
        rows,
    )
