"""`make recovery`: do the faults of docs/reliability.md to a running stack, and time what they cost."""

import argparse
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Final

from tests.chaos.world import BROKERS
from tests.recovery import kills, misbehaviour, outages, up

# The faults of one stack are done in this order.
STACKS: Final[dict[Callable[[str], AbstractContextManager[Any]], list[Callable[[Any], list[float]]]]] = {
    up.running: [
        kills.second_worker,
        kills.worker_drained,
        kills.worker_asked_twice,
        kills.worker_asked,
        kills.idle_worker,
        kills.api,
        kills.beat,
        kills.control_worker,
        outages.store_away,
        outages.disk_full,
        outages.database_restarted,
        outages.database_killed,
        outages.broker_restarted,
        outages.silent_line,
        outages.messages_lost,
        kills.worker_with_a_job,
    ],
    misbehaviour.running: [
        misbehaviour.hanging_job,
        misbehaviour.dead_device,
        misbehaviour.error_of_ours,
        misbehaviour.out_of_memory,
        misbehaviour.infrastructure,
        misbehaviour.frozen_worker,
        misbehaviour.poison,
    ],
}


def main() -> None:
    """Measure what is asked for; a quarter of an hour for everything."""
    wanted = _arguments()
    for stack, faults in STACKS.items():
        chosen = [fault for fault in faults if not wanted.faults or fault.__name__ in wanted.faults]
        if not chosen:
            continue
        with stack(wanted.broker) as running:
            for fault in chosen:
                _say(fault, fault(running))


def _say(fault: Callable[..., Any], seconds: list[float]) -> None:
    told = ", ".join(f"{one:.1f}" for one in seconds)
    sys.stdout.write(f"{time.strftime('%X')} {fault.__name__}: {told} s. {fault.__doc__}\n")
    sys.stdout.flush()


def _arguments() -> argparse.Namespace:
    names = [fault.__name__ for faults in STACKS.values() for fault in faults]
    parser = argparse.ArgumentParser(prog="make recovery", description=__doc__)
    parser.add_argument("faults", nargs="*", choices=[[], *names], metavar="FAULT", help=", ".join(names))
    parser.add_argument("--broker", choices=BROKERS, default=BROKERS[0])
    return parser.parse_args()


if __name__ == "__main__":
    main()
