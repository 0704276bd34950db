"""Who acts is told to each transaction, and to nobody after it."""

from collections.abc import Iterator
from uuid import UUID

import pytest
from sqlalchemy import text

from pingvas import db, ids

pytestmark = pytest.mark.usefixtures("clean_db")


@pytest.fixture(autouse=True)
def nobody() -> Iterator[None]:
    yield
    db.act_for(None)


def shown() -> str:
    with db.transaction() as session:
        return str(session.scalar(text("SELECT coalesce(current_setting('pingvas.user', true), '')")))


def test_a_transaction_knows_who_acts() -> None:
    user = ids.new()
    db.act_for(user)
    assert shown() == str(user)
    db.act_for(None)
    assert shown() == ""


def test_the_pools_next_user_is_not_told_of_the_last() -> None:
    db.close()  # one connection from here on
    db.act_for(ids.new())
    shown()
    db.act_for(None)
    with db.engine().connect() as connection:
        assert not connection.scalar(text("SELECT current_setting('pingvas.user', true)"))


def test_who_signs_up_acts_in_the_transaction_under_way() -> None:
    user = ids.new()
    with db.transaction():
        assert shown() == ""
        db.act_for(user)
        assert shown() == str(user)


def test_an_operator_acts_for_the_length_of_a_block() -> None:
    user: UUID = ids.new()
    db.act_for(user)
    with db.transaction():
        with pytest.raises(LookupError), db.acting_as_operator():
            raise LookupError
        assert shown() == str(user)
