"""A cluster in plain Python: slots, five tiers, users who take turns. Time is a number."""

import heapq
import itertools
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from pingvas.billing.plans import Tier
from pingvas.jobs.eta.prediction import Newcomer, Pool, TierLoad, Wait, predict

WEIGHTS = {"enterprise": 16.0, "studio": 8.0, "pro": 4.0, "starter": 2.0, "free": 1.0}
CLASSES = (("enterprise",), ("studio", "pro", "starter", "free"))
TIERS = tuple(tier.value for tier in Tier)


@dataclass
class Told:
    """What a job was told and what came."""

    tier: str
    wait: Wait
    arrived: float
    started: float = -1.0

    @property
    def actual(self) -> float:
        return self.started - self.arrived


@dataclass
class User:
    """Jobs on the broker or running, and those that wait for a place there."""

    tier: str
    open: int = 0
    unrung: deque[Told] = field(default_factory=deque)


class World:
    """`service` draws seconds; every user has one place on the broker (`max_concurrent_jobs`).

    Who is next: enterprise, else the tier with the least served seconds by weight; idle tiers bank nothing.
    """

    def __init__(self, slots: int, mean: float, service: Callable[[random.Random], float], seed: int) -> None:
        self.slots, self.mean, self.service = slots, mean, service
        self.random = random.Random(seed)
        self.now = 0.0
        self.told: list[Told] = []
        self.queues: dict[str, deque[tuple[Told, User]]] = {tier: deque() for tier in TIERS}
        self.running = dict.fromkeys(TIERS, 0)
        self.users: list[User] = []
        self._arrived: dict[str, deque[float]] = {tier: deque() for tier in TIERS}
        self.variation = 0.0
        self._tags = dict.fromkeys(TIERS, 0.0)
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()

    def at(self, moment: float, act: Callable[[], None]) -> None:
        """Do something later."""
        heapq.heappush(self._events, (moment, next(self._numbers), act))

    def arrivals(self, tier: str, rate: float, until: float, users: int = 0) -> None:
        """Let jobs come at random: each from a new user, or from one of `users`."""
        regulars = [User(tier) for _ in range(users)]
        moment = self.random.expovariate(rate)
        while moment < until:
            self.at(moment, lambda: self.submit(self.random.choice(regulars) if regulars else User(tier)))
            moment += self.random.expovariate(rate)

    def submit(self, user: User) -> None:
        """A user's job arrives and is told how long it will wait."""
        wait = self.predict(user)
        self._arrived[user.tier].append(self.now)
        told = Told(user.tier, wait, self.now)
        self.told.append(told)
        if user not in self.users:
            self.users.append(user)
        user.unrung.append(told)
        self._ring(user)
        self._fill()

    def predict(self, user: User) -> Wait:
        """Ask the code under test."""
        loads = {tier: self.load(tier) for tier in TIERS}
        own = user.open + len(user.unrung)
        pool = Pool(self.slots, CLASSES, WEIGHTS, self.mean, self.variation, Wait(0.0, 0.0))
        job = Newcomer(user.tier, loads[user.tier].ahead(own, 1), own, self.mean)
        return predict(loads, pool, job)

    def load(self, tier: str) -> TierLoad:
        unrung: dict[int, int] = {}
        for user in self.users:
            if user.tier == tier and user.unrung:
                unrung[len(user.unrung)] = unrung.get(len(user.unrung), 0) + 1
        return TierLoad(len(self.queues[tier]), self.running[tier], self.mean, self._inflow(tier), unrung)

    def _inflow(self, tier: str) -> float:
        arrived = self._arrived[tier]
        while arrived and arrived[0] < self.now - 60:
            arrived.popleft()
        return len(arrived) * self.mean / 60

    def run(self) -> None:
        """Let everything happen."""
        while self._events:
            self.now, _, act = heapq.heappop(self._events)
            act()

    def _ring(self, user: User) -> None:
        while user.unrung and user.open < 1:
            user.open += 1
            self.queues[user.tier].append((user.unrung.popleft(), user))

    def _fill(self) -> None:
        while sum(self.running.values()) < self.slots and (tier := self._next()):
            told, user = self.queues[tier].popleft()
            told.started = self.now
            seconds = self.service(self.random)
            self._charge(tier, seconds)
            self.running[tier] += 1
            self.at(self.now + seconds, lambda tier=tier, user=user: self._end(tier, user))  # type: ignore[misc]

    def _end(self, tier: str, user: User) -> None:
        self.running[tier] -= 1
        user.open -= 1
        self._ring(user)
        if not user.open:
            self.users.remove(user)
        self._fill()

    def _next(self) -> str | None:
        if self.queues["enterprise"]:
            return "enterprise"
        waiting = [tier for tier in TIERS[1:] if self.queues[tier]]
        return min(waiting, key=lambda tier: (self._tags[tier], -WEIGHTS[tier]), default=None)

    def _charge(self, tier: str, seconds: float) -> None:
        present = self._tags[tier]
        for other in TIERS:
            if not self.queues[other]:
                self._tags[other] = max(self._tags[other], present)
        self._tags[tier] = max(present, self._tags[tier]) + seconds / WEIGHTS[tier]
