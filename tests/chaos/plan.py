"""What will be ordered and what will be broken: a pure function of the seed."""

import math
import random
from dataclasses import dataclass
from enum import StrEnum
from itertools import cycle, islice, pairwise
from typing import Any, Final

from pingvas import faults

# Users of a tier share its orders; so many each keeps them within what their plan lets them send in a minute.
ORDERS_PER_USER: Final = {"enterprise": 200, "studio": 60, "pro": 20, "starter": 10, "free": 4}


class Kind(StrEnum):
    """What can be broken."""

    POINT = "a worker dies between two steps"
    WORKER_KILLED = "a worker is killed"
    WORKER_FROZEN = "a worker is frozen beyond its lease"
    SWEEPER_KILLED = "the worker of the sweep is killed"
    API_KILLED = "the API is killed"
    BEAT_KILLED = "a beat is killed, or both"
    BROKER_FORGETS = "the broker forgets everything"
    BROKER_RESTARTED = "the broker is killed and started"
    BROKER_SILENT = "the lines to the broker fall silent"
    POSTGRES_RESTARTED = "PostgreSQL is restarted"
    STORE_BROKEN = "the object store cannot be written"
    MESSAGES_REPEATED = "messages come again, late ones too"


@dataclass(frozen=True)
class Order:
    """One order of a customer, `user` of those of its tier."""

    number: int
    tier: str
    user: int
    body: dict[str, Any]
    cancelled: bool  # asked for right after it was accepted
    repeated: bool  # sent again after it was accepted


@dataclass(frozen=True)
class Fault:
    """One fault. `hard` chooses between two ways of doing it; `target` is the worker that dies at a point."""

    kind: Kind
    target: int
    hard: bool
    point: str = ""
    passing: int = 0

    def __str__(self) -> str:
        return f"{self.kind}: {self.point}:{self.passing}" if self.point else str(self.kind)


@dataclass(frozen=True)
class Plan:
    """Orders, in the order they are sent, and faults, in the order they happen."""

    seed: int
    orders: tuple[Order, ...]
    faults: tuple[Fault, ...]

    def slices(self) -> list[tuple[Order, ...]]:
        """Split the orders so that some are sent at each fault and some after the last."""
        parts = len(self.faults) + 1
        edges = [round(part * len(self.orders) / parts) for part in range(parts + 1)]
        return [self.orders[begin:end] for begin, end in pairwise(edges)]


def make(seed: int, workers: int, jobs: int, faults_wanted: int) -> Plan:
    """Return the plan of a seed: every kind of fault and every point once before any comes again."""
    chance = random.Random(seed)
    orders = tuple(_order(number, jobs, chance) for number in range(jobs))
    kinds: list[tuple[Kind, str]] = [(Kind.POINT, point) for point in faults.POINTS]
    kinds += [(kind, "") for kind in Kind if kind is not Kind.POINT]
    chance.shuffle(kinds)
    chosen = islice(cycle(kinds), faults_wanted)
    return Plan(seed, orders, tuple(_fault(kind, point, workers, chance) for kind, point in chosen))


def _fault(kind: Kind, point: str, workers: int, chance: random.Random) -> Fault:
    passing = chance.randint(1, 3) if point else 0
    return Fault(kind, chance.randrange(workers), chance.random() < 0.5, point, passing)


def _order(number: int, jobs: int, chance: random.Random) -> Order:
    tiers = list(ORDERS_PER_USER)
    tier = tiers[number % len(tiers)]
    body = {
        "prompt": f"order {number}",
        "width": 256,
        "height": 256,
        "steps": chance.randint(20, 150),
        # What a free user has does for one such order at a time, or none.
        "num_images": chance.randint(3, 5) if tier == "free" else chance.randint(1, 3),
        "seed": number,
        "priority": chance.choice(["interactive", "batch"]),
    }
    users = math.ceil(jobs / len(tiers) / ORDERS_PER_USER[tier])
    user = number // len(tiers) % users
    return Order(number, tier, user, body, chance.random() < 0.05, chance.random() < 0.1)
