"""Routes: API keys."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID

from pydantic import ConfigDict, Field
from sqlalchemy import select
from sqlalchemy.orm import Session

from pingvas import db, ids
from pingvas.accounts import keys, notices, users
from pingvas.accounts.models import ApiKey
from pingvas.accounts.views.blueprint import bp
from pingvas.errors import SecondFactorRequired
from pingvas.web import auth
from pingvas.web.api import Answer, Body, Reply, endpoint
from pingvas.web.paging import Page, PageQuery, paginate
from pingvas.web.schema import Moment


class KeyBody(Body):
    """A new API key. Only an admin who signed in with a second factor can give it the scope `admin`."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"name": "nightly batch", "scopes": ["generate"]}]}
    )

    name: str = Field(min_length=1, max_length=100)
    scopes: list[keys.KeyScope] = Field(list(keys.DEFAULT_SCOPES), min_length=1, max_length=8)
    expires_at: Moment | None = Field(None, description="Null: it does not expire.")


class RotateBody(Body):
    """How long the old secret goes on working beside the new one."""

    grace_seconds: int = Field(0, ge=0, le=int(keys.MAX_GRACE.total_seconds()))


class KeyReply(Reply):
    """An API key, without the key. `last_used_at` is good to a minute."""

    id: UUID
    name: str
    prefix: str
    scopes: list[str]
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None


class NewKeyReply(KeyReply):
    """An API key as it is shown once. A repeated `Idempotency-Key` shows null: the key is not stored."""

    key: str | None


@bp.get("/api-keys")
@endpoint(query=PageQuery, reply=Page[KeyReply])
def list_keys(query: PageQuery) -> Answer:
    """List the API keys that work; never the keys themselves."""
    mine = select(ApiKey).where(*keys.working(auth.current().id))
    with db.transaction() as session:
        by = (ApiKey.created_at, ApiKey.id)
        return paginate(session, mine, query, by=by, item=KeyReply.model_validate)


@bp.post("/api-keys")
@endpoint(
    body=KeyBody,
    reply=NewKeyReply,
    status=201,
    errors=(SecondFactorRequired,),
    scope="account",
    idempotent=True,
)
def create_key(body: KeyBody) -> Answer:
    """Make an API key; it is shown in this answer only."""
    _check_scopes(body.scopes)
    with db.transaction() as session:
        row, key = keys.create(session, auth.current().id, body.name, body.scopes, body.expires_at)
        _tell(session, row)
    return _shown(row, key)


@bp.post("/api-keys/<key_id>/rotate")
@endpoint(body=RotateBody, reply=NewKeyReply, status=201, scope="account", idempotent=True)
def rotate_key(key_id: str, body: RotateBody) -> Answer:
    """Replace an API key by a new one of the same name, scopes and expiry."""
    with db.transaction() as session:
        old = keys.find(session, auth.current().id, ids.parse(key_id))
        _check_scopes(old.scopes)
        row, key = keys.rotate(session, old, timedelta(seconds=body.grace_seconds))
        _tell(session, row)
    return _shown(row, key)


@bp.delete("/api-keys/<key_id>")
@endpoint(status=204, scope="account")
def delete_key(key_id: str) -> None:
    """Make an API key useless."""
    with db.transaction() as session:
        keys.revoke(session, auth.current().id, ids.parse(key_id))


def _check_scopes(scopes: Sequence[str]) -> None:
    if "admin" in scopes:
        auth.check_role(auth.current(), "admin")


def _tell(session: Session, row: ApiKey) -> None:
    """Mail the owner; a name is one line there, whatever it holds."""
    told = {"name": " ".join(row.name.split()), "prefix": row.prefix, "scopes": ", ".join(row.scopes)}
    notices.tell(session, users.get(session, row.user_id), "api-key-made", **told)


def _shown(row: ApiKey, key: str) -> Answer:
    shown = KeyReply.model_validate(row).model_dump()
    return Answer(NewKeyReply(**shown, key=key), replay=NewKeyReply(**shown, key=None))
