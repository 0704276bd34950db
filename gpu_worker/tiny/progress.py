"""Says how far a stage has come."""

import logging
import time
from collections.abc import Callable

log = logging.getLogger("gpu_worker.tiny.train")


def progress(what: str, steps: int, every: int = 50) -> Callable[[int, float], None]:
    """A callback that logs the mean loss now and then."""
    began, losses = time.monotonic(), []

    def report(step: int, loss: float) -> None:
        losses.append(loss)
        if (step + 1) % every == 0 or step + 1 == steps:
            mean = sum(losses) / len(losses)
            seconds = time.monotonic() - began
            log.info("%s step %d/%d loss %.4f %.0f s", what, step + 1, steps, mean, seconds)
            losses.clear()

    return report
