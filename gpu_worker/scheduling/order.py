"""Who goes first inside a tier. A tier here is a list of entries in order of arrival."""

from collections.abc import Container, Hashable, Iterable, Sequence
from dataclasses import dataclass

from gpu_worker.scheduling.entry import Entry, SchedulingConfig


def by_tier(entries: Iterable[Entry]) -> dict[int, list[Entry]]:
    """Entries in order of arrival, by rank, the highest first."""
    tiers: dict[int, list[Entry]] = {}
    for entry in entries:
        tiers.setdefault(entry.rank, []).append(entry)
    return {rank: tiers[rank] for rank in sorted(tiers, reverse=True)}


@dataclass(frozen=True, slots=True)
class Line:
    """Those of a tier that may run now, the next to serve first.

    Newcomers behind `closed_behind` (an `age_order`) do not join: the tier's model is about to change.
    """

    entries: Sequence[Entry]
    closed_behind: tuple[float, int] | None = None


def line_of(tier: Sequence[Entry], ready: Container[Hashable], config: SchedulingConfig) -> Line:
    """The serving order of a tier.

    What was started is finished first: little memory stays paused and pictures come out early. An entry
    looked past too often stands among the started ones, by arrival. Of the rest only the oldest may start, as
    many as `max_active` leaves room for; started entries whose model was evicted take no room, as they cannot
    give it back.

    When an entry without its model has been looked past too often, what is started runs out and no younger
    one joins, so that models change with nobody paused between two. Once all ran out, they start again: the
    device does not idle while the model loads.
    """
    runnable = [entry for entry in tier if entry.model in ready]
    started = sum(entry.started for entry in runnable)
    slots = config.max_active - started
    first: list[Entry] = []
    newcomers: list[Entry] = []
    for entry in runnable:
        if not entry.started:
            if slots <= 0:
                continue
            slots -= 1
        owed = entry.started or entry.passed >= config.look_past
        (first if owed else newcomers).append(entry)
    missing = (e.age_order for e in tier if e.model not in ready and e.passed >= config.look_past)
    return Line(first + newcomers, next(missing, None) if started else None)


def joining(line: Line, leader: Entry, room: int, config: SchedulingConfig) -> list[Entry]:
    """Entries of one tier that share the leader's step, within `room` rows.

    Started ones first, then newcomers by arrival. An entry that does not fit, or has another key, is looked
    past: each younger newcomer taken uses up some of its patience, and none is taken when that is spent.
    """
    taken: list[Entry] = []
    for entry in line.entries:
        if entry.started and entry is not leader and entry.key == leader.key and entry.rows <= room:
            taken.append(entry)
            room -= entry.rows
    patience = len(line.entries)
    for entry in sorted((e for e in line.entries if not e.started), key=lambda e: e.age_order):
        if line.closed_behind is not None and entry.age_order > line.closed_behind:
            break
        if entry is leader:
            patience -= 1
        elif entry.key == leader.key and entry.rows <= room and patience > 0:
            taken.append(entry)
            room -= entry.rows
            patience -= 1
        else:
            patience = min(patience, config.look_past - entry.passed)
    return taken


def count_passes(tier: Sequence[Entry], batch: Container[Entry]) -> None:
    """Note on every entry left waiting how many younger ones of its tier start in this batch."""
    younger = 0
    for entry in reversed(tier):
        if entry not in batch:
            entry.passed += younger
        elif not entry.started:
            younger += 1


def models_in_order(
    tier: Sequence[Entry], ready: Container[Hashable], config: SchedulingConfig
) -> list[Hashable]:
    """The models a tier needs, the most urgent first.

    First what is started on the device, for it is finished before models change; then what has been started
    or looked past too often and misses its model; then newcomers, whose model is there before the others.
    """

    def urgency(entry: Entry) -> int:
        if entry.started and entry.model in ready:
            return 0
        if entry.started or entry.passed >= config.look_past:
            return 1
        return 2 if entry.model in ready else 3

    return list(dict.fromkeys(entry.model for entry in sorted(tier, key=urgency)))
