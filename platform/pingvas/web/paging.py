"""Lists: keyset pages, newest first, with an opaque cursor that holds the sort key of the last row.

    @bp.get("/jobs")
    @endpoint(query=JobsQuery, reply=Page[JobReply])          # class JobsQuery(PageQuery): status: …
    def jobs(query: JobsQuery) -> Answer:
        with db.transaction() as session:
            mine = select(Job).where(…)
            return paginate(session, mine, query, by=(Job.created_at, Job.id), item=JobReply.of)

Keysets stay right while rows are inserted, and page 1000 costs what page 1 does, given an index on `by`.
"""

import base64
import hashlib
import hmac
import json
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Generic, TypeVar, TypeVarTuple
from urllib.parse import urlencode
from uuid import UUID

from flask import request
from pydantic import Field
from sqlalchemy import Select, tuple_
from sqlalchemy.orm import InstrumentedAttribute, Session

from pingvas import secret_keys
from pingvas.errors import Invalid
from pingvas.web.parsing import problem
from pingvas.web.schema import Answer, Query, Reply

R = TypeVar("R", bound=Reply)
Columns = TypeVarTuple("Columns")
By = Sequence[InstrumentedAttribute[Any]]
_MAC_BYTES = 8


class PageQuery(Query):
    """Query of a list; extend it with filters."""

    limit: int = Field(20, ge=1, le=100, description="Most items to return.")
    cursor: str | None = Field(None, max_length=1_024, description="`next_cursor` of the page before.")


class Page(Reply, Generic[R]):
    """One page of a list; `next_cursor` is null on the last one."""

    items: list[R]
    next_cursor: str | None


def paginate(
    session: Session,
    statement: Select[Any],
    query: PageQuery,
    *,
    by: By,
    item: Callable[[Any], R],
    ascending: bool = False,
) -> Answer:
    """Return the page of `statement` (of one entity) that `query` asks for, ordered by the columns `by`.

    `by` must be unique together and not null. `item` makes a reply of a row.

    Raises:
        Invalid: the cursor is not one that this list gave out.
    """
    rows = session.scalars(seek(statement, query, by=by, ascending=ascending)).all()
    return page(rows, query, by=by, item=item)


def narrow(statement: Select[*Columns], wanted: Mapping[InstrumentedAttribute[Any], Any]) -> Select[*Columns]:
    """Return `statement` with only the rows whose columns have the wanted values; None: any."""
    return statement.where(*(column == value for column, value in wanted.items() if value is not None))


def seek(
    statement: Select[*Columns], query: PageQuery, *, by: By, ascending: bool = False
) -> Select[*Columns]:
    """Return `statement` ordered, starting after the cursor, and one row longer than the page.

    Raises:
        Invalid: the cursor is not one that this list gave out.
    """
    if query.cursor is not None:
        key = _decode(query.cursor, len(by))
        statement = statement.where(tuple_(*by) > key if ascending else tuple_(*by) < key)
    order = [column.asc() if ascending else column.desc() for column in by]
    return statement.order_by(*order).limit(query.limit + 1)


def page(rows: Sequence[Any], query: PageQuery, *, by: By, item: Callable[[Any], R]) -> Answer:
    """Return the answer for rows that `seek` found; each row has the attributes that `by` names."""
    shown = rows[: query.limit]
    cursor = _encode([getattr(shown[-1], column.key) for column in by]) if len(rows) > len(shown) else None
    reply = Page[Any](items=[item(row) for row in shown], next_cursor=cursor)
    return Answer(reply, headers={"Link": _next_link(cursor)} if cursor else {})


def _next_link(cursor: str) -> str:
    parameters = [pair for pair in request.args.items(multi=True) if pair[0] != "cursor"]
    return f'<{request.path}?{urlencode([*parameters, ("cursor", cursor)])}>; rel="next"'


def _encode(key: list[Any]) -> str:
    text = json.dumps([_tag(value) for value in key], separators=(",", ":")).encode()
    return _spell(_mac(text) + text)


def _decode(cursor: str, length: int) -> tuple[Any, ...]:
    wrong = Invalid("The cursor is not one of this list", errors=[problem(("cursor",), "unknown", "cursor")])
    try:
        raw = base64.urlsafe_b64decode(cursor.encode("ascii") + b"=" * (-len(cursor) % 4))
    except ValueError:
        raise wrong from None
    mac, text = raw[:_MAC_BYTES], raw[_MAC_BYTES:]
    # Base64 has several spellings of the same bytes; only ours is taken.
    if _spell(raw) != cursor or not hmac.compare_digest(mac, _mac(text)):
        raise wrong
    key = tuple(_TYPES[tag](value) for tag, value in json.loads(text))
    if len(key) != length:
        raise wrong
    return key


def _spell(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _mac(text: bytes) -> bytes:
    # Bound to the list, so that a cursor of another one is refused instead of compared with other columns.
    return hmac.digest(f"cursor {request.path} {secret_keys.current()}".encode(), text, hashlib.sha256)[
        :_MAC_BYTES
    ]


_TYPES: dict[str, Callable[[Any], Any]] = {"t": datetime.fromisoformat, "u": UUID, "v": lambda value: value}


def _tag(value: Any) -> tuple[str, Any]:
    if isinstance(value, datetime):
        return "t", value.isoformat()
    return ("u", str(value)) if isinstance(value, UUID) else ("v", value)
