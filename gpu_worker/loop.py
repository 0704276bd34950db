"""The GPU thread: schedule, denoise one step for one batch, update; prompts and pictures between steps."""

import logging
from collections.abc import Sequence
from dataclasses import replace

import torch

from gpu_worker.attempts import Attempts
from gpu_worker.config import EngineConfig
from gpu_worker.desk import Desk
from gpu_worker.devices import Placement
from gpu_worker.encoders import Encoders, Run
from gpu_worker.errors import Cancelled, EngineError, OutOfMemory
from gpu_worker.families import family_of
from gpu_worker.jobs import Job, Need
from gpu_worker.memory import Lease, Recovery, SizeKey
from gpu_worker.meter import Meter
from gpu_worker.outcomes import as_engine_error, caught
from gpu_worker.request import ModelSource
from gpu_worker.scheduling import Batch, Decode, Encode, Errands
from gpu_worker.stepping.twins import Twins
from gpu_worker.steps import Steps, failure_of, groups_of, progress_of
from gpu_worker.stock import StockRun
from gpu_worker.supplies import Supplies

log = logging.getLogger(__name__)

# Ageing moves models up with the steps, not only when requests come and go.
STEPS_BETWEEN_LOOKS = 16


class Loop:
    """Everything the GPU thread does. `serve` runs on it; nothing here is called from other threads."""

    def __init__(
        self,
        config: EngineConfig,
        placement: Placement,
        desk: Desk,
        supplies: Supplies,
        steps: Steps,
        encoders: Encoders,
    ) -> None:
        self._threads = config.threads
        self._placement = placement
        self._desk = desk
        self._supplies = supplies
        self._encoders = encoders
        self._steps = steps
        if config.compile:
            steps.compile(Twins(), supplies.hold)
        self._meter = Meter(placement)
        recovery = Recovery(can_offload=supplies.can_offload, buckets=config.scheduling.buckets)
        self._attempts = Attempts(recovery, supplies)
        self._errands = Errands()
        self._denoised: list[Job] = []  # all steps done, not all pictures decoded
        self._since_look = 0

    def serve(self) -> None:
        """Run until the engine has stopped and no request is left."""
        if self._threads is not None:
            torch.set_num_threads(self._threads)  # holds for the calling thread
        while self._desk.wait():
            while self._turn_safely():
                pass
            self._meter.settle()
        self._steps.close()
        self._supplies.close()

    def _turn_safely(self) -> bool:
        """A turn. After a bug in the loop itself, nobody in flight is left waiting for ever."""
        outcome = caught(self._turn)
        if not isinstance(outcome, Exception):
            return outcome
        log.error("the GPU thread's own error; requests in flight are given back", exc_info=outcome)
        self._end_all(self._desk.all_jobs(), as_engine_error(outcome))
        return True

    def _turn(self) -> bool:
        """A prompt encoded, a picture decoded or a step made; False when none was possible."""
        self._desk.admit()
        for job, reason in self._desk.due():
            self._end(job, reason)
        self._look_after_models()
        batch, jobs = self._desk.next_step() or (None, [])
        newcomers = {job.entry: job for job in jobs if job.work is None}
        denoised = {job.entry: job for job in self._denoised if self._supplies.lease(job.request.model)}
        match self._errands.choose(batch, newcomers, list(denoised)):
            case Encode(entry):
                self._prepare(newcomers[entry])
            case Decode(entry):
                self._decode(denoised[entry])
            case None if batch is not None:
                self._step(batch, jobs)
                self._errands.step_made([job.entry for job in self._denoised])
            case None:
                return False
        return True

    # Models.

    def _look_after_models(self) -> None:
        self._since_look += 1
        if not self._desk.take_news() and self._since_look < STEPS_BETWEEN_LOOKS:
            return
        self._since_look = 0
        self._end_what_cannot_load()
        needs, ahead = self._desk.wanted()
        ready = self._supplies.follow(needs, ahead, self._models_kept())
        ready = {need for need in ready if not need.loras or self._put_in_loras(need, needs)}
        for job in self._desk.all_jobs():
            if job.need in ready:
                self._describe(job)
        self._desk.set_ready(ready)
        for source in ahead:
            if self._supplies.is_loaded(source):
                self._desk.forget_prefetch(source)

    def _put_in_loras(self, need: Need, needs: Sequence[Need]) -> bool:
        """Whether they are in the model now."""
        lease = self._supplies.lease(need.source)
        if lease is None or family_of(lease.pipe) is None:
            return True  # the stock pipeline's call will say that it takes none
        done = caught(lambda: self._steps.put_in(lease, self._supplies.loras(need)))
        if isinstance(done, Exception):
            affected = [job for job in self._desk.all_jobs() if job.need == need]
            self._end_all(affected, as_engine_error(done))
            return False
        self._steps.trim(lease, {lora for other in needs for lora in other.loras})
        return done

    def _models_kept(self) -> list[ModelSource]:
        """Models in the middle of something: a stock pipeline's call, pictures to be decoded."""
        kept = [job for job in self._desk.all_jobs() if isinstance(job.work, StockRun)]
        return list(dict.fromkeys(job.request.model for job in [*self._denoised, *kept]))

    def _describe(self, job: Job) -> None:
        """What a request can share steps with shows when its model is there."""
        lease = self._supplies.lease(job.request.model)
        if job.entry.key is not None or lease is None:
            return
        family, pictures = family_of(lease.pipe), job.request.num_images
        if family is None:
            self._desk.describe(job, job.own_key(), 1)
        else:
            guided = family.is_guided(lease.pipe, job.request)
            self._desk.describe(job, job.shared_key(), 2 * pictures if guided else pictures)

    def _end_what_cannot_load(self) -> None:
        models, loras = self._supplies.failures()
        for source, error in models:
            size = SizeKey(source, 0, 0)
            if isinstance(error, OutOfMemory) and self._attempts.make_room(size, 1, "load"):
                continue
            self._desk.forget_prefetch(source)
            affected = [job for job in self._desk.all_jobs() if job.request.model == source]
            if not affected:
                log.warning("prefetch of model %s failed: %s", source.slug, error)
            self._end_all(affected, error)
        for lora, error in loras:
            self._end_all([job for job in self._desk.all_jobs() if lora in job.need.loras], error)

    # Steps.

    def _lease(self, job: Job) -> Lease:
        lease = self._supplies.lease(job.request.model)
        assert lease is not None, "a need is ready only while its model is in hand"
        return lease

    def _step(self, batch: Batch, jobs: list[Job]) -> None:
        lease = self._lease(jobs[0])
        for group in groups_of([job for job in jobs if job.work is not None]):
            self._step_together(batch, group, lease)

    def _prepare(self, job: Job) -> None:
        lease = self._lease(job)
        if self._desk.counts().running == 1:
            self._placement.reset_peak_memory()
        start = self._meter.start()
        steps = self._attempts.attempt(
            lambda: self._steps.prepare(job, lease), job.size, job.entry.rows, "encode", job.entry.rows
        )
        self._meter.stop(start, lambda seconds: self._desk.charge(job, seconds))
        if isinstance(steps, EngineError):
            self._end(job, steps)
        elif steps is not None:
            self._desk.set_steps(job, steps)

    def _step_together(self, batch: Batch, jobs: list[Job], lease: Lease) -> None:
        if not self._is_in_hand(jobs[0], lease):
            return
        rows = sum(job.entry.rows for job in jobs)
        size = jobs[0].size
        most = self._steps.rows_per_pass(self._attempts.recovery.row_limit(size))
        start = self._meter.start()
        computed = self._attempts.attempt(
            lambda: self._steps.step(lease, jobs, most),
            size,
            min(rows, most),
            "denoise",
            least=min(max(1, job.entry.rows // job.request.num_images) for job in jobs),
        )
        self._desk.set_row_limit(batch.key, self._attempts.recovery.row_limit(size))
        if isinstance(computed, EngineError):
            self._blame(batch, jobs, lease, computed)
        elif computed is not None:
            entries = tuple(job.entry for job in jobs)
            made = replace(batch, entries=entries, rows=rows, padded_rows=computed)
            self._meter.stop(start, lambda seconds: self._desk.timed(made, seconds))
            self._advance(made, jobs)

    def _is_in_hand(self, job: Job, lease: Lease) -> bool:
        """Not after a measure against running out of memory has given it back, earlier in this turn."""
        held = self._supplies.lease(job.request.model)
        return held is not None and held.pipe is lease.pipe  # two names of one model have a lease each

    def _blame(self, batch: Batch, jobs: list[Job], lease: Lease, error: EngineError) -> None:
        """End the request that fails by itself: nothing has changed for the others."""
        if len(jobs) == 1:
            self._end(jobs[0], error)
            return
        for job in jobs:
            self._step_together(batch, [job], lease)

    def _advance(self, batch: Batch, jobs: list[Job]) -> None:
        for job in jobs:
            if isinstance(job.work, StockRun):
                # The schedule counts this turn below; how many follow is the pipeline's to say.
                self._desk.set_steps(job, 1 if job.pixels else job.work.turns_left + 1)
        reached = [(job, progress_of(job)) for job in jobs]
        done = self._desk.advance(batch)
        self._denoised.extend(done)
        for job, progress in reached:
            callback = job.ticket.on_progress
            if callback is None or (isinstance(job.work, StockRun) and job.pixels):
                continue
            if isinstance(error := caught(lambda c=callback, p=progress: c(p)), Exception):  # type: ignore[misc]
                log.warning("progress callback of %s raised %r; not called again", job.request.id, error)
                job.ticket.on_progress = None
        for job in jobs:
            if (failure := failure_of(job)) is not None:
                self._end(job, as_engine_error(failure))
        for job in done:
            if isinstance(job.work, StockRun):  # its last turn has decoded
                self._finish(job)

    # Ends.

    def _decode(self, job: Job) -> None:
        lease = self._lease(job)
        measures = self._attempts.recovery.measures(job.size)
        start = self._meter.start()
        error = self._attempts.attempt(
            lambda: self._steps.decode(job, lease, measures), job.size, 1, "decode"
        )
        self._meter.stop(start, lambda seconds: self._desk.charge(job, seconds))
        if isinstance(error, EngineError):
            self._end(job, error)
        elif len(job.pixels) == job.request.num_images:
            self._finish(job)

    def _finish(self, job: Job) -> None:
        self._denoised.remove(job)
        self._meter.settle()
        seconds = job.entry.gpu_seconds
        run = Run(tuple(job.pixels), seconds, self._placement.peak_memory())
        self._steps.forget(job)
        if self._desk.remove(job):
            self._encoders.deliver(job.ticket, run)
        else:  # `cancel` promised it during decoding
            self._fail(job, Cancelled("cancelled while running"))

    def _end(self, job: Job, error: EngineError) -> None:
        if job in self._denoised:
            self._denoised.remove(job)
        self._meter.settle()
        self._steps.forget(job)
        self._desk.remove(job)
        self._fail(job, error)

    def _end_all(self, jobs: Sequence[Job], error: EngineError) -> None:
        """Each with an error of its own, which tells its own cost."""
        for job in jobs:
            own = type(error)(*error.args)
            own.__cause__ = error.__cause__
            self._end(job, own)

    def _fail(self, job: Job, error: EngineError) -> None:
        error.gpu_seconds = job.entry.gpu_seconds
        job.ticket.fail(error)
