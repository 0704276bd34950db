"""Prices are pure arithmetic."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pingvas.jobs.quote import MINIMUM_CREDITS, cost, quote


@pytest.mark.parametrize(
    ("steps", "side", "images", "factor", "credits"),
    [
        (12, 128, 1, 1.0, 10),  # 0.375 s of work: the minimum
        (30, 512, 1, 1.0, 15),
        (30, 1024, 1, 1.5, 90),
        (28, 1024, 1, 2.0, 112),
        (30, 512, 4, 1.0, 60),
        (21, 512, 1, 1.0, 11),  # 10.5 rounds up
    ],
)
def test_price_list(steps: int, side: int, images: int, factor: float, credits: int) -> None:
    priced = quote(steps=steps, width=side, height=side, num_images=images, price_factor=factor)
    assert priced.credits == credits


@given(
    steps=st.integers(1, 150),
    side=st.integers(8, 512).map(lambda n: 8 * n),
    images=st.integers(1, 8),
    factor=st.floats(0.1, 10),
)
def test_more_work_never_costs_less(steps: int, side: int, images: int, factor: float) -> None:
    less = quote(steps=steps, width=side, height=side, num_images=images, price_factor=factor)
    more = quote(steps=steps + 1, width=side, height=side, num_images=images, price_factor=factor)
    assert MINIMUM_CREDITS <= less.credits <= more.credits


@pytest.mark.parametrize(("seconds", "credits"), [(0.0, 1), (0.2, 1), (1.0, 1), (1.001, 2), (7.9, 8)])
def test_every_started_gpu_second_counts(seconds: float, credits: int) -> None:
    assert cost(seconds) == credits


def test_what_was_measured_replaces_the_formula_and_binds_with_a_margin() -> None:
    priced = quote(steps=20, width=1_000, height=1_000, num_images=2, price_factor=9.0, rate=0.5)
    assert (priced.gpu_seconds, priced.credits) == (20.0, 30)
    least = quote(steps=20, width=1_000, height=1_000, num_images=2, price_factor=9.0, rate=0.01)
    assert (least.gpu_seconds, least.credits) == (0.4, MINIMUM_CREDITS)
