"""Replaying and dropping dead letters: each once, each written into the trail.

A replay is an order like the customer's own: checked, priced and held anew, so whoever cannot pay is refused
and the books need no exception. It never costs more than the first quote.
"""

import logging
from dataclasses import dataclass
from datetime import timedelta
from typing import Final
from uuid import UUID

import psycopg
from sqlalchemy import func, select, text, update
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from pingvas import audit, db
from pingvas.accounts.models import User
from pingvas.errors import Conflict, PingvasError, Unavailable
from pingvas.jobs import submit
from pingvas.jobs.dead_letters.models import DeadLetter, State
from pingvas.jobs.models import Job
from pingvas.jobs.submit import Order

log = logging.getLogger(__name__)

BEAT: Final = "beat"
BATCH: Final = 50
_ASK_AGAIN: Final = timedelta(hours=1)
_NEXT_TICK: Final = timedelta(0)  # and behind those that are due
_TOO_OLD: Final = timedelta(days=1)  # nobody waits for a picture of yesterday, or expects to pay for it

_DUE = text("""
    SELECT job_id FROM dead_letters WHERE state = 'open' AND replay_after <= clock_timestamp()
    AND created_at > clock_timestamp() - :too_old ORDER BY replay_after LIMIT :batch""")


class PriceRose(Conflict):
    """The customer agreed to less."""

    code, title = "PRICE_ROSE", "The job now costs more than was quoted"


@dataclass(frozen=True)
class Pass:
    """What one pass over the due letters did, in jobs."""

    replayed: int
    refused: int


def replay(job_id: UUID, actor: str) -> UUID | None:
    """Order a failed job again; None when its letter is not open, or somebody is at it this moment.

    Returns:
        The new job's id.

    Raises:
        PriceRose, InsufficientCredits, QueueFull, …: see `submit.submit`; the letter stays open.
    """
    with db.transaction() as session:
        letter = _take(session, job_id)
        if letter is None:
            return None
        job = session.get_one(Job, job_id)
        tier = session.get_one(User, job.user_id).tier
        accepted = submit.submit(job.user_id, tier, _order(job))
        if accepted.credits > job.credits_quoted:
            raise PriceRose(f"Job {job_id} was quoted {job.credits_quoted} and now costs {accepted.credits}.")
        again = update(Job).where(Job.id == accepted.job_id)
        session.execute(again.values(replay_of=job_id))
        letter.replayed_as, letter.refusal = accepted.job_id, None
        _close(session, letter, State.REPLAYED, actor)
    return accepted.job_id


def drop(job_id: UUID, actor: str) -> bool:
    """Close a dead letter without a replay; False when it is not open."""
    with db.transaction() as session:
        letter = _take(session, job_id)
        if letter is not None:
            _close(session, letter, State.DROPPED, actor)
    return letter is not None


def replay_due() -> Pass:
    """Replay a batch of the letters whose time has come.

    What is refused is asked again in an hour; where something was away, at the next tick.
    """
    with db.transaction() as session:
        due = list(session.execute(_DUE, {"batch": BATCH, "too_old": _TOO_OLD}).scalars())
    done = [_replay_one(job_id) for job_id in due]
    return Pass(done.count(True), done.count(False))


def _replay_one(job_id: UUID) -> bool | None:
    """Replay one letter; what is wrong with it must not keep the others waiting."""
    try:
        return replay(job_id, BEAT) is not None or None
    except db.PASSING as error:  # nothing was written, or all of it: the letter says which
        log.warning("job %s is replayed at the next tick: %s", job_id, error)
        return None
    except Unavailable as error:
        _put_off(job_id, error.detail, _NEXT_TICK)
    except PingvasError as error:
        _put_off(job_id, error.detail)
    except (SQLAlchemyError, psycopg.Error) as error:
        log.exception("job %s was not replayed", job_id)
        _put_off(job_id, type(error).__name__)
    return False


def _put_off(job_id: UUID, refusal: str, delay: timedelta = _ASK_AGAIN) -> None:
    mine = update(DeadLetter).where(DeadLetter.job_id == job_id, DeadLetter.state == State.OPEN.value)
    with db.transaction() as session:
        session.execute(mine.values(refusal=refusal, replay_after=func.clock_timestamp() + delay))


def _take(session: Session, job_id: UUID) -> DeadLetter | None:
    query = select(DeadLetter).where(DeadLetter.job_id == job_id, DeadLetter.state == State.OPEN.value)
    return session.scalars(query.with_for_update(skip_locked=True)).one_or_none()


def _close(session: Session, letter: DeadLetter, state: State, actor: str) -> None:
    after = {"state": state.value}
    if letter.replayed_as is not None:
        after["replayed_as"] = str(letter.replayed_as)
    before = {"state": letter.state, "class": letter.class_, "code": letter.code}
    letter.state, letter.replay_after = state.value, None
    letter.closed_at = func.clock_timestamp()
    action = "dead_letter.replay" if state is State.REPLAYED else "dead_letter.drop"
    audit.record(session, actor, action, f"job:{letter.job_id}", before=before, after=after)


def _order(job: Job) -> Order:
    wanted: dict[str, object] = job.parameters
    return Order(prompt=job.prompt, model=job.model, priority=job.priority, **wanted)  # type: ignore[arg-type]
