"""Everything the engine reports as an error. Messages are fit for a customer; causes are chained."""

from typing import ClassVar


class EngineError(Exception):
    """Base of the errors a request can end with.

    `retryable` says whether the same request may succeed later or on another worker. `gpu_seconds` is what
    the request had used when it ended.
    """

    code: ClassVar[str]
    retryable: ClassVar[bool]
    gpu_seconds: float = 0.0


class BadRequest(EngineError):
    """The model cannot do what was asked."""

    code = "INVALID_PARAMETERS"
    retryable = False


class ModelUnavailable(EngineError):
    """The model is missing or broken."""

    code = "MODEL_UNAVAILABLE"
    retryable = False


class OutOfMemory(EngineError):
    """The device had too little memory, also after everything else had been unloaded."""

    code = "OUT_OF_MEMORY"
    retryable = True


class Cancelled(EngineError):
    """The caller cancelled the request."""

    code = "CANCELLED"
    retryable = False


class DeadlineExceeded(EngineError):
    """The request's deadline passed before it was finished."""

    code = "DEADLINE_EXCEEDED"
    retryable = False


class EngineStopped(EngineError):
    """The engine is shutting down; the request is worth a try on another worker."""

    code = "WORKER_STOPPED"
    retryable = True


class GenerationFailed(EngineError):
    """Something unexpected; the cause is chained."""

    code = "GENERATION_FAILED"
    retryable = True
