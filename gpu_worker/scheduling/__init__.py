"""Which requests share the next denoising step: pure decisions, no torch, no clock, no threads.

The caller's loop, under the caller's own lock:

    for entry in scheduler.due(now): end it            # cancelled or past its deadline
    cache.follow(scheduler.wanted(now))                # load beside the running step; then set_ready
    batch = scheduler.next_batch(now)                  # None: nothing can run, wait for add or set_ready
    errand = errands.choose(batch, unprepared, denoised)  # a prompt or a picture: do it, begin again
    ... denoise one step of the entries that are prepared; errands.step_made ...
    for entry in scheduler.step_done(batch, seconds, now): decode it
"""

from gpu_worker.scheduling.entry import Batch, Entry, SchedulingConfig
from gpu_worker.scheduling.errands import Decode, Encode, Errands
from gpu_worker.scheduling.scheduler import Scheduler

__all__ = ["Batch", "Decode", "Encode", "Entry", "Errands", "Scheduler", "SchedulingConfig"]
