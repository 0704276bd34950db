"""How each fault is done to a running world."""

import os
import signal
import time
from collections.abc import Callable
from typing import Final

from sqlalchemy import text

from pingvas import db, workers
from pingvas.cli import programs
from pingvas.jobs import dispatch
from pingvas.jobs.dispatch import Bell
from tests.chaos.customers import Customers
from tests.chaos.plan import Fault, Kind, Order
from tests.chaos.world import SHORT, WORKERS, World, worker_name

_REACHED_SECONDS: Final = 15.0
_BUSY_SECONDS: Final = 4.0
_BROKEN_SECONDS: Final = 1.0
_REPEATED: Final = 20

_BUSY = text("SELECT worker FROM jobs WHERE status = 'in_progress' ORDER BY started_at DESC LIMIT 1")
_ANY = text("SELECT id, tier, model, priority, attempt FROM jobs ORDER BY random() LIMIT :most")


class Acts:
    """Does faults to a world while customers order."""

    def __init__(self, world: World, customers: Customers) -> None:
        self._world, self._customers = world, customers
        self._answered = 0

    def do(self, fault: Fault, orders: tuple[Order, ...]) -> bool:
        """Send the orders and do the fault among them; False when it met nothing to break."""
        if fault.kind is Kind.POINT:
            return self._die_at_point(fault, orders)
        self._send(orders)
        return self._break(fault)

    def finish(self, orders: tuple[Order, ...]) -> None:
        """Send orders that nothing disturbs."""
        self._send(orders)

    def _send(self, orders: tuple[Order, ...]) -> None:
        self._customers.send(orders)
        self._customers.wait_answered(self._answered + len(orders) // 3, _BUSY_SECONDS)
        self._answered += len(orders)

    def _break(self, fault: Fault) -> bool:
        world = self._world
        acts: dict[Kind, Callable[[], bool | None]] = {
            Kind.WORKER_KILLED: self._kill_worker,
            Kind.WORKER_FROZEN: self._freeze,
            Kind.SWEEPER_KILLED: self._kill_sweeper,
            Kind.BEAT_KILLED: lambda: world.kill_beats(both=fault.hard),
            Kind.API_KILLED: lambda: self._kill_api(fault.hard),
            Kind.BROKER_FORGETS: world.broker.forget,
            Kind.BROKER_RESTARTED: world.broker.restart,
            Kind.BROKER_SILENT: lambda: world.broker.line.fall_silent() > 0,
            Kind.POSTGRES_RESTARTED: lambda: world.restart_postgres(fault.hard),
            Kind.STORE_BROKEN: self._break_store,
            Kind.MESSAGES_REPEATED: _repeat_messages,
        }
        return acts[fault.kind]() is not False

    def _kill_sweeper(self) -> None:
        self._world.kill("control-worker")
        self._world.start(self._world.sweeper())

    def _break_store(self) -> None:
        pids = [self._world.pid(worker_name(number)) for number in range(WORKERS)]
        with self._world.store.broken(pids):
            time.sleep(_BROKEN_SECONDS)

    def _die_at_point(self, fault: Fault, orders: tuple[Order, ...]) -> bool:
        world, name = self._world, worker_name(fault.target)
        world.kill(name)
        world.start(world.gpu_worker(fault.target, f"{fault.point}:{fault.passing}"))
        wait_there(world.pid(name))
        self._send(orders)
        reached = world.dies(name, _REACHED_SECONDS)
        world.kill(name)
        world.start(world.gpu_worker(fault.target))
        return reached

    def _kill_worker(self) -> bool:
        number = _busy_worker()
        if number is None:
            return False
        self._world.kill(worker_name(number))
        self._world.start(self._world.gpu_worker(number))
        return True

    def _freeze(self) -> bool:
        number = _busy_worker()
        if number is None:
            return False
        name = worker_name(number)
        os.killpg(self._world.pid(name), signal.SIGSTOP)
        # Until its leases are over, the sweep has seen that and somebody else has begun.
        time.sleep(float(SHORT["PINGVAS_LEASE_SECONDS"]) + 2 * float(SHORT["PINGVAS_SWEEP_SECONDS"]))
        os.killpg(self._world.pid(name), signal.SIGCONT)
        return True

    def _kill_api(self, all_of_it: bool) -> bool:
        met = self._customers.wait_in_flight(_BUSY_SECONDS)
        if all_of_it:
            self._world.kill("api")
            self._world.start(programs.api(self._world.place))
        else:
            self._world.kill_api_process()
        return met


def _busy_worker() -> int | None:
    """Wait for a worker that has a job; None when none gets one in that time."""
    deadline = time.monotonic() + _BUSY_SECONDS
    while time.monotonic() < deadline:
        with db.transaction() as session:
            name = session.scalar(_BUSY)
        if name:
            return next(number for number in range(WORKERS) if name.startswith(f"{worker_name(number)}@"))
        time.sleep(0.01)
    return None


def wait_there(pid: int) -> None:
    """Wait until a worker announces itself: only then it takes messages."""
    deadline = time.monotonic() + _REACHED_SECONDS
    while time.monotonic() < deadline:
        workers.forget()
        if any(worker.pid == pid for worker in workers.live()):
            return
        time.sleep(0.05)


def _repeat_messages() -> None:
    """Ring twice for jobs in whatever state: waiting, running, or ended long ago."""
    with db.transaction() as session:
        bells = [Bell(*row) for row in session.execute(_ANY, {"most": _REPEATED})]
    dispatch.ring(*bells, *bells)
