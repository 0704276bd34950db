"""Measure the order between tiers: `python -m tasks.bench`; with names behind it, only those.

shares, waits: a real worker with stand-in jobs, on an embedded Redis, and on RabbitMQ where that is
installed; two minutes. simulation: a day of a fleet in the same order, without a broker; a minute.
"""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from pingvas.embedded import DataFolder
from pingvas.embedded import redis as redis_server
from pingvas.embedded.servers import forget_settings


def main(arguments: list[str]) -> None:
    """Run the chosen benchmarks."""
    parser = argparse.ArgumentParser(prog="python -m tasks.bench", description=__doc__)
    parser.add_argument("only", nargs="*", help="shares, waits, simulation; all if none is given")
    parser.add_argument("--plot", type=Path, help="where the simulation's picture goes (SVG)")
    chosen = parser.parse_args(arguments)
    with _brokers() as brokers:
        from tasks.bench import day, shares, waits  # they read the settings, which know the broker by now

        benchmarks: dict[str, Callable[[], None]] = {
            "shares": lambda: shares.report(brokers),
            "waits": lambda: waits.report(brokers),
            "simulation": lambda: day.report(chosen.plot),
        }
        if unknown := [name for name in chosen.only if name not in benchmarks]:
            parser.error(f"no benchmark {unknown[0]!r}; there are {', '.join(benchmarks)}")
        for name, run in benchmarks.items():
            if not chosen.only or name in chosen.only:
                start = time.perf_counter()
                run()
                print(f"({name}: {time.perf_counter() - start:.0f} s)\n", flush=True)


@contextmanager
def _brokers() -> Iterator[Mapping[str, str]]:
    """Start the brokers; their URLs by name."""
    with tempfile.TemporaryDirectory(prefix="pingvas-bench-") as path, ExitStack() as cleanup:
        folder = DataFolder(Path(path))
        folder.make()
        server = redis_server.start(folder)
        cleanup.callback(server.stop)
        os.environ |= {"BROKER_URL": server.url, "REDIS_URL": server.url, "PINGVAS_DATA_DIR": path}
        forget_settings()
        from tasks.bench import rabbitmq

        brokers = {"Redis": server.url}
        if missing := rabbitmq.missing():
            print(f"RabbitMQ: {missing} is not installed, so it is not measured\n")
        else:
            brokers["RabbitMQ"] = cleanup.enter_context(rabbitmq.running())
        yield brokers


if __name__ == "__main__":
    main(sys.argv[1:])
