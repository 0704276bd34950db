"""The one tree of errors that reach a client; `web.problem` renders it as RFC 9457 problem+json."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self


class PingvasError(Exception):
    """An error with a stable machine-readable `code` and an HTTP `status`.

    `extra` is merged into the problem document (`required`, `available`, `errors`, …), `headers`
    into the response.
    """

    code: ClassVar[str] = "INTERNAL"
    status: ClassVar[int] = 500
    title: ClassVar[str] = "Internal error"

    def __init__(self, detail: str = "", *, headers: dict[str, str] | None = None, **extra: Any) -> None:
        super().__init__(detail or self.title)
        self.detail = detail or self.title
        self.headers = headers or {}
        self.extra = extra


class Malformed(PingvasError):
    code, status, title = "MALFORMED", 400, "The request could not be read"


class Unauthorized(PingvasError):
    code, status, title = "UNAUTHORIZED", 401, "Authentication is required"

    def __init__(self, detail: str = "", **extra: Any) -> None:
        super().__init__(detail, headers={"WWW-Authenticate": 'Bearer realm="pingvas"'}, **extra)


class ProviderRefused(PingvasError):
    code, status, title = "PROVIDER_REFUSED", 401, "The sign-in at the provider did not succeed"


class InvalidCredentials(Unauthorized):
    code, title = "INVALID_CREDENTIALS", "E-mail or password is wrong"


class InsufficientCredits(PingvasError):
    code, status, title = "INSUFFICIENT_CREDITS", 402, "Not enough credits"


class Forbidden(PingvasError):
    code, status, title = "FORBIDDEN", 403, "This is not allowed"


class SecondFactorRequired(Forbidden):
    code, title = "SECOND_FACTOR_REQUIRED", "This needs the second factor"


class SecondFactorInvalid(SecondFactorRequired):
    code, title = "SECOND_FACTOR_INVALID", "This code is wrong, too old, or was used before"


class EmailNotVerified(Forbidden):
    code, title = "EMAIL_NOT_VERIFIED", "The e-mail address is not verified"


class StepUpRequired(Forbidden):
    code, title = "STEP_UP_REQUIRED", "This needs a fresh proof of the second factor"


class TierRequired(Forbidden):
    code, title = "TIER_REQUIRED", "Your plan does not include this"


class NotFound(PingvasError):
    code, status, title = "NOT_FOUND", 404, "There is no such thing here"


class Conflict(PingvasError):
    code, status, title = "CONFLICT", 409, "This conflicts with the present state"


class EmailTaken(Conflict):
    code, title = "EMAIL_TAKEN", "This e-mail address has an account"


class AlreadyFinished(Conflict):
    code, title = "ALREADY_FINISHED", "The job has already finished"


class RequestInFlight(Conflict):
    code, title = "REQUEST_IN_FLIGHT", "A request with this Idempotency-Key is still in flight"


class TooSlow(PingvasError):
    code, status, title = "TOO_SLOW", 408, "The request body took too long to come"


class TooLarge(PingvasError):
    code, status, title = "TOO_LARGE", 413, "The request body is too large"


class UnsupportedMedia(PingvasError):
    code, status, title = "UNSUPPORTED_MEDIA_TYPE", 415, "The body must be application/json"


class Invalid(PingvasError):
    """Semantically wrong input; `errors` lists `{loc, msg, type}` like pydantic does."""

    code, status, title = "VALIDATION", 422, "The request is not valid"

    def __init__(self, detail: str = "", **extra: Any) -> None:
        super().__init__(detail or _summary(extra.get("errors", ())), **extra)

    @classmethod
    def at(cls, field: str, message: str) -> Self:
        """Return the error of one field."""
        return cls(errors=[{"loc": [field], "msg": message, "type": "value_error"}])


def _summary(errors: Sequence[Mapping[str, Any]]) -> str:
    """Return the first of `errors` in words, for those who show the detail alone."""
    if not errors:
        return ""
    more = f" ({len(errors) - 1} more in `errors`)" if len(errors) > 1 else ""
    return in_words(errors[0]) + more


def in_words(error: Mapping[str, Any]) -> str:
    """Return one of a problem's `errors` as people read it: `field: message`."""
    return ": ".join(filter(None, (".".join(map(str, error["loc"])), error["msg"])))


class InvalidToken(Invalid):
    code, title = "INVALID_TOKEN", "This token is not valid, was used, or has expired"


class IdempotencyMismatch(Invalid):
    code, title = "IDEMPOTENCY_MISMATCH", "This Idempotency-Key was used with another request"


class TooMany(PingvasError):
    code, status, title = "RATE_LIMITED", 429, "Too many requests"

    def __init__(
        self,
        detail: str = "",
        *,
        policy: str,
        limit: int,
        window: int | None = None,
        remaining: int = 0,
        retry_after: int = 1,
        **extra: Any,
    ) -> None:
        # As in the IETF draft "RateLimit header fields for HTTP": a named quota and what is left.
        quota = f'"{policy}";q={limit}'
        headers = {
            "Retry-After": str(retry_after),
            "RateLimit-Policy": quota if window is None else f"{quota};w={window}",
            "RateLimit": f'"{policy}";r={remaining};t={retry_after}',
        }
        super().__init__(detail, headers=headers, limit=limit, **extra)


class QueueFull(TooMany):
    code, title = "QUEUE_FULL", "You have too many jobs waiting"


class Unavailable(PingvasError):
    code, status, title = "UNAVAILABLE", 503, "A part of the service is not reachable"

    def __init__(self, detail: str = "", *, retry_after: int = 5, **extra: Any) -> None:
        super().__init__(detail, headers={"Retry-After": str(retry_after)}, **extra)


class NoWorker(Unavailable):
    code, title = "NO_WORKER", "No worker that is up can run this"
