"""Who goes: never the locked or pinned, enough where it is possible, and clear words where it never is."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpu_worker.memory.budgets import GIB, Budgets
from gpu_worker.memory.eviction import (
    Item,
    device_bytes,
    device_victims,
    free_up,
    host_bytes,
    host_excess,
    host_victims,
)
from gpu_worker.memory.plans import Copy, Misfit, Read, Situation, Stream, held_up, next_copy, next_read
from gpu_worker.memory.sources import Key


def key(name: str) -> Key:
    return name, "sd15", None


def item(name: str, size: int, **changes: object) -> Item:
    return replace(Item(key(name), size, on_device=True), **changes)  # type: ignore[arg-type]


NAMES = [key(letter) for letter in "abcdefgh"]
ITEMS = st.lists(
    st.builds(
        Item,
        key=st.sampled_from(NAMES),
        bytes=st.integers(1, 10),
        on_device=st.booleans(),
        on_host=st.booleans(),
        streamed=st.just(False),
        locks=st.integers(0, 2),
        pinned=st.booleans(),
        busy=st.booleans(),
        last_use=st.integers(0, 100),
    ),
    unique_by=lambda i: i.key,
)
LINES = st.lists(st.sampled_from(NAMES), unique=True)
SIZES = st.integers(0, 30)


def without(items: Sequence[Item], keys: Sequence[Key]) -> list[Item]:
    return [i for i in items if i.key not in keys]


@given(ITEMS, SIZES, SIZES, LINES, st.booleans())
def test_the_device_has_room_afterwards_and_nobody_held_has_gone(
    items: list[Item], needed: int, budget: int, line: list[Key], is_first: bool
) -> None:
    victims = device_victims(items, needed, budget, line, is_first=is_first)
    movable = [i for i in items if i.on_device and not i.held and (is_first or i.key not in line)]
    if victims is None:
        assert device_bytes(items) + needed - sum(i.bytes for i in movable) > budget
        return
    assert {*victims} <= {i.key for i in movable}
    left = without(items, victims)
    assert device_bytes(left) + needed <= budget
    for i in movable:
        if i.key in victims:  # nobody goes in vain
            assert device_bytes(left) + needed + i.bytes > budget


@given(ITEMS, SIZES, SIZES, LINES, st.booleans())
def test_the_same_on_the_host_where_spare_copies_go_first(
    items: list[Item], needed: int, budget: int, line: list[Key], is_first: bool
) -> None:
    victims = host_victims(items, needed, budget, line, is_first=is_first)
    movable = [
        i for i in items if i.on_host and (i.is_spare or (not i.held and (is_first or i.key not in line)))
    ]
    if victims is None:
        assert host_bytes(items) + needed - sum(i.bytes for i in movable) > budget
        return
    assert {*victims} <= {i.key for i in movable}
    assert host_bytes(without(items, victims)) + needed <= budget
    if any(not i.is_spare for i in items if i.key in victims):
        assert host_bytes([i for i in items if not i.is_spare]) + needed > budget


@given(ITEMS, SIZES, LINES)
def test_a_host_over_its_budget_gives_what_it_can(items: list[Item], budget: int, line: list[Key]) -> None:
    gone = host_excess(items, budget, line)
    left = without(items, gone)
    movable = [i for i in left if i.on_host and (i.is_spare or (not i.held and i.key not in line))]
    assert host_bytes(left) <= budget or not movable


@given(ITEMS, st.none() | SIZES)
def test_freeing_up_takes_only_the_free(items: list[Item], needed: int | None) -> None:
    free = {i.key: i.bytes for i in items if i.on_device and not i.held}
    gone = free_up(items, needed)
    assert {*gone} <= free.keys()
    assert sum(free[k] for k in gone) >= min(sum(free.values()), needed if needed is not None else 10**9)


def test_the_oldest_use_goes_first_and_the_wanted_last() -> None:
    items = [item("old", 4, last_use=1), item("new", 4, last_use=3), item("mid", 4, last_use=2)]
    assert device_victims(items, 4, 12, [], is_first=True) == [key("old")]
    assert device_victims(items, 4, 12, [key("old")], is_first=False) == [key("mid")]
    line = [key("x"), key("old"), key("new"), key("mid")]
    assert device_victims(items, 4, 12, line, is_first=True) == [key("mid")]
    assert device_victims(items, 4, 12, line, is_first=False) is None


def test_a_small_old_model_stays_when_a_large_one_must_go_anyway() -> None:
    items = [item("small", 1, last_use=1), item("large", 9, last_use=2)]
    assert device_victims(items, 8, 10, [], is_first=True) == [key("large")]


BUDGETS = Budgets(device=10, host=20)


def now(items: Sequence[Item], line: str, **changes: object) -> Situation:
    situation = Situation(items, [key(letter) for letter in line], BUDGETS, two_tiers=True)
    return replace(situation, **changes)  # type: ignore[arg-type]


def host_item(name: str, size: int, **changes: object) -> Item:
    return item(name, size, **{"on_device": False, "on_host": True, **changes})


def test_what_is_wanted_is_read_in_order_and_then_copied() -> None:
    assert next_read(now([], "ab")) == Read(key("a"), [])
    assert next_read(now([], "ab", skip={key("a")})) == Read(key("b"), [])
    items = [host_item("b", 4), item("x", 8)]
    assert next_copy(now(items, "ab")) == Copy(key("b"), [key("x")])


def test_only_the_first_in_line_displaces_what_is_wanted() -> None:
    items = [item("a", 6), host_item("b", 6)]
    assert next_copy(now(items, "ab")) is None
    assert next_copy(now(items, "ba")) == Copy(key("b"), [key("a")])


def test_who_was_driven_out_returns_only_as_the_first() -> None:
    items = [item("a", 2), host_item("b", 2)]
    assert next_copy(now(items, "ab", backed_off={key("b")})) is None
    assert next_copy(now(items, "ba", backed_off={key("b")})) == Copy(key("b"), [])
    one = now([], "ab", skip={key("a")}, backed_off={key("b")}, two_tiers=False)
    assert next_read(one) is None


def test_a_model_larger_than_the_device_streams_from_the_host() -> None:
    assert next_copy(now([host_item("a", 15)], "a")) == Stream(key("a"))
    assert next_copy(now([host_item("a", 15, locks=1)], "a")) is None
    assert next_copy(now([host_item("a", 2)], "a", to_stream={key("a")})) == Stream(key("a"))


@pytest.mark.parametrize("two_tiers", [True, False])
def test_a_model_that_can_never_fit(two_tiers: bool) -> None:
    budgets = Budgets(device=8 * GIB, host=16 * GIB)
    pinned = item("p", 2 * GIB, pinned=True)
    reason = "needs 30.0 GiB, the device has 8.0 GiB for models, 2.0 GiB of it pinned"
    situation = now([pinned], "a", sizes={key("a"): 30 * GIB}, budgets=budgets, two_tiers=two_tiers)
    assert next_read(situation) == Misfit(key("a"), reason)
    measured = now([pinned, host_item("a", 30 * GIB)], "a", budgets=budgets, two_tiers=two_tiers)
    assert next_copy(measured) == Misfit(key("a"), reason)


def test_a_full_host_lets_only_the_most_urgent_through() -> None:
    items = [host_item("x", 20, locks=1, streamed=True)]
    assert next_read(now(items, "ab", sizes={key("a"): 5})) == Read(key("a"), [])
    assert next_read(now(items, "ab", sizes={key("b"): 5}, skip={key("a")})) is None


def test_locks_that_hold_somebody_up_are_named() -> None:
    items = [item("a", 8, locks=1), host_item("b", 5)]
    assert held_up(now(items, "ab")) == [key("b")]
    assert held_up(now([item("a", 8), host_item("b", 5)], "ab")) == []
    assert held_up(now([item("a", 5, locks=1), host_item("b", 5)], "ab")) == []
    assert held_up(now([item("a", 8, busy=True), host_item("b", 5)], "ab")) == []


@given(ITEMS, LINES, st.sets(st.sampled_from(NAMES)), st.booleans())
def test_plans_touch_nobody_held(items: list[Item], line: list[Key], skip: set[Key], two_tiers: bool) -> None:
    situation = Situation(items, line, BUDGETS, two_tiers, dict.fromkeys(NAMES, 5), skip)
    by_key = {i.key: i for i in items}
    copy = next_copy(situation)
    if isinstance(copy, Copy):
        assert copy.key not in skip
        assert not any(by_key[k].held for k in copy.evict)
        assert not by_key[copy.key].on_device
        assert device_bytes(without(items, copy.evict)) + by_key[copy.key].bytes <= BUDGETS.device
    read = next_read(situation)
    if isinstance(read, Read):
        assert read.key not in by_key
        assert not any(by_key[k].held and not by_key[k].is_spare for k in read.evict)
