"""Jobs that nobody could run are refused when they are submitted, instead of waiting for ever."""

from pingvas import workers
from pingvas.catalog.models import CatalogEntry
from pingvas.errors import NoWorker

RETRY_AFTER_SECONDS = 30


def check(entry: CatalogEntry, tier: str) -> None:
    """See that a job of this model can run on the workers that serve its tier.

    While none at all is there for the tier, it is accepted: it waits in the database until one comes back.

    Raises:
        NoWorker: workers are there for the tier, but none can hold the model's family.
    """
    serving = [worker for worker in workers.live() if tier in worker.tiers]
    if serving and not any(entry.family in worker.families for worker in serving):
        raise NoWorker(
            f"No worker that is up now can run {entry.slug}; try again later or take another model.",
            retry_after=RETRY_AFTER_SECONDS,
            model=entry.slug,
        )
