"""One decorator that makes every view uniform: sign-in, validation, idempotency, rendering, documentation.

    bp = Blueprint("jobs", tag="Generation")

    @bp.post("/generate")
    @endpoint(body=GenerateBody, reply=JobAccepted, status=202, scope="generate", idempotent=True)
    def generate(body: GenerateBody) -> JobAccepted: ...

The view gets `body` and `query` by keyword when they are declared, and its path parameters; who asks is
`auth.current()`. It returns a `Reply`, an `Answer` (own status or headers), None (204), or a Flask response.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import Any, ParamSpec

from apiflask import APIBlueprint
from flask import Response, request

from pingvas.errors import PingvasError, UnsupportedMedia
from pingvas.web import auth, idempotency, limits, parsing
from pingvas.web.auth import Principal, Scope
from pingvas.web.limits import Limit
from pingvas.web.schema import Answer, Body, Query, Reply

__all__ = ["Answer", "Blueprint", "Body", "Contract", "Principal", "Query", "Reply", "endpoint"]

P = ParamSpec("P")
Result = Reply | Answer | Response | None
JSON = "application/json"


@dataclass(frozen=True)
class Contract:
    """What a view promises; `openapi` documents exactly this."""

    body: type[Body] | None
    query: type[Query] | None
    reply: type[Reply] | None
    status: int
    errors: tuple[type[PingvasError], ...]
    public: bool
    scope: Scope
    idempotent: bool
    limit: Limit
    media_type: str
    consumes: str | None
    max_bytes: int | None
    also: dict[int, str]
    headers: dict[str, str]
    reply_headers: dict[str, str]


class Blueprint(APIBlueprint):
    """The routes of one domain, under one heading of the documentation."""

    def __init__(self, name: str, *, tag: str, url_prefix: str = "/api/v1") -> None:
        super().__init__(name, "pingvas", tag=tag, url_prefix=url_prefix)


def endpoint(
    *,
    body: type[Body] | None = None,
    query: type[Query] | None = None,
    reply: type[Reply] | None = None,
    status: int = 200,
    errors: tuple[type[PingvasError], ...] = (),
    public: bool = False,
    scope: Scope = "read",
    idempotent: bool = False,
    limit: Limit = "ordinary",
    media_type: str = JSON,
    consumes: str | None = None,
    max_bytes: int | None = None,
    also: dict[int, str] | None = None,
    headers: dict[str, str] | None = None,
    reply_headers: dict[str, str] | None = None,
) -> Callable[[Callable[P, Result]], Callable[..., Response]]:
    """Make a function a view.

    Args:
        body: model of the JSON body, given to the view as `body`.
        query: model of the query parameters, given as `query`; without one, no parameter is accepted.
        reply: model of the answer; with none the status must be 204, or the view returns a response itself.
        status: the usual status.
        errors: what the view raises beyond what follows from the other arguments; for the documentation.
        public: nobody needs to be signed in.
        scope: what an API key must be allowed.
        idempotent: honour `Idempotency-Key`. The view then runs inside one transaction.
        limit: how often it may be called, see `limits`.
        media_type: content type of an answer that is no JSON.
        consumes: content type (without parameters) of a body that the view reads from `flask.request` itself.
        max_bytes: largest body, where it is not `max_body_bytes` of the settings.
        also: what other statuses below 400 mean, for the documentation.
        headers: what request headers of its own mean, for the documentation.
        reply_headers: what headers of its own the answer has, for the documentation.
    """
    if idempotent and public:
        raise TypeError("an idempotent call needs an account to keep its key")
    contract = Contract(
        body,
        query,
        reply,
        status,
        errors,
        public,
        scope,
        idempotent,
        limit,
        media_type,
        consumes,
        max_bytes,
        also or {},
        headers or {},
        reply_headers or {},
    )

    def decorate(view: Callable[P, Result]) -> Callable[..., Response]:
        @wraps(view)
        def wrapper(**path: Any) -> Response:
            return _serve(contract, view, path)

        # APIFlask puts an operation's extensions into its spec; `openapi` takes the contract out again.
        wrapper._spec = {"extensions": {"x-contract": contract}}  # type: ignore[attr-defined]
        return wrapper

    return decorate


def _serve(contract: Contract, view: Callable[..., Result], path: dict[str, Any]) -> Response:
    principal = None
    if not contract.public:
        principal = auth.current()
        auth.check(principal, contract.scope)
    arguments = _arguments(contract, path)
    limits.take(contract.limit, principal)

    def run() -> idempotency.Rendered:
        return _render(view(**arguments), contract.status)

    if contract.idempotent and principal:
        return idempotency.once(principal.id, request, run)
    return run().response


def _arguments(contract: Contract, path: dict[str, Any]) -> dict[str, Any]:
    if contract.max_bytes is not None:
        request.max_content_length = contract.max_bytes
    arguments = parsing.path(path)
    query = parsing.query(request, contract.query or Query)
    if contract.query:
        arguments["query"] = query
    if contract.body:
        arguments["body"] = parsing.body(request, contract.body)
    elif contract.consumes and request.mimetype != contract.consumes:
        raise UnsupportedMedia(f"The body must be {contract.consumes}")
    return arguments


def _render(result: Result, status: int) -> idempotency.Rendered:
    if isinstance(result, Response):
        return idempotency.Rendered(result)
    answer = result if isinstance(result, Answer) else Answer(result)
    body = None if answer.reply is None else dump(answer.reply)
    response = Response(body, answer.status or status, dict(answer.headers), content_type=JSON)
    if body is None:
        del response.headers["Content-Type"]
    return idempotency.Rendered(response, dump(answer.replay) if answer.replay else None)


def dump(reply: Reply) -> bytes:
    """Return a reply as JSON."""
    return reply.model_dump_json(by_alias=True).encode()
