"""The plan of a seed: the same each time, and nothing is left out."""

from pingvas import faults
from tests.chaos import plan
from tests.chaos.plan import Kind

EVERY_FAULT = len(Kind) - 1 + len(faults.POINTS)


def test_a_seed_has_one_plan() -> None:
    assert plan.make(7, 2, 100, 20) == plan.make(7, 2, 100, 20)
    assert plan.make(7, 2, 100, 20) != plan.make(8, 2, 100, 20)


def test_every_fault_happens_before_one_happens_again() -> None:
    chosen = plan.make(7, 2, 100, EVERY_FAULT).faults
    assert {fault.kind for fault in chosen} == set(Kind)
    assert {fault.point for fault in chosen} == {*faults.POINTS, ""}


def test_every_order_is_sent_once_and_some_after_the_last_fault() -> None:
    chosen = plan.make(7, 2, 100, 9)
    slices = chosen.slices()
    assert len(slices) == 10
    assert all(slices)
    assert tuple(order for part in slices for order in part) == chosen.orders
