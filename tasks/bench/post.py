"""POST /generate against a bare view that only calls `apply_async`: throughput, latency, processor time.

The bare view runs twice: under gunicorn with two processes of four threads, the usual way to serve Flask,
and under granian, which serves the API. All have two processes and the same PostgreSQL and Redis, and take
turns (A-B-C-C-B-A), with few clients and with many. Every request has credits and a free place, so each
one is held, written and rung.
"""

import json
from collections.abc import Iterator
from itertools import count
from statistics import median

import psutil  # type: ignore[import-untyped]
from sqlalchemy import text

from gpu_worker.bench import tables
from pingvas import clock, db, ids
from pingvas.accounts import tokens
from tasks.bench import load, stand
from tasks.bench.load import Load
from tasks.bench.rabbitmq import free_ports
from tasks.bench.stand import Stand

CUSTOMERS = 16_000
PER_CUSTOMER = 3  # the places of a studio customer
AT_A_TIME = 500  # customers who are sending orders
CONNECTIONS = (16, 64)
SECONDS = 4.0
TURNS = "ABCCBAABCCBA"
ORDER = {"prompt": "a red circle on a blue background", "model": "tiny", "seed": 42}

_USERS = text("""
    INSERT INTO users (id, email, password_hash, tier, created_at)
    SELECT id, id || '@example.com', '', 'studio', :now FROM unnest(CAST(:ids AS uuid[])) AS id""")
_WALLETS = text("""
    INSERT INTO wallets (user_id, monthly, purchased, held, last_reset_at, resets_at)
    SELECT id, 15000, 0, 0, :now, :now FROM users""")
_SIGN_INS = text("""
    INSERT INTO sign_ins (id, user_id, created_at, last_used_at, expires_at)
    SELECT id, id, :now, :now, :now + interval '1 day' FROM users""")


class _Side:
    """One of the servers, and what its rounds came to."""

    def __init__(self, name: str, process: psutil.Process, port: int, requests: Iterator[bytes]) -> None:
        self.name = name
        self.process = process
        self.port = port
        self.requests = requests
        self.rounds: list[Load] = []
        self.cpu: dict[str, list[float]] = {}

    @property
    def cpu_per_request(self) -> float:
        """Milliseconds of processor time that a request takes, in all servers together."""
        return float(sum(median(spent) for spent in self.cpu.values()))

    def round(self, connections: int, seconds: float, others: dict[str, psutil.Process]) -> None:
        processes = {"its own": self.process, **others}
        before = {name: stand.cpu_seconds(process) for name, process in processes.items()}
        made = load.run(self.port, self.requests, connections=connections, seconds=seconds, status=202)
        for name, process in processes.items():
            used = stand.cpu_seconds(process) - before[name]
            self.cpu.setdefault(name, []).append(1e3 * used / len(made.latencies))
        if made.refused:
            raise SystemExit(f"{self.name}: {made.refused} answers, such as {made.example!r}")
        self.rounds.append(made)


def main() -> None:
    """Print the table."""
    with stand.running() as bench:
        signed_in = customers()
        sides = [
            _Side("POST /generate", *api(bench), orders(signed_in)),
            _Side("bare `apply_async`, gunicorn", *_on_gunicorn(bench), _bare_requests()),
            _Side("bare `apply_async`, granian", *_on_granian(bench), _bare_requests()),
        ]
        for side in sides:
            side.round(max(CONNECTIONS), 1.0, bench.servers)  # warms up pools and caches
        for connections in CONNECTIONS:
            for side in sides:
                side.rounds.clear()
                side.cpu.clear()
            for turn in TURNS:
                sides["ABC".index(turn)].round(connections, SECONDS, bench.servers)
            _report(connections, *sides)


def _report(connections: int, ours: _Side, *bare: _Side) -> None:
    columns = ("", "requests/s", "p50", "p99", "CPU/request", "PostgreSQL", "Redis")
    title = f"POST /generate against a bare view that only publishes, {connections} clients"
    tables.show(title, columns, [_row(side) for side in (*bare, ours)])
    rows = [(f"÷ {side.name}", *_ratios(ours, side)) for side in bare]
    title = f"POST /generate ÷ bare view, {connections} clients (CPU of all servers; bar >= 0.60, goal 0.80)"
    tables.show(title, ("", "requests/s", "requests/CPU second"), rows)


def _ratios(ours: _Side, bare: _Side) -> tuple[str, float]:
    # Round by round: what else runs on the machine comes and goes, and two rounds in turn see much the same.
    rates = [a.rate / b.rate for a, b in zip(ours.rounds, bare.rounds, strict=True)]
    return tables.spread(rates), bare.cpu_per_request / ours.cpu_per_request


def _row(side: _Side) -> tuple[str, ...]:
    latencies = [each for made in side.rounds for each in made.latencies]
    return (
        side.name,
        tables.spread([made.rate for made in side.rounds]),
        f"{1e3 * median(latencies):.1f} ms",
        f"{1e3 * tables.percentile(latencies, 0.99):.1f} ms",
        *(f"{median(side.cpu[name]):.2f} ms" for name in ("its own", "postgres", "redis")),
    )


def customers(number: int = CUSTOMERS) -> list[str]:
    """Write studio customers with credits who are signed in; return their access tokens."""
    users = [ids.new() for _ in range(number)]
    values = {"now": clock.now(), "ids": users}
    with db.transaction() as session:
        for statement in (_USERS, _WALLETS, _SIGN_INS):
            wanted = {name: values[name] for name in statement.compile().params}
            session.execute(statement, wanted)
        session.execute(text("ANALYZE users, wallets, sign_ins"))
    return [tokens.access(user, user) for user in users]


def orders(signed_in: list[str]) -> Iterator[bytes]:
    """Yield POST requests, each one with a place on the broker. A customer comes back after `AT_A_TIME`."""
    body = json.dumps(ORDER).encode()
    for first in range(0, len(signed_in), AT_A_TIME):
        for token in PER_CUSTOMER * signed_in[first : first + AT_A_TIME]:
            yield load.post("/api/v1/generate", body, token)
    raise SystemExit("more requests than customers have places for; raise CUSTOMERS")


def _bare_requests() -> Iterator[bytes]:
    return (load.post("/", b"{}") for _ in count())


def api(bench: Stand) -> tuple[psutil.Process, int]:
    """Start the API as `pingvas up` does; return its process and port."""
    argv = ("--interface", "asgi", "--workers", "2", "--backpressure", "8192", "--no-access-log")
    return _granian(bench, "api", (*argv, "pingvas.asgi:app"), "/healthz")


def _on_granian(bench: Stand) -> tuple[psutil.Process, int]:
    argv = ("--interface", "wsgi", "--workers", "2", "--blocking-threads", "4", "--no-access-log")
    return _granian(bench, "bare", (*argv, "tasks.bench.bare:app"), "/")


def _on_gunicorn(bench: Stand) -> tuple[psutil.Process, int]:
    (port,) = free_ports(1)
    argv = ("--workers", "2", "--threads", "4", "--keep-alive", "60", "--bind", f"127.0.0.1:{port}")
    process = bench.start("gunicorn", "gunicorn", *argv, "tasks.bench.bare:app")
    stand.wait_until_answers(f"http://127.0.0.1:{port}/")
    return process, port


def _granian(bench: Stand, name: str, argv: tuple[str, ...], path: str) -> tuple[psutil.Process, int]:
    (port,) = free_ports(1)
    process = bench.start(name, "granian", "--host", "127.0.0.1", "--port", str(port), *argv)
    stand.wait_until_answers(f"http://127.0.0.1:{port}{path}")
    return process, port
