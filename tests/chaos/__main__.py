"""`make chaos`: break everything while customers order, then prove that nothing was lost or done twice."""

import argparse
import json
import random
import signal
import sys
import time
from collections import Counter
from typing import Any, Final

from sqlalchemy import text

from pingvas import db
from tests.chaos import books, plan
from tests.chaos.acts import Acts
from tests.chaos.customers import Answers, Customers
from tests.chaos.plan import Plan
from tests.chaos.world import BROKERS, SHORT, STORES, WORKERS, World, made

_LIMIT_SECONDS: Final = 590
_END_SECONDS: Final = 120.0
_OPEN = text("SELECT count(*) FROM jobs WHERE status IN ('pending', 'in_progress')")


def main() -> int:
    """Run the suite; 0 when the books are right and every fault was done."""
    wanted = _arguments()
    chosen = plan.make(wanted.seed, WORKERS, wanted.jobs, wanted.faults)
    again = f"--seed {wanted.seed} --jobs {wanted.jobs} --faults {wanted.faults}"
    again = f'make chaos ARGS="{again} --broker {wanted.broker} --store {wanted.store}"'
    _say(f"the same again: {again}")
    signal.signal(signal.SIGALRM, _too_late)
    signal.alarm(_LIMIT_SECONDS)
    with made(SHORT, wanted.broker, wanted.store) as world:
        world.start_programs()
        answers, met = _run(world, chosen)
        problems = books.problems(answers)
        _report(answers, met)
        if problems:
            _say(json.dumps(problems, indent=1))
            # The block fails, so the folder stays.
            raise SystemExit(f"The books are wrong. Logs: {world.folder.logs}. The same again: {again}")
    _say("Nothing lost, nothing twice.")
    return 0


def _run(world: World, chosen: Plan) -> tuple[Answers, Counter[tuple[str, bool]]]:
    """Break the world fault by fault; return what customers heard and which faults met something to break."""
    customers = Customers(world.url, chosen.orders)
    acts, met = Acts(world, customers), Counter[tuple[str, bool]]()
    *disturbed, last = chosen.slices()
    for number, (fault, orders) in enumerate(zip(chosen.faults, disturbed, strict=True), 1):
        began = time.monotonic()
        hit = acts.do(fault, orders)
        met[str(fault.kind), hit] += 1
        note = "" if hit else " (met nothing)"
        _say(f"fault {number}/{len(chosen.faults)} in {time.monotonic() - began:.1f} s: {fault}{note}")
    acts.finish(last)
    answers = customers.finish()
    _wait_ended()
    world.stop_programs()
    return answers, met


def _wait_ended() -> None:
    """Wait until every job has ended; those that do not are for the books to tell."""
    deadline = time.monotonic() + _END_SECONDS
    while time.monotonic() < deadline:
        with db.transaction() as session:
            if not session.scalar(_OPEN):
                return
        time.sleep(0.2)


def _report(answers: Answers, met: "Counter[tuple[str, bool]]") -> None:
    missed = sum(count for (_, hit), count in met.items() if not hit)
    _say(f"{sum(met.values())} faults, {missed} of them met nothing")
    _say(f"orders: {len(answers.accepted)} accepted, {len(answers.refused)} refused for want of credits")
    _say(f"answers {dict(answers.statuses)}")
    _say(f"jobs {books.summary()}")


def _too_late(*_: Any) -> None:
    raise TimeoutError(f"the suite did not end within {_LIMIT_SECONDS} s")


def _say(line: str) -> None:
    sys.stdout.write(f"{time.strftime('%X')} {line}\n")
    sys.stdout.flush()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make chaos", description=__doc__)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--jobs", type=int, default=1_000)
    parser.add_argument("--faults", type=int, default=55)
    parser.add_argument("--broker", choices=BROKERS, default=BROKERS[0])
    parser.add_argument("--store", choices=STORES, default=STORES[0])
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
