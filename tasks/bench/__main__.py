"""Measure the queues and the API before them: `python -m tasks.bench`; with names behind it, only those.

shares, waits: a real worker with stand-in jobs, on an embedded Redis, and on RabbitMQ where that is
installed; two minutes. simulation: a day of a fleet in the same order, without a broker; a minute.
post, listeners, backlog, policies: the API and its reads, on embedded servers of its own; two minutes.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from importlib import import_module
from pathlib import Path

from pingvas.embedded import DataFolder
from pingvas.embedded import redis as redis_server
from pingvas.embedded.servers import environment

OF_ORDER = ("shares", "waits", "simulation")
OF_THE_API = ("post", "listeners", "backlog", "policies")


def main(arguments: list[str]) -> None:
    """Run the chosen benchmarks."""
    parser = argparse.ArgumentParser(prog="python -m tasks.bench", description=__doc__)
    parser.add_argument("only", nargs="*", help="names of benchmarks; all if none is given")
    parser.add_argument("--plot", type=Path, help="where the simulation's picture goes (SVG)")
    chosen = parser.parse_args(arguments)
    if unknown := [name for name in chosen.only if name not in (*OF_ORDER, *OF_THE_API)]:
        parser.error(f"no benchmark {unknown[0]!r}; there are {', '.join((*OF_ORDER, *OF_THE_API))}")
    if ordered := [name for name in OF_ORDER if not chosen.only or name in chosen.only]:
        with _brokers() as brokers:
            from tasks.bench import day, shares, waits  # they read the settings, which know the broker by now

            benchmarks: dict[str, Callable[[], None]] = {
                "shares": lambda: shares.report(brokers),
                "waits": lambda: waits.report(brokers),
                "simulation": lambda: day.report(chosen.plot),
            }
            for name in ordered:
                _run(name, benchmarks[name])
    for name in OF_THE_API:
        if not chosen.only or name in chosen.only:
            _run(name, import_module(f"tasks.bench.{name}").main)


def _run(name: str, benchmark: Callable[[], None]) -> None:
    start = time.perf_counter()
    benchmark()
    print(f"({name}: {time.perf_counter() - start:.0f} s)\n", flush=True)


@contextmanager
def _brokers() -> Iterator[Mapping[str, str]]:
    """Start the brokers; their URLs by name."""
    with tempfile.TemporaryDirectory(prefix="pingvas-bench-") as path, ExitStack() as cleanup:
        folder = DataFolder(Path(path))
        folder.make()
        server = redis_server.start(folder)
        cleanup.callback(server.stop)
        values = {"BROKER_URL": server.url, "REDIS_URL": server.url, "PINGVAS_DATA_DIR": path}
        cleanup.enter_context(environment(values))
        from tasks.bench import rabbitmq

        brokers = {"Redis": server.url}
        if missing := rabbitmq.missing():
            print(f"RabbitMQ: {missing} is not installed, so it is not measured\n")
        else:
            brokers["RabbitMQ"] = cleanup.enter_context(rabbitmq.running()).url
        yield brokers


if __name__ == "__main__":
    main(sys.argv[1:])
