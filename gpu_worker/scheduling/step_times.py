"""Learns how long a step takes by key and batch size, from the steps that ran."""

from collections import OrderedDict, deque
from collections.abc import Hashable
from dataclasses import dataclass, field
from itertools import combinations
from statistics import median

SAMPLES = 9
# The first steps of a size are slow (compilation, autotuning): bad news is believed only after so many.
TRUSTED = 3
# A size not run during so many steps of its key is forgotten and tried again: devices slow down and recover.
FORGET_AFTER = 500
KEYS = 256


@dataclass(slots=True)
class _Size:
    seconds: deque[float] = field(default_factory=lambda: deque(maxlen=SAMPLES))
    estimate: float = 0.0
    last: int = 0

    def record(self, seconds: float, count: int) -> None:
        self.seconds.append(seconds)
        self.estimate = median(self.seconds) if self.is_trusted else min(self.seconds)
        self.last = count

    @property
    def is_trusted(self) -> bool:
        return len(self.seconds) >= TRUSTED


@dataclass(slots=True)
class _Key:
    sizes: dict[int, _Size] = field(default_factory=dict)
    count: int = 0
    line: tuple[float, float] | None = None

    def record(self, rows: int, seconds: float) -> None:
        self.count += 1
        self.sizes = {r: s for r, s in self.sizes.items() if self.count - s.last < FORGET_AFTER}
        self.sizes.setdefault(rows, _Size()).record(seconds, self.count)
        self.line = _fit([(r, s.estimate) for r, s in self.sizes.items()])

    def predict(self, rows: int) -> float | None:
        if size := self.sizes.get(rows):
            return size.estimate
        return None if self.line is None else self.line[0] + self.line[1] * rows


class StepTimes:
    """Seconds of a step by key and computed (padded) rows: measured, else the line a + b * rows."""

    def __init__(self) -> None:
        self._keys: OrderedDict[Hashable, _Key] = OrderedDict()

    def record(self, key: Hashable, rows: int, seconds: float) -> None:
        self._keys.setdefault(key, _Key()).record(rows, seconds)
        self._keys.move_to_end(key)
        if len(self._keys) > KEYS:
            self._keys.popitem(last=False)

    def predict(self, key: Hashable, rows: int) -> float | None:
        """Seconds; None while too little is known."""
        known = self._keys.get(key)
        return None if known is None else known.predict(rows)

    def is_measured(self, key: Hashable, rows: int) -> bool:
        known = self._keys.get(key)
        return known is not None and rows in known.sizes

    def is_doubtful(self, key: Hashable, rows: int) -> bool:
        """Measured, but too seldom to believe that it is slow."""
        known = self._keys.get(key)
        size = None if known is None else known.sizes.get(rows)
        return size is not None and not size.is_trusted


def _fit(points: list[tuple[int, float]]) -> tuple[float, float] | None:
    """Theil-Sen: the median of slopes, so that one odd size does not turn the line. None below two points."""
    if len(points) < 2:
        return None
    slope = max(0.0, median((t2 - t1) / (r2 - r1) for (r1, t1), (r2, t2) in combinations(points, 2)))
    return max(0.0, median(t - slope * r for r, t in points)), slope
