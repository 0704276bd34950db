"""Read what a client sent into pydantic models; whatever is wrong with it becomes a 4xx, never a 500."""

import json
import types
from collections.abc import Iterable
from typing import Any, TypeVar, Union, get_args, get_origin

from flask import Request
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from pingvas.errors import Invalid, Malformed, NotFound, TooLarge, UnsupportedMedia
from pingvas.web.schema import Body, Query

B = TypeVar("B", bound=Body)
Q = TypeVar("Q", bound=Query)

_TOO_DEEP = "The JSON is nested too deep"
MAX_ERRORS = 50  # of a megabyte of unknown fields, fifty say enough


def body(request: Request, model: type[B]) -> B:
    """Read the JSON body.

    Raises:
        TooLarge: larger than is allowed.
        Malformed: not UTF-8, not JSON, NaN, a name twice, nested too deep, or empty.
        UnsupportedMedia: another content type than `application/json`.
        Invalid: not an object, or the model refuses it.
    """
    data = raw(request)
    if not data.strip():
        if any(field.is_required() for field in model.model_fields.values()):
            raise Malformed("A JSON body is required")
        return model()
    if not request.is_json:
        raise UnsupportedMedia
    document = _json(data)
    if not isinstance(document, dict):
        raise Invalid(
            "The body must be a JSON object", errors=[problem((), "a JSON object is expected", "type")]
        )
    if b"\\u" in data:
        try:
            _check_text(document)
        except RecursionError:  # newer Pythons parse deeper than they recurse
            raise Malformed(_TOO_DEEP) from None
    try:
        return model.model_validate_json(data)
    except ValidationError as error:
        raise invalid(error) from None


def raw(request: Request) -> bytes:
    """Return the body's bytes, which can be asked for again.

    Raises:
        TooLarge: there are more than is allowed.
    """
    data = request.get_data(cache=True)
    limit = request.max_content_length
    # Of a chunked body, werkzeug hands out as much as is allowed and does not say that there was more.
    if request.content_length is None and limit is not None and len(data) >= limit:
        raise TooLarge
    return data


def query(request: Request, model: type[Q]) -> Q:
    """Read the query parameters.

    Raises:
        Invalid: the model refuses them, or a single-valued one came twice.
    """
    lists = list_fields(model)
    values: dict[str, Any] = {}
    for name, given in request.args.lists():
        if any("\0" in text for text in (name, *given)):
            raise Invalid(errors=[problem((name,), "NUL is not allowed", "text")])
        if name in lists:
            values[name] = given
        elif len(given) > 1:
            raise Invalid(errors=[problem((name,), "may be given once", "repeated")])
        else:
            values[name] = given[0]
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise invalid(error) from None


def path(values: dict[str, Any]) -> dict[str, Any]:
    """Return the path parameters.

    Raises:
        NotFound: one holds a NUL, which no name in the database can.
    """
    if any(isinstance(value, str) and "\0" in value for value in values.values()):
        raise NotFound
    return values


def invalid(error: ValidationError) -> Invalid:
    """Return the 422 that tells what is wrong where, without the input itself (it may be a password)."""
    details = error.errors(include_url=False, include_context=False, include_input=False)
    return Invalid(errors=[problem(it["loc"], _message(it), it["type"]) for it in details[:MAX_ERRORS]])


def _message(detail: ErrorDetails) -> str:
    # Of a secret, pydantic counts "items".
    text = detail["msg"]
    return text.replace(" items after validation", " characters") if text.startswith("Value ") else text


def problem(loc: Iterable[int | str], msg: str, kind: str) -> dict[str, Any]:
    """Return one entry of a problem's `errors`."""
    return {"loc": list(loc), "msg": msg, "type": kind}


def list_fields(model: type[BaseModel]) -> frozenset[str]:
    """Return the names of the fields that hold several values."""
    return frozenset(name for name, field in model.model_fields.items() if _is_list(field.annotation))


def _is_list(annotation: Any) -> bool:
    origin = get_origin(annotation) or annotation
    if origin in (Union, types.UnionType):
        return any(_is_list(part) for part in get_args(annotation))
    return origin in (list, tuple, set, frozenset)


def _json(raw: bytes) -> Any:
    try:
        return json.loads(raw.decode(), parse_constant=_no_constant, object_pairs_hook=_unique)
    except RecursionError:
        raise Malformed(_TOO_DEEP) from None
    except ValueError as error:  # UnicodeDecodeError and JSONDecodeError are such
        raise Malformed(f"The body is not JSON: {error}") from None


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON number")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    # Parsers disagree on which of two equal names wins; what was checked must be what is used.
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name occurs twice in one object")
    return found


def _check_text(node: Any, loc: tuple[int | str, ...] = ()) -> None:
    if isinstance(node, str):
        if "\0" in node or any("\ud800" <= character <= "\udfff" for character in node):
            raise Invalid(errors=[problem(loc, "NUL and lone surrogates are not allowed", "text")])
    elif isinstance(node, dict):
        for name, value in node.items():
            _check_text(name, loc)
            _check_text(value, (*loc, name))
    elif isinstance(node, list):
        for index, value in enumerate(node):
            _check_text(value, (*loc, index))
