"""PostgreSQL: one engine per process, one transaction per unit of work, hooks that run after the commit.

The database is the truth: whatever must be told to the outside (a queue, a stream) is told by
`after_commit`, never from inside the transaction.
"""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cache
from typing import Any, Final, LiteralString
from uuid import UUID

import psycopg
from sqlalchemy import Connection, DateTime, Engine, Insert, MetaData, create_engine, event, exc
from sqlalchemy.orm import DeclarativeBase, Session, SessionTransaction

from pingvas import actors, settings
from pingvas.actors import Actor
from pingvas.statements import Statements, fetch

log = logging.getLogger(__name__)

CONNECT = {
    "connect_timeout": 5,
    "application_name": "pingvas",
    # A host that freezes inside a transaction must not hold a wallet against everybody else, and one that
    # vanishes must not hold a lock: the server notices that in 20 s too.
    "options": "-c lock_timeout=5s -c idle_in_transaction_session_timeout=30s"
    " -c tcp_keepalives_idle=10 -c tcp_keepalives_interval=5 -c tcp_keepalives_count=2",
    # A server that vanished is noticed in 20 s, whether or not it had acknowledged the question.
    "tcp_user_timeout": 20_000,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 2,
}

PASSING: Final = (
    exc.OperationalError,
    exc.InterfaceError,
    exc.TimeoutError,
    psycopg.OperationalError,
    psycopg.InterfaceError,
)
"""Errors that say nothing of the statement: a lost connection, a deadlock, a lock that was waited for."""

NAMING = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    "pk": "pk_%(table_name)s",
}


class Base(DeclarativeBase):
    """Base of every table; times are always `timestamptz`."""

    metadata = MetaData(naming_convention=NAMING)
    type_annotation_map = {datetime: DateTime(timezone=True)}  # noqa: RUF012 (SQLAlchemy's own protocol)


class _Session(Session):
    """A session whose transactions know who acts."""


@event.listens_for(_Session, "after_begin")
def _begun(_: Session, transaction: SessionTransaction, connection: Connection) -> None:
    if not transaction.nested:
        actors.begin(connection)


@dataclass
class _Unit:
    session: Session
    callbacks: list[Callable[[], object]] = field(default_factory=list)


_current: ContextVar[_Unit | None] = ContextVar("unit", default=None)


def sqlalchemy_url(url: str) -> str:
    """Return a PostgreSQL URL for SQLAlchemy's psycopg 3 dialect."""
    return f"postgresql+psycopg://{url.partition('://')[2]}"


def _url() -> str:
    url = settings.get().database_url
    if not url:
        raise settings.SettingsError("DATABASE_URL: not set, and no embedded server runs on this data folder")
    return url


@cache
def engine() -> Engine:
    """Return this process's engine, with a connection pool that notices dead connections."""
    config = settings.get()
    return create_engine(
        sqlalchemy_url(_url()),
        pool_size=config.database_pool_size,
        max_overflow=config.database_pool_size,
        pool_pre_ping=True,
        pool_recycle=1_800,
        connect_args=CONNECT,
    )


@contextmanager
def transaction() -> Iterator[Session]:
    """Run a unit of work: commit at the end, roll back on an error. An inner call joins the outer one."""
    outer = _current.get()
    if outer is not None:
        yield outer.session
        return
    unit = _Unit(_Session(engine(), expire_on_commit=False, autoflush=True))
    token = _current.set(unit)
    try:
        with unit.session, unit.session.begin():
            yield unit.session
    finally:
        _current.reset(token)
    for callback in unit.callbacks:
        _run(callback)


def act_for(user_id: UUID | None) -> None:
    """Let units of work of this context, the one in force included, see the rows of this user only.

    It binds a process whose database role is `pingvas_api`; None shows it no user's rows.
    """
    _act(Actor(user_id))


@contextmanager
def acting_as_operator() -> Iterator[None]:
    """Let units of work in the block, and the one in force, see and change every user's rows.

    For views of `admin`, after the role check: the transaction takes on the database role `pingvas_admin`,
    whose grants are others than the API's own. At the block's end it goes on as before.
    """
    before = actors.current.get()
    _act(replace(before, operator=True))
    try:
        yield
        unit = _current.get()
        if unit is not None:
            unit.session.flush()
    finally:
        _act(before)


def _act(actor: Actor) -> None:
    if actor == actors.current.get():
        return
    actors.current.set(actor)
    unit = _current.get()
    if unit is not None and unit.session.is_active:
        actors.switch(unit.session.connection())


def added(session: Session, statement: Insert) -> bool:
    """Insert, and tell whether there is a new row: none where there was a conflict that it lets pass.

    For roles that may not read what they write, and so cannot have it returned.
    """
    # Without being asked to, SQLAlchemy does not look how many rows an INSERT has written.
    result = session.execute(statement, execution_options={"preserve_rowcount": True})
    return bool(result.rowcount)  # type: ignore[attr-defined]


def query(sql: LiteralString, values: Mapping[str, Any]) -> Sequence[Any]:
    """Run one statement and return its rows (named tuples); `sql` takes psycopg's `%(name)s`.

    In the unit of work in force, else as a transaction of its own: then it is one round trip, at a tenth of
    the processor time of a unit of work. For the few statements that every request runs.

    Raises:
        psycopg.Error: the database refuses it or is away.
    """
    unit = _current.get()
    if unit is not None:
        unit.session.flush()
        connection: Any = unit.session.connection().connection.driver_connection
        return fetch(connection, sql, values)
    return _statements().run(sql, values)


@cache
def _statements() -> Statements:
    return Statements(_url().replace("+psycopg", "", 1), CONNECT)


def close() -> None:
    """Close what is not in use; the next unit of work connects anew, perhaps to another database."""
    if engine.cache_info().currsize:
        engine().dispose()
    if _statements.cache_info().currsize:
        _statements().close()
    engine.cache_clear()
    _statements.cache_clear()


def _run(callback: Callable[[], object]) -> None:
    """Run a hook. What was committed stands: an error here is logged and stops neither caller nor hooks."""
    try:
        callback()
    except Exception:
        log.exception("a hook after the commit failed")


def after_commit(callback: Callable[[], object]) -> None:
    """Call `callback` once the unit of work in force has committed; never if it rolls back."""
    unit = _current.get()
    if unit is None:
        _run(callback)
    else:
        unit.callbacks.append(callback)
