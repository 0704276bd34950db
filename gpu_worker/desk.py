"""The requests in flight, behind one lock: the callers' threads and the GPU thread meet here."""

import threading
from collections.abc import Callable, Hashable
from dataclasses import dataclass

from gpu_worker.errors import Cancelled, DeadlineExceeded, EngineError, EngineStopped
from gpu_worker.jobs import Job, Need
from gpu_worker.request import ModelSource
from gpu_worker.scheduling import Batch, Scheduler, SchedulingConfig
from gpu_worker.tickets import Ticket

# How long the GPU thread sleeps at most while requests wait for their models: deadlines may pass meanwhile.
NAP_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Counts:
    """Requests waiting and running now; steps made so far, their rows, and the requests that took part.

    `silent_seconds`: for so long the GPU thread has begun no turn though there are requests.
    """

    queued: int
    running: int
    steps: int
    rows: int
    served: int
    silent_seconds: float


class Desk:
    """Takes requests in, says which step comes next, and knows which request must end and why."""

    def __init__(self, config: SchedulingConfig, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._changed = threading.Condition()
        # Guarded by _changed: all below.
        self._scheduler = Scheduler(config)
        self._jobs: dict[str, Job] = {}
        self._arrivals: list[Job] = []  # which the GPU thread has not seen yet
        self._ready: set[Need] = set()
        self._prefetches: list[ModelSource] = []
        self._stop_at: float | None = None
        self._has_news = False
        self._turned_at = clock()
        self._steps = self._rows = self._served = 0

    # For callers' threads.

    def add(self, ticket: Ticket) -> None:
        """Raises `EngineStopped`, or `ValueError` when the id is in flight."""
        with self._changed:
            if self._stop_at is not None:
                raise EngineStopped("the engine is stopping")
            if ticket.request.id in self._jobs:
                raise ValueError(f"request {ticket.request.id!r} is already in flight")
            if not self._jobs:
                self._turned_at = self._clock()  # it slept, as it may
            job = Job.of(ticket, self._clock())
            self._jobs[ticket.request.id] = job
            self._arrivals.append(job)
            self._tell()

    def cancel(self, request_id: str) -> bool:
        """Mark a running request, end a waiting one; False when there is no such request."""
        with self._changed:
            job = self._jobs.get(request_id)
            if job is None:
                return False
            job.ticket.cancelled = True
            self._scheduler.cancel(request_id)
            if not job.taken:
                self._drop(job)
        if not job.taken:
            job.ticket.fail(Cancelled("cancelled while queued"))
        return True

    def prefetch(self, source: ModelSource) -> None:
        with self._changed:
            if self._stop_at is None and source not in self._prefetches:
                self._prefetches.append(source)
                self._tell()

    def stop(self, grace: float) -> None:
        """Take no more requests, hand back those that wait, and end the others after `grace` seconds."""
        with self._changed:
            stop_at = self._clock() + grace
            self._stop_at = stop_at if self._stop_at is None else min(stop_at, self._stop_at)
            self._prefetches.clear()
            waiting = [job for job in self._jobs.values() if not job.taken]
            for job in waiting:
                self._drop(job)
            self._tell()
        for job in waiting:
            job.ticket.fail(EngineStopped("the engine stopped before the request began"))

    def counts(self) -> Counts:
        with self._changed:
            taken = sum(job.taken for job in self._jobs.values())
            queued = len(self._jobs) - taken
            silent = self._clock() - self._turned_at if self._jobs else 0.0
            return Counts(queued, taken, self._steps, self._rows, self._served, silent)

    def tell(self) -> None:
        """Something changed that may let the GPU thread go on."""
        with self._changed:
            self._tell()

    # For the GPU thread.

    def wait(self) -> bool:
        """Sleep until something changes; False when the engine has stopped and nothing is left to do."""
        with self._changed:
            if self._stop_at is not None and not self._jobs:
                return False
            if not self._has_news and not self._changed.wait(NAP_SECONDS if self._jobs else None):
                self._has_news = True  # what is waited for may have come without a word
            return True

    def admit(self) -> None:
        """Let those who have come into the schedule. Not before: what a request can share a step with is said
        by the GPU thread, and nobody is picked before it is said."""
        with self._changed:
            self._turned_at = self._clock()
            for job in self._arrivals:
                if self._jobs.get(job.entry.id) is job:
                    self._scheduler.add(job.entry)
                    self._has_news = True
            self._arrivals.clear()

    def take_news(self) -> bool:
        """Whether anything changed since the last call that may concern models."""
        with self._changed:
            news, self._has_news = self._has_news, False
            return news

    def wanted(self) -> tuple[list[Need], list[ModelSource]]:
        """What live requests need, the most urgent first; and models to load ahead."""
        with self._changed:
            needs = [need for need in self._scheduler.wanted(self._clock()) if isinstance(need, Need)]
            return needs, list(self._prefetches)

    def forget_prefetch(self, source: ModelSource) -> None:
        with self._changed:
            if source in self._prefetches:
                self._prefetches.remove(source)

    def all_jobs(self) -> list[Job]:
        with self._changed:
            return list(self._jobs.values())

    def describe(self, job: Job, key: Hashable, rows: int) -> None:
        """Say what a request can share a step with, and how many rows it adds."""
        with self._changed:
            job.entry.key, job.entry.rows = key, rows

    def set_steps(self, job: Job, steps: int) -> None:
        """Say how many steps are left: more or fewer than asked for, known only when it has begun."""
        with self._changed:
            job.entry.steps_left = steps

    def set_ready(self, needs: set[Need]) -> None:
        """Say which needs are met; all others are not."""
        with self._changed:
            for need in self._ready ^ needs:
                self._scheduler.set_ready(need, need in needs)
            self._ready = set(needs)

    def set_row_limit(self, key: Hashable, rows: int | None) -> None:
        with self._changed:
            self._scheduler.set_row_limit(key, rows)

    def row_limit(self, key: Hashable) -> int:
        with self._changed:
            return self._scheduler.row_limit(key)

    def next_step(self) -> tuple[Batch, list[Job]] | None:
        """The next step's requests, now taken. None when no request can run; some that nobody waits for any
        more may have been dropped meanwhile."""
        with self._changed:
            while (batch := self._scheduler.next_batch(self._clock())) is not None:
                jobs = [self._jobs[entry.id] for entry in batch.entries]
                gone = [job for job in jobs if not job.taken and not _begin(job)]
                for job in gone:
                    self._drop(job)
                if not gone:
                    return batch, jobs
        return None

    def advance(self, batch: Batch) -> list[Job]:
        """Count the step; the requests that have no steps left."""
        with self._changed:
            self._steps += 1
            self._rows += batch.rows
            self._served += len(batch.entries)
            return [self._jobs[entry.id] for entry in self._scheduler.advance(batch, self._clock())]

    def timed(self, batch: Batch, seconds: float) -> None:
        with self._changed:
            self._scheduler.timed(batch, seconds)

    def charge(self, job: Job, seconds: float) -> None:
        with self._changed:
            self._scheduler.charge(job.entry, seconds)

    def due(self) -> list[tuple[Job, EngineError]]:
        """Requests that must end now, each with the reason; they stay in flight until `remove`."""
        with self._changed:
            now = self._clock()
            due = [(job, reason) for job in self._jobs.values() if (reason := self._reason(job, now))]
            for job, _ in due:
                self._scheduler.remove(job.entry.id)
            return due

    def remove(self, job: Job) -> bool:
        """Forget a request that has ended; False when it had been cancelled meanwhile."""
        with self._changed:
            self._drop(job)
            return not job.ticket.cancelled

    def _reason(self, job: Job, now: float) -> EngineError | None:
        where = "while the request ran" if job.taken else "while the request was queued"
        if job.ticket.cancelled:
            return Cancelled("cancelled while running")
        if job.entry.id not in self._scheduler:
            return None  # denoised: its pictures are still delivered
        if job.entry.is_due(now):
            return DeadlineExceeded(f"the deadline passed {where}")
        if self._stop_at is not None and now >= self._stop_at:
            return EngineStopped(f"the engine stopped {where}")
        return None

    def _drop(self, job: Job) -> None:
        self._scheduler.remove(job.entry.id)
        self._jobs.pop(job.entry.id, None)
        self._tell()

    def _tell(self) -> None:
        self._has_news = True
        self._changed.notify_all()


def _begin(job: Job) -> bool:
    """Take it; False when its caller has cancelled the future itself."""
    job.taken = job.ticket.future.set_running_or_notify_cancel()
    return job.taken
