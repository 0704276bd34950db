"""Base classes of what goes in and out of a view."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated, Any

from pydantic import AwareDatetime, BaseModel, BeforeValidator, ConfigDict, GetCoreSchemaHandler, Strict
from pydantic_core import CoreSchema, core_schema

from pingvas import clock

_RFC3339 = core_schema.plain_serializer_function_ser_schema(clock.rfc3339, when_used="json-unless-none")
_TIME = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d")


def _rfc3339(value: object) -> object:
    # pydantic also reads seconds since 1970, which no document tells of.
    if isinstance(value, datetime) or (isinstance(value, str) and _TIME.match(value)):
        return value
    raise ValueError("a time as in RFC 3339 is needed: 2026-05-03T12:00:00Z")


Moment = Annotated[
    AwareDatetime, Strict(False), BeforeValidator(_rfc3339, json_schema_input_type=AwareDatetime)
]
"""A time that a client sends."""


def _format_times(node: Any) -> None:
    if isinstance(node, dict):
        if node.get("type") == "datetime":
            node.setdefault("serialization", _RFC3339)
        for key, value in node.items():
            if key not in ("metadata", "serialization"):
                _format_times(value)
    elif isinstance(node, list | tuple):
        for value in node:
            _format_times(value)


class Body(BaseModel):
    """A JSON object that a client sends: no coercion, no unknown fields, no NaN or infinity."""

    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False, frozen=True)


class Query(BaseModel):
    """Query parameters: text is read as the field's type, unknown parameters are refused.

    A field typed `list[…]` keeps repeated parameters; any other may come once.
    """

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, frozen=True)


class Reply(BaseModel):
    """A JSON object that goes out; times become RFC 3339 in UTC, every field is always there.

    `SomeReply.model_validate(row)` reads the attributes of a database row.
    """

    model_config = ConfigDict(
        from_attributes=True, frozen=True, json_schema_serialization_defaults_required=True
    )

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        # pydantic's own format drops the milliseconds when they are zero and keeps foreign offsets;
        # `json_encoders` would do, but is deprecated.
        schema = handler(source)
        _format_times(schema)
        return schema


@dataclass(frozen=True)
class Answer:
    """A reply with its own status or headers.

    `replay` is what a repeated `Idempotency-Key` shows instead of `reply`, for an answer whose secret
    is shown once and must not be stored.
    """

    reply: Reply | None = None
    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    replay: Reply | None = None
