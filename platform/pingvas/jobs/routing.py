"""Which queue a job's message goes to, and which queues a worker listens to. Pure.

A queue is a tier (`free`), or with PINGVAS_ROUTING=family a tier and an architecture (`free.sdxl`), so that
workers which hold few models get only jobs that they can run, without a queue for each model.
"""

from collections.abc import Iterable
from typing import Final

from pingvas import settings
from pingvas.billing.plans import Tier
from pingvas.catalog.families import ARCHITECTURES, FAMILIES, of_architectures

CONTROL: Final = "control"


class UnknownQueueError(ValueError):
    """No such queue; the text lists those there are."""


def queue_of(tier: str, family: str) -> str:
    """Return the queue of a job of a tier whose model is of a family of the catalogue."""
    if settings.get().routing == "tier":
        return tier
    return f"{tier}.{FAMILIES[family].architecture}"


def queue_names(tiers: Iterable[str] = (), architectures: Iterable[str] = ()) -> list[str]:
    """Return a worker's queues, highest tier first; without arguments those of a worker for everything.

    A worker for some architectures gets only their queues: in a tier's own anything may lie.

    Raises:
        UnknownQueueError: there is no such tier or architecture, or routing by family is off.
    """
    wanted, kinds = list(tiers) or list(Tier), list(architectures)
    _check("queue", wanted, tuple(Tier))
    _check("family", kinds, ARCHITECTURES)
    if settings.get().routing == "tier":
        if kinds:
            variable = settings.variable("routing")
            raise UnknownQueueError(f"Families have queues of their own only with {variable}=family.")
        return [tier.value for tier in Tier if tier in wanted]
    return [name for tier in Tier if tier in wanted for name in _of_tier(tier, kinds)]


def all_queues() -> list[str]:
    """Return every queue of jobs that there may be, whatever the routing, highest tier first."""
    return [name for tier in Tier for name in _of_tier(tier, [])]


def _of_tier(tier: Tier, architectures: list[str]) -> list[str]:
    if architectures:
        return [f"{tier}.{architecture}" for architecture in architectures]
    return [tier.value, *(f"{tier}.{architecture}" for architecture in ARCHITECTURES)]


def tier_of(queue: str) -> Tier | None:
    """Return the tier of a queue; None for `control`."""
    name = queue.partition(".")[0]
    return Tier(name) if name in set(Tier) else None


def families_of(queues: Iterable[str]) -> frozenset[str]:
    """Return the families whose jobs may lie in these queues: in a tier's own, those of any."""
    kinds = {queue.partition(".")[2] for queue in queues if tier_of(queue)}
    return of_architectures(ARCHITECTURES if "" in kinds else kinds)


def _check(what: str, names: Iterable[str], known: Iterable[str]) -> None:
    unknown = [name for name in names if name not in set(known)]
    if unknown:
        raise UnknownQueueError(f"There is no {what} {unknown[0]!r}; there are {', '.join(known)}.")
