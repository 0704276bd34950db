"""Doing something that may run out of memory, and what follows when it does."""

import logging
from collections.abc import Callable
from typing import TypeVar

from gpu_worker.errors import EngineError, OutOfMemory
from gpu_worker.memory import Recovery, Rung, SizeKey, Stage, apply
from gpu_worker.outcomes import as_engine_error, caught
from gpu_worker.request import ModelSource
from gpu_worker.supplies import Supplies

log = logging.getLogger(__name__)
T = TypeVar("T")


class Attempts:
    """The ladder of `memory`, applied where the error's traceback is gone and pins no tensors any more."""

    def __init__(self, recovery: Recovery, supplies: Supplies) -> None:
        self.recovery = recovery
        self._supplies = supplies

    def attempt(
        self, call: Callable[[], T], key: SizeKey, rows: int, stage: Stage, least: int = 1
    ) -> T | EngineError | None:
        """The result; an error that ends the request; None when a measure was taken and it is worth another
        try, with the rows that `recovery` then allows."""
        outcome = caught(call)
        if not isinstance(outcome, Exception):
            self.recovery.fitted(key, rows, stage)
            return outcome
        error = as_engine_error(outcome)
        del outcome
        if isinstance(error, OutOfMemory) and self.make_room(key, rows, stage, least):
            return None
        return error

    def make_room(self, key: SizeKey, rows: int, stage: Stage, least: int = 1) -> bool:
        """Take the mildest measure that is left; False when none is."""
        decision = self.recovery.after_oom(key, rows, stage, least)
        log.warning(
            "model %s at %dx%d ran out of memory (%s, %d rows): %s, %d rows",
            key.model.slug, key.width, key.height, stage, rows, decision.rung, decision.rows,
        )  # fmt: skip
        if decision.rung is Rung.FAIL:
            return False
        apply(decision, key, self._supplies.models)
        if decision.rung is Rung.OFFLOAD:
            self.give_back(key.model)
        return True

    def give_back(self, source: ModelSource) -> None:
        """So that the next lease is of the model as it is to run from now on."""
        self._supplies.let_go(source)
