"""OpenAPI 3.1 from the contracts of the views.

APIFlask walks the routes and gives paths, path parameters, headings and the docstrings; bodies,
answers, problems and credentials come from what `endpoint` was told.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from typing import Any, Literal

from apiflask import APIFlask
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from pingvas.errors import (
    Forbidden,
    IdempotencyMismatch,
    Invalid,
    Malformed,
    NotFound,
    PingvasError,
    RequestInFlight,
    TooLarge,
    TooMany,
    TooSlow,
    Unauthorized,
    Unavailable,
    UnsupportedMedia,
)
from pingvas.web import auth, idempotency, problem, request_id
from pingvas.web.api import JSON, Contract
from pingvas.web.paging import Page
from pingvas.web.parsing import list_fields

Json = dict[str, Any]
Mode = Literal["validation", "serialization"]
_REF = "#/components/schemas/{model}"
_LIMITS: Json = {
    "RateLimit": {"description": "What is left, by limit.", "schema": {"type": "string"}},
    "RateLimit-Policy": {
        "description": "The limits that this call counts for.",
        "schema": {"type": "string"},
    },
}
_COOKIE_AUTH: Json = {"sessionCookie": []}
_PROBLEM: Json = {
    "type": "object",
    "description": "RFC 9457 problem details; some codes carry further members.",
    "required": ["type", "title", "status", "detail", "code"],
    "properties": {
        "type": {"type": "string", "format": "uri"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "code": {"type": "string", "description": "Stable and machine-readable."},
        "request_id": {"type": "string"},
        "required": {
            "type": ["integer", "string"],
            "description": "Credits that are needed (INSUFFICIENT_CREDITS); lowest plan (TIER_REQUIRED).",
        },
        "available": {"type": "integer", "description": "With INSUFFICIENT_CREDITS: credits there are."},
        "limit": {"type": "integer", "description": "With RATE_LIMITED and QUEUE_FULL: how many may be."},
        "required_scope": {"type": "string", "description": "With FORBIDDEN: what the API key lacks."},
        "model": {"type": "string", "description": "With NO_WORKER: the model that nobody can run."},
        "checks": {
            "type": "object",
            "description": "Of `/readyz`: each part by name.",
            "additionalProperties": {"type": "string"},
        },
        "errors": {
            "type": "array",
            "description": "With VALIDATION: what is wrong where.",
            "items": {
                "type": "object",
                "required": ["loc", "msg", "type"],
                "properties": {
                    "loc": {"type": "array", "items": {"type": ["string", "integer"]}},
                    "msg": {"type": "string"},
                    "type": {"type": "string"},
                },
            },
        },
    },
}


def init_app(app: APIFlask) -> None:
    """Make the specification of `app` complete, valid and true."""
    app.config.update(
        AUTO_SERVERS=False,  # the document is cached; a server address would be that of its first reader
        AUTO_OPERATION_ID=True,
        AUTO_200_RESPONSE=False,
        AUTO_404_RESPONSE=False,
        AUTO_VALIDATION_ERROR_RESPONSE=False,
        AUTO_AUTH_ERROR_RESPONSE=False,
    )
    app.description = (
        "Errors are RFC 9457 problems (`application/problem+json`) with a stable `code`. Unknown fields are "
        f"refused. Every answer carries `{request_id.HEADER}`. Times are RFC 3339 in UTC."
    )
    app.security_schemes = {
        "bearerAuth": {"type": "http", "scheme": "bearer", "description": "An access token or an API key."},
        "sessionCookie": {
            "type": "apiKey",
            "in": "cookie",
            "name": "pingvas_session",
            "description": f"Set by the sign-in; changes must repeat `csrf_token` in `{auth.CSRF_HEADER}`.",
        },
    }
    app.spec_callback = complete  # type: ignore[assignment]  # (typed for YAML texts as well)


def complete(spec: Json) -> Json:
    """Fill in every operation that has a contract."""
    operations = [
        (method, operation) for path in spec["paths"].values() for method, operation in path.items()
    ]
    contracted = [(method, op, op.pop("x-contract")) for method, op in operations if "x-contract" in op]
    schemas, refs = _schemas([contract for _, _, contract in contracted])
    spec["components"]["schemas"] = {**schemas, "Problem": _PROBLEM}
    # Blueprints may share a heading.
    spec["tags"] = list({tag["name"]: tag for tag in spec.get("tags", ())}.values())
    seen: Counter[str] = Counter()
    for method, operation, contract in contracted:
        seen[operation["operationId"]] += 1
        if (times := seen[operation["operationId"]]) > 1:  # one view on several paths
            operation["operationId"] += f"_{times}"
        _describe(method, operation, contract, refs)
    return spec


def _schemas(contracts: Iterable[Contract]) -> tuple[Json, dict[type[BaseModel], Json]]:
    wanted: dict[tuple[type[BaseModel], Mode], None] = {}
    for contract in contracts:
        if contract.body:
            wanted[contract.body, "validation"] = None
        if contract.reply:
            wanted[contract.reply, "serialization"] = None
    refs, definitions = models_json_schema(list(wanted), ref_template=_REF)
    found = {model: refs[model, mode] for model, mode in wanted}
    return definitions.get("$defs", {}), found


def _describe(method: str, operation: Json, contract: Contract, refs: dict[type[BaseModel], Json]) -> None:
    has_path = bool(operation["parameters"])
    for parameter in operation["parameters"]:
        parameter["required"] = True
    operation["parameters"] += [*_query_parameters(contract), *_header_parameters(contract)]
    if contract.body:
        content = {"application/json": {"schema": refs[contract.body]}}
        required = any(field.is_required() for field in contract.body.model_fields.values())
        operation["requestBody"] = {"required": required, "content": content}
    elif contract.consumes:
        operation["requestBody"] = {"required": True, "content": {contract.consumes: {}}}
    operation["responses"] = {
        str(contract.status): _success(contract, method, refs),
        **{str(status): _other(contract, method, status, refs) for status in contract.also},
        **_problems(contract, method, has_path),
    }
    operation["security"] = [] if contract.public else [{"bearerAuth": []}, _COOKIE_AUTH]
    if not contract.public:
        operation["x-scope"] = contract.scope


def _query_parameters(contract: Contract) -> Iterator[Json]:
    if contract.query is None:
        return
    schema = contract.query.model_json_schema(ref_template=_REF)
    for name, field in schema["properties"].items():
        description = field.pop("description", None)
        parameter = {"name": name, "in": "query", "required": name in schema.get("required", ())}
        if description:
            parameter["description"] = description
        if name in list_fields(contract.query):
            parameter |= {"style": "form", "explode": True}
        yield parameter | {"schema": _inline(field, schema.get("$defs", {}))}


def _inline(node: Any, definitions: Json) -> Any:
    """Return `node` with its references to `definitions` (enums, mostly) resolved."""
    if isinstance(node, dict):
        if "$ref" in node:
            return _inline(definitions[node["$ref"].rsplit("/", 1)[1]], definitions)
        return {key: _inline(value, definitions) for key, value in node.items()}
    return [_inline(value, definitions) for value in node] if isinstance(node, list) else node


def _header_parameters(contract: Contract) -> Iterator[Json]:
    if contract.idempotent:
        yield {
            "name": idempotency.HEADER,
            "in": "header",
            "required": False,
            "description": "Sent again with the same body, the first answer comes again and nothing is done "
            f"twice; that answer carries `{idempotency.REPLAYED}: true`.",
            "schema": {"type": "string", "minLength": 1, "maxLength": 255},
        }
    for name, description in contract.headers.items():
        yield {
            "name": name,
            "in": "header",
            "required": False,
            "description": description,
            "schema": {"type": "string"},
        }


def _success(contract: Contract, method: str, refs: dict[type[BaseModel], Json]) -> Json:
    headers: Json = {request_id.HEADER: {"schema": {"type": "string"}}}
    if contract.limit != "none" and (method != "get" or not contract.public):
        headers |= _LIMITS
    if contract.idempotent:
        headers[idempotency.REPLAYED] = {"schema": {"const": "true"}}
    if contract.reply and issubclass(contract.reply, Page):
        headers["Link"] = {"description": 'The next page, rel="next".', "schema": {"type": "string"}}
    for name, description in contract.reply_headers.items():
        headers[name] = {"description": description, "schema": {"type": "string"}}
    answer: Json = {"description": "Done", "headers": headers}
    if contract.reply:
        answer["content"] = {contract.media_type: {"schema": refs[contract.reply]}}
    elif contract.media_type != JSON:  # without a model, an answer that is JSON has no body
        answer["content"] = {contract.media_type: {}}
    return answer


def _other(contract: Contract, method: str, status: int, refs: dict[type[BaseModel], Json]) -> Json:
    answer = _success(contract, method, refs) | {"description": contract.also[status]}
    if status == 204 or status >= 300:
        answer.pop("content", None)
    return answer


def _problems(contract: Contract, method: str, has_path: bool) -> Json:
    by_status: dict[int, dict[str, type[PingvasError]]] = defaultdict(dict)
    for kind in (*contract.errors, *_standing(contract, method, has_path)):
        by_status[kind.status][kind.code] = kind
    return {str(status): _problem(kinds) for status, kinds in sorted(by_status.items())}


def _standing(contract: Contract, method: str, has_path: bool) -> Iterator[type[PingvasError]]:
    yield from (Invalid, TooMany, PingvasError, Unavailable)
    if contract.body or contract.consumes:
        yield from (TooSlow, TooLarge, UnsupportedMedia)
    if contract.body:
        yield Malformed
    if not contract.public:
        yield Unauthorized
    if not contract.public and (method != "get" or contract.scope != "read"):
        yield Forbidden
    if has_path:
        yield NotFound
    if contract.idempotent:
        yield from (RequestInFlight, IdempotencyMismatch)


def _problem(kinds: dict[str, type[PingvasError]]) -> Json:
    schema = {"$ref": "#/components/schemas/Problem"}
    examples = {
        code: {"summary": kind.title, "value": _example(kind)} for code, kind in sorted(kinds.items())
    }
    described = "; ".join(f"`{code}`: {kind.title}" for code, kind in sorted(kinds.items()))
    answer: Json = {
        "description": described,
        "content": {problem.MEDIA_TYPE: {"schema": schema, "examples": examples}},
    }
    if any(kind.status in (429, 503) for kind in kinds.values()):
        answer["headers"] = {"Retry-After": {"description": "Seconds", "schema": {"type": "integer"}}}
    if any(kind.status == 429 for kind in kinds.values()):
        answer["headers"] |= _LIMITS
    return answer


def _example(kind: type[PingvasError]) -> Json:
    members = {"title": kind.title, "status": kind.status, "detail": kind.title, "code": kind.code}
    return {"type": problem.type_of(kind.code), **members}
