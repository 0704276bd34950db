"""Results as Markdown tables, so that they can be pasted into the docs as they are printed."""

from collections.abc import Iterable, Sequence
from statistics import median

Cell = str | int | float


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[Cell]]) -> str:
    """Columns as wide as their widest cell; numbers to three significant digits."""
    lines = [list(columns), *([_text(cell) for cell in row] for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(columns))]
    body = ["| " + " | ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)) + " |" for line in lines]
    body.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join([f"**{title}**", "", *body, ""])


def show(title: str, columns: Sequence[str], rows: Iterable[Sequence[Cell]]) -> str:
    """Print a table, and return it."""
    text = table(title, columns, rows)
    print(text, flush=True)
    return text


def spread(values: Sequence[float], unit: str = "") -> str:
    """The median and, where there are more, the smallest and the largest."""
    middle = _text(median(values)) + unit
    if len(values) < 2:
        return middle
    return f"{middle} ({_text(min(values))} to {_text(max(values))})"


def percentile(values: Sequence[float], share: float) -> float:
    """The value that `share` (0..1) of the values do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def _text(cell: Cell) -> str:
    if isinstance(cell, float):
        return f"{cell:.0f}" if abs(cell) >= 100 else f"{cell:.3g}"
    return str(cell)
