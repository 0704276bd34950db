"""Trying something that may run out of memory, so that nothing of a failed try stays in memory."""

from collections.abc import Callable
from typing import TypeVar

from gpu_worker.errors import EngineError, OutOfMemory
from gpu_worker.outcomes import as_engine_error, caught

T = TypeVar("T")


def attempt(call: Callable[[], T]) -> T | EngineError:
    """What `call` returns, or the error it ended with.

    After an `OutOfMemory` no tensor hangs on the failed call any more, even before a garbage collection.
    """
    outcome = caught(call)
    if not isinstance(outcome, Exception):
        return outcome
    error = as_engine_error(outcome)
    if isinstance(error, OutOfMemory):
        _forget_the_way(outcome)
    return error


def _forget_the_way(error: BaseException) -> None:
    """Drop the tracebacks.

    Emptying their frames is not enough: a frame keeps its function, and `torch.nn.Module.__call__` has an
    inner one whose closure holds the module's arguments. The frames also lead back to this error.
    """
    link: BaseException | None = error
    while link is not None:
        link.__traceback__ = None
        link = link.__cause__ or link.__context__
