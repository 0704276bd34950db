"""Who goes first inside a tier. A tier here is a list of entries in order of arrival."""

from collections.abc import Container, Hashable, Iterable, Sequence

from gpu_worker.scheduling.entry import Entry, SchedulingConfig


def by_tier(entries: Iterable[Entry]) -> dict[int, list[Entry]]:
    """Entries in order of arrival, by rank, the highest first."""
    tiers: dict[int, list[Entry]] = {}
    for entry in entries:
        tiers.setdefault(entry.rank, []).append(entry)
    return {rank: tiers[rank] for rank in sorted(tiers, reverse=True)}


def serving_order(tier: Sequence[Entry], ready: Container[Hashable], config: SchedulingConfig) -> list[Entry]:
    """Those of a tier that may run now, the next to serve first.

    What was started is finished first: little memory stays paused and pictures come out early. An entry
    looked past too often stands among the started ones, by arrival. Of the rest only the oldest may start, as
    many as `max_active` leaves room for; started entries whose model was evicted take no room, as they cannot
    give it back.
    """
    runnable = [entry for entry in tier if entry.model in ready]
    slots = config.max_active - sum(entry.started for entry in runnable)
    first: list[Entry] = []
    newcomers: list[Entry] = []
    for entry in runnable:
        if not entry.started:
            if slots <= 0:
                continue
            slots -= 1
        owed = entry.started or entry.passed >= config.look_past
        (first if owed else newcomers).append(entry)
    return first + newcomers


def joining(line: Sequence[Entry], leader: Entry, room: int, config: SchedulingConfig) -> list[Entry]:
    """Entries of one tier's serving order that share the leader's step, within `room` rows.

    Started ones first, then newcomers by arrival. An entry that does not fit, or has another key, is looked
    past: each younger newcomer taken uses up some of its patience, and none is taken when that is spent.
    """
    taken: list[Entry] = []
    for entry in line:
        if entry.started and entry is not leader and entry.key == leader.key and entry.rows <= room:
            taken.append(entry)
            room -= entry.rows
    patience = len(line)
    for entry in sorted((e for e in line if not e.started), key=lambda e: e.age_order):
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

    Like `serving_order`, but over what is not loaded too; newcomers on loaded models come before the others,
    so that models change only for work that was started or looked past often enough.
    """

    def urgency(entry: Entry) -> int:
        if entry.started or entry.passed >= config.look_past:
            return 0
        return 1 if entry.model in ready else 2

    return list(dict.fromkeys(entry.model for entry in sorted(tier, key=urgency)))
