"""From finished pictures to a completed job. An outage of store or database is waited out, for a while.

Meanwhile the lease is renewed, and the pictures are on the worker's disk too: whoever gets the job next on
this data folder need not draw it again. It is charged when it completes, and a job completes once.
"""

import logging
import time
from contextlib import suppress
from typing import Final
from uuid import UUID

from sqlalchemy.exc import SQLAlchemyError

from gpu_worker.request import GenerationResult
from pingvas import db, faults, ids, settings
from pingvas.errors import Unavailable
from pingvas.gallery import pictures
from pingvas.gallery.pictures import Stored
from pingvas.jobs import lifecycle
from pingvas.jobs.lifecycle import Claim, Outcome
from tasks import keeping
from tasks.heartbeat import Pulse
from tasks.progress import reporter

log = logging.getLogger(__name__)

AGAIN_SECONDS: Final = 1.0
_MARGIN_SECONDS: Final = 60.0  # an upload that has begun may end
_AWAY: Final = (Unavailable, *db.PASSING)


class Interrupted(Exception):
    """The attempt must stop before its pictures are delivered; its pulse says why."""

    def __init__(self, gpu_seconds: float) -> None:
        super().__init__()
        self.gpu_seconds = gpu_seconds


def kept(job_id: UUID) -> GenerationResult | None:
    """Return the pictures that an earlier attempt has left here, if it has."""
    found = keeping.find(job_id)
    if found is not None:
        log.info("job %s was drawn before, its pictures are on the disk", job_id)
    return found


def deliver(held: Claim, pulse: Pulse, drawn: GenerationResult) -> Outcome:
    """Put the pictures into the store and complete the job.

    Raises:
        Interrupted: the attempt must stop.
        Unavailable: the store is away for longer than the worker's patience.
        SQLAlchemyError: the same of the database.
    """
    delivery = _Delivery(held, drawn)
    give_up_at = time.monotonic() + settings.get().store_patience_seconds
    while True:
        try:
            return delivery.attempt()
        except _AWAY as error:
            delivery.keep(error)
            if time.monotonic() >= give_up_at:
                delivery.discard()
                raise
        if pulse.wait(AGAIN_SECONDS):
            delivery.discard()
            raise Interrupted(drawn.gpu_seconds)


class _Delivery:
    def __init__(self, held: Claim, drawn: GenerationResult) -> None:
        self._held, self._drawn = held, drawn
        self._image_ids = [ids.new() for _ in drawn.pictures]
        self._stored: list[Stored] = []
        self._told = False

    def attempt(self) -> Outcome:
        """Go on where the attempt before has stopped."""
        begun = len(self._stored)
        left = zip(self._image_ids[begun:], self._drawn.pictures[begun:], strict=True)
        for image_id, picture in left:
            self._stored.append(pictures.store(self._held.user_id, image_id, picture))
            faults.point("stored")
        reporter.flush()
        outcome = lifecycle.complete(self._held, self._stored, self._drawn.gpu_seconds)
        if outcome is Outcome.STALE:
            self.discard()
        else:
            keeping.forget(self._held.job_id)
        return outcome

    def keep(self, error: Exception) -> None:
        """Take the pictures to safety, at the first sign of an outage."""
        if self._told:
            return
        self._told = True
        log.warning("job %s: its pictures cannot be delivered yet: %s", self._held.job_id, error)
        keeping.keep(self._held.job_id, self._drawn)
        with suppress(SQLAlchemyError):
            patience = settings.get().store_patience_seconds
            lifecycle.postpone(self._held, patience + _MARGIN_SECONDS)

    def discard(self) -> None:
        """Delete what was stored for nothing; what cannot be deleted now is swept up later."""
        with suppress(Unavailable, SQLAlchemyError):
            pictures.discard(self._held.user_id, self._image_ids)
