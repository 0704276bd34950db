"""The simulated day as tables and as a picture."""

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from gpu_worker.bench.tables import percentile, show
from pingvas.billing.plans import Tier
from tasks.bench.simulation import BIN, BURSTS, DAY, Fleet, Seen, simulate

FLEETS = (Fleet(100, 1_000_000), Fleet(10_000, 1_000_000))

_WIDTH, _HEIGHT, _LEFT, _TOP = 720, 300, 60, 30
_HIGHEST = 9_000.0  # seconds at the top of the picture
_COLOURS = dict(zip(Tier, ("#6a3d9a", "#1f78b4", "#33a02c", "#ff7f00", "#e31a1c"), strict=True))


def report(plot: Path | None) -> None:
    """Simulate the fleets and print what their jobs waited; draw the last one to `plot`."""
    for fleet in FLEETS:
        seen = simulate(fleet)
        title = (
            f"{fleet.workers:,} workers, {fleet.jobs:,} jobs a day of {fleet.job_seconds:.3g} s in the mean, "
            f"load {fleet.load:.0%}: seconds waited"
        )
        columns = ("tier", "jobs", "p50", "p90", "p99", "max", "fewest starts in 10 min of a burst")
        show(title, columns, (_row(tier, of_tier) for tier, of_tier in seen.items()))
    if plot:
        plot.write_text(picture(seen))


def _row(tier: Tier, seen: Seen) -> tuple[str | int | float, ...]:
    shares = (0.5, 0.9, 0.99, 1.0)
    waits = (round(percentile(seen.waits, share), 1) for share in shares)
    return tier.value, len(seen.waits), *waits, _fewest(seen)


def _fewest(seen: Seen) -> str:
    """The fewest starts in ten minutes of a burst, all of which had waited: the tier was backlogged."""
    starts: defaultdict[int, list[float]] = defaultdict(list)
    for at, wait in zip(seen.started, seen.waits, strict=True):
        starts[int(at / BIN)].append(wait)
    busy = [
        len(starts[number])
        for number in range(int(DAY / BIN))
        if any(3_600 * begin <= number * BIN < 3_600 * end for begin, end in BURSTS)
        and min(starts[number], default=BIN) > 0
    ]
    return str(min(busy)) if busy else "never all waited"


def picture(seen: dict[Tier, Seen]) -> str:
    """The median wait of what starts in each ten minutes, a line a tier; the bursts are grey. SVG."""
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH + 40} {_HEIGHT + 80}" '
        'font-family="sans-serif" font-size="12">',
        f'<rect width="{_WIDTH + 40}" height="{_HEIGHT + 80}" fill="#fff"/>',
        f'<text x="{_LEFT}" y="18">Median wait of the jobs that start, minutes; arrivals come three times as '
        "fast in the grey hours</text>",
        *_frame(),
        *(_line(tier, of_tier, place) for place, (tier, of_tier) in enumerate(seen.items())),
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


def _frame() -> Iterator[str]:
    for begin, end in BURSTS:
        left, right = _x(begin * 3_600), _x(end * 3_600)
        yield (
            f'<rect x="{left:.0f}" y="{_TOP}" width="{right - left:.0f}" height="{_HEIGHT}" fill="#e8e8e8"/>'
        )
    for hour in range(0, 25, 3):
        x, y = _x(hour * 3_600), _TOP + _HEIGHT + 16
        yield f'<text x="{x:.0f}" y="{y}" text-anchor="middle">{hour} h</text>'
    for minutes in range(0, 151, 30):
        level = _y(minutes * 60)
        yield f'<path d="M{_LEFT} {level:.0f}H{_WIDTH}" stroke="#ccc"/>'
        yield f'<text x="{_LEFT - 8}" y="{level + 4:.0f}" text-anchor="end">{minutes}</text>'


def _line(tier: Tier, seen: Seen, place: int) -> str:
    waits: defaultdict[int, list[float]] = defaultdict(list)
    for at, wait in zip(seen.started, seen.waits, strict=True):
        waits[int(at / BIN)].append(wait)
    points = " ".join(
        f"{_x((number + 0.5) * BIN):.0f},{_y(percentile(waits[number], 0.5)):.0f}"
        for number in sorted(waits)
        if number * BIN < DAY
    )
    y = _TOP + _HEIGHT + 40
    label = f'<text x="{_LEFT + 120 * place}" y="{y}" fill="{_COLOURS[tier]}">{tier.value}</text>'
    return f'<polyline points="{points}" fill="none" stroke="{_COLOURS[tier]}" stroke-width="2"/>{label}'


def _x(seconds: float) -> float:
    return _LEFT + (_WIDTH - _LEFT) * seconds / DAY


def _y(seconds: float) -> float:
    return _TOP + _HEIGHT * (1 - min(seconds, _HIGHEST) / _HIGHEST)
