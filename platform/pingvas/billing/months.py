"""Months of an account, counted from an anchor; from the 31st, to the last day of shorter ones. Pure."""

import calendar
from datetime import UTC, datetime
from typing import NamedTuple


class Month(NamedTuple):
    """From `start` up to, and without, `end`."""

    start: datetime
    end: datetime


def month(anchor: datetime, now: datetime) -> Month:
    """Return the month that `now` is in. Before the anchor that is the first one.

    In UTC; the same as the statement of `resets.run` computes.
    """
    anchor, now = anchor.astimezone(UTC), now.astimezone(UTC)
    number = max(0, (now.year - anchor.year) * 12 + now.month - anchor.month)
    if number and add(anchor, number) > now:
        number -= 1
    return Month(add(anchor, number), add(anchor, number + 1))


def add(anchor: datetime, number: int) -> datetime:
    """Return the same time `number` months later, on the anchor's day or the month's last."""
    years, index = divmod(anchor.month - 1 + number, 12)
    year = anchor.year + years
    last = calendar.monthrange(year, index + 1)[1]
    return anchor.replace(year=year, month=index + 1, day=min(anchor.day, last))


def anchored(created_at: datetime, day: int | None) -> datetime:
    """Return the anchor of what was begun at `created_at` and is billed on a day of the month (1 to 31).

    It is the last such day up to then, in a month that has it.
    """
    created_at = created_at.astimezone(UTC)
    if day is None or day == created_at.day:
        return created_at
    # January has all days, so the day is not lost; months before the first bill are nobody's.
    return created_at.replace(month=1, day=day)
