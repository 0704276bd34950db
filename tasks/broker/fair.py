"""Which queue a worker looks into first: pure Python, knows no broker.

Stride scheduling (Waldspurger and Weihl, 1995) in GPU seconds: each tier has a tag, its virtual time, which
grows by cost / weight when it is served. The backlogged tier is served whose next job has the earliest
middle, tag + cost / weight / 2: like Sainte-Laguë's division of seats that favours no weight, however few
jobs a worker takes before the next tier falls idle. By tags alone each burst would begin with one job a tier.
"""

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

EXPECTED_AT_FIRST = 1.0  # GPU seconds, of a tier none of whose jobs has ended here
REMEMBERED = 64  # jobs that a tier's mean looks back on
_MOST_RUNNING = 1_024  # charges kept until their job ends; those of jobs that never end fall out


def tier_of(queue: str) -> str:
    """Return the tier of a queue: `free` of `free` and of `free.sdxl`."""
    return queue.partition(".")[0]


@dataclass
class _Account:
    """One tier: where it stands, and what its jobs cost."""

    rank: int  # 0 is the highest tier
    weight: float
    tag: float = 0.0
    mean: float = EXPECTED_AT_FIRST
    ended: int = 0
    charged: deque[float] = field(default_factory=lambda: deque(maxlen=_MOST_RUNNING))

    @property
    def due(self) -> float:
        """The middle of its next job, in virtual time."""
        return self.tag + self.mean / self.weight / 2

    def charge(self) -> None:
        """Take the expected cost of a job that starts."""
        self.charged.append(self.mean)
        self.tag += self.mean / self.weight

    def settle(self, cost: float) -> None:
        """Correct the oldest charge: which of a tier's jobs ended does not matter to their sum."""
        self.tag += (cost - (self.charged.popleft() if self.charged else 0.0)) / self.weight
        self.ended += 1
        self.mean += (cost - self.mean) / min(self.ended, REMEMBERED)


class FairOrder:
    """The order of one worker's queues.

    The first tier goes before all others. They share by weight, counted in what their jobs really cost:
    a start charges the tier's mean, the end corrects it. Queues of one tier (`free.sd`, `free.sdxl`) take
    turns. Queues of no tier go before everything.

    One thread asks and serves; `settle` may be called from any.
    """

    def __init__(self, weights: Mapping[str, float], *, strict: bool = False) -> None:
        """Take the tiers' weights, highest tier first; `strict` serves them in that order instead."""
        self._accounts = {tier: _Account(rank, weight) for rank, (tier, weight) in enumerate(weights.items())}
        self._strict = strict
        self._ended: deque[tuple[str, float]] = deque()
        self._turns: dict[str, int] = {}
        self._turn = 0

    def order(self, queues: Sequence[str]) -> list[str]:
        """Return the queues in the order in which to look for the next message."""
        while self._ended:
            tier, cost = self._ended.popleft()
            self._accounts[tier].settle(cost)
        return sorted(queues, key=self._precedence)

    def served(self, queue: str) -> None:
        """Note that a message was found in `queue`, and so none in those ordered before it."""
        self._turn += 1
        self._turns[queue] = self._turn
        account = self._accounts.get(tier_of(queue))
        if account is None:
            return
        if account.rank > 0:  # the first tier says nothing of the others: it is always looked at first
            now = account.due
            for other in self._accounts.values():
                if other.due < now:
                    other.tag = now  # it had nothing to run: what is not used is lost
        account.charge()

    def settle(self, tier: str, cost: float) -> None:
        """Note that a job of `tier` ended after `cost` GPU seconds; counts from the next ordering on.

        Later than now, since `served` reads the tags as they were when the message was looked for.
        """
        if tier in self._accounts:
            self._ended.append((tier, cost))

    def _precedence(self, queue: str) -> tuple[float, ...]:
        turn = self._turns.get(queue, 0)
        account = self._accounts.get(tier_of(queue))
        if account is None:
            return -1, 0, 0, turn
        if self._strict or account.rank == 0:
            return account.rank, 0, 0, turn
        return 1, account.due, account.rank, turn
