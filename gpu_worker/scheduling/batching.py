"""How large a step may be, and which requests fill it."""

from collections.abc import Mapping

from gpu_worker.scheduling.entry import Batch, Entry, SchedulingConfig
from gpu_worker.scheduling.order import Line, joining
from gpu_worker.scheduling.step_times import StepTimes


def capacity(leader: Entry, row_limit: int, budget: float, config: SchedulingConfig, times: StepTimes) -> int:
    """Rows a step led by `leader` may have: what fits memory and keeps within `budget` seconds.

    A step of the leader alone is always allowed, and so is its padding. One size beyond the measured ones is
    tried at a time, so that an unlucky try lasts about twice the budget and not ten times.
    """
    own = config.padded(leader.rows)
    if own > row_limit:
        return leader.rows
    limit = max(budget, times.predict(leader.key, own) or 0.0)
    rows = own
    for size in config.sizes(above=own, up_to=row_limit):
        seconds = times.predict(leader.key, size)
        too_long = seconds is not None and seconds > limit
        if too_long and not times.is_doubtful(leader.key, size):
            break
        rows = size
        if too_long or not times.is_measured(leader.key, size):
            break
    return rows


def form(
    leader: Entry,
    lines: Mapping[int, Line],
    rows: int,
    config: SchedulingConfig,
    times: StepTimes,
) -> Batch:
    """Fill the leader's step up to `rows` from the tiers' lines (the highest rank first).

    The leader's tier and those above share all of it; lower ones only what hardly lengthens the step.
    """
    members = [leader]
    used = leader.rows
    for rank, line in lines.items():
        if rank < leader.rank:
            rows = _rows_for_riders(leader, used, rows, config, times)
        joined = joining(line, leader, rows - used, config)
        members += joined
        used += sum(entry.rows for entry in joined)
    members = _without_padding(members, config, times)
    used = sum(entry.rows for entry in members)
    return Batch(leader.key, tuple(members), used, config.padded(used), aged=leader.rank < next(iter(lines)))


def _rows_for_riders(leader: Entry, used: int, rows: int, config: SchedulingConfig, times: StepTimes) -> int:
    """Padding is free; beyond it the step may become `rider_slack` times as long, as far as is known."""
    own = config.padded(used)
    seconds = times.predict(leader.key, own)
    if own > rows or seconds is None:
        return min(own, rows)
    best = own
    for size in config.sizes(above=own, up_to=rows):
        longer = times.predict(leader.key, size)
        if longer is None or longer > config.rider_slack * seconds:
            break
        best = size
    return best


def _without_padding(members: list[Entry], config: SchedulingConfig, times: StepTimes) -> list[Entry]:
    """Leave out the last entries when two full steps take no longer than one padded step: all gain."""
    used = sum(entry.rows for entry in members)
    if config.padded(used) == used:
        return members
    kept, rows = list(members), used
    full = max((size for size in config.buckets if size < used), default=0)
    while rows > full and len(kept) > 1 and kept[-1].rank <= config.trim_rank:
        rows -= kept.pop().rows
    if rows == used or rows > full:
        return members
    key = members[0].key
    whole, part, rest = (times.predict(key, config.padded(r)) for r in (used, rows, used - rows))
    if whole is None or part is None or rest is None or part + rest > whole:
        return members
    return kept
