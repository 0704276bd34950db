"""How long a killed worker's job waits under default settings: `python -m tests.chaos.recovery`.

A worker dies as soon as it has a job, six times, spread evenly over the time between two sweeps; then one
comes that lives.
"""

import sys
import time
from dataclasses import replace
from typing import Final

from sqlalchemy import text

from pingvas import db
from tests.chaos import plan
from tests.chaos.acts import wait_there
from tests.chaos.customers import Customers
from tests.chaos.plan import Order
from tests.chaos.world import World, made, worker_name

_LOSSES: Final = 6
_APART_SECONDS: Final = 2.5  # six of them fill the 15 s between two sweeps
_MOST_SECONDS: Final = 120.0
_AGAIN = text("SELECT prompt, extract(epoch FROM started_at) FROM jobs WHERE attempt = 2")


def main() -> None:
    """Print the seconds from each death to the next start."""
    orders = [order for order in plan.make(1, 1, 5 * _LOSSES, 0).orders if order.tier == "enterprise"]
    with made({}) as world:
        world.start_programs(workers=0)
        customers = Customers(world.url, tuple(orders))
        died = {}
        for order in orders:
            died[f"order {order.number}"] = _lose(world, customers, order)
            time.sleep(max(0.0, min(died.values()) + len(died) * _APART_SECONDS - time.time()))
        world.start(world.gpu_worker(0))
        started = _wait_started(len(orders))
        customers.finish()
    waits = sorted(started[prompt] - moment for prompt, moment in died.items())
    mean = sum(waits) / len(waits)
    sys.stdout.write(f"{', '.join(f'{wait:.1f}' for wait in waits)} s; mean {mean:.1f} s\n")


def _lose(world: World, customers: Customers, order: Order) -> float:
    """Let a worker die with an order; return when, in seconds since 1970."""
    name = worker_name(0)
    world.start(world.gpu_worker(0, "claimed:1", threads=1))
    wait_there(world.pid(name))
    customers.send((replace(order, cancelled=False, repeated=False),))
    if not world.dies(name, 30):
        raise TimeoutError("the worker did not die")
    moment = time.time()
    world.kill(name)
    return moment


def _wait_started(count: int) -> dict[str, float]:
    deadline = time.monotonic() + _MOST_SECONDS
    while time.monotonic() < deadline:
        with db.transaction() as session:
            found = {str(prompt): float(moment) for prompt, moment in session.execute(_AGAIN)}
        if len(found) == count:
            return found
        time.sleep(0.5)
    raise TimeoutError("not every job was started again")


if __name__ == "__main__":
    main()
