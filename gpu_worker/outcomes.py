"""Turning whatever happens into a value the engine can hand on."""

import traceback
from collections.abc import Callable
from typing import TypeVar

from gpu_worker.devices import is_out_of_memory
from gpu_worker.errors import EngineError, GenerationFailed, OutOfMemory

T = TypeVar("T")


def caught(call: Callable[[], T]) -> T | Exception:
    """The result of `call`, or what it raised.

    The one place that catches everything: neither a pipeline's bug nor a caller's may end the GPU thread.
    """
    try:
        return call()
    except Exception as error:  # noqa: BLE001
        return error


def as_engine_error(error: BaseException) -> EngineError:
    """The error a request ends with.

    Empties the frames its traceback holds: their tensors would stay allocated while somebody keeps the error.
    """
    link: BaseException | None = error
    while link is not None:
        traceback.clear_frames(link.__traceback__)
        link = link.__cause__ or link.__context__
    if isinstance(error, EngineError):
        return error
    if is_out_of_memory(error):
        return OutOfMemory("the device ran out of memory")
    failure = GenerationFailed(f"generation failed: {type(error).__name__}")
    failure.__cause__ = error
    return failure
