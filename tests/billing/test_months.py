"""Months from an anchor, against the plainest way to count them."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pingvas.billing import months

moments = st.datetimes(datetime(2024, 1, 1), datetime(2032, 1, 1), timezones=st.just(UTC))


@given(anchor=moments, now=moments)
def test_now_is_in_its_month(anchor: datetime, now: datetime) -> None:
    start, end = months.month(anchor, now)
    assert now < end
    assert start <= now or start == anchor
    assert timedelta(days=28) <= end - start <= timedelta(days=31)
    assert months.month(anchor, end).start == end


@pytest.mark.parametrize(
    ("now", "end"),
    [
        ("2026-02-27", "2026-02-28"),
        ("2026-02-28", "2026-03-31"),
        ("2026-03-30", "2026-03-31"),
        ("2026-04-29", "2026-04-30"),
        ("2028-02-28", "2028-02-29"),
    ],
)
def test_the_31st_is_the_last_day_of_shorter_months_and_comes_back(now: str, end: str) -> None:
    anchor = datetime(2026, 1, 31, tzinfo=UTC)
    month = months.month(anchor, datetime.fromisoformat(now).replace(tzinfo=UTC))
    assert month.end == datetime.fromisoformat(end).replace(tzinfo=UTC)


def test_a_billing_day_is_kept_though_the_month_of_the_start_lacks_it() -> None:
    anchor = months.anchored(datetime(2026, 2, 28, 9, tzinfo=UTC), 31)
    now = datetime(2026, 2, 28, 10, tzinfo=UTC)
    assert months.month(anchor, now).end == datetime(2026, 3, 31, 9, tzinfo=UTC)
