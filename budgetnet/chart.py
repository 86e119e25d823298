"""A learning curve drawn with braille signs: axes, labels, and an axis of accuracy that is marked as logarithmic."""

from __future__ import annotations

from collections.abc import Sequence
from math import log10

# Accuracies in percent that an axis may be marked with: an error halved, more or less, from one to the next.
MARKS = (0.0, 50.0, 80.0, 90.0, 95.0, 98.0, 99.0, 99.5, 99.8, 99.9, 99.95, 99.98, 99.99)
DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))  # bits of a braille sign, by row and column
BLANK = 0x2800
AXIS = "  epoch"
LEAST = 24  # columns of a chart
MOST = 100  # columns of a chart: a wider one tells no more


def chart(curve: Sequence[float], epochs: int, width: int = 80, height: int = 10) -> list[str]:
    """Lines that show accuracies (fractions), an epoch each from 1, on an axis of ``epochs`` epochs.

    The vertical axis is the logarithm of the error, so that 99 to 99.5 % is as far as 98 to 99 %. A sign is two dots
    wide and four high; epochs are joined by straight lines. Raises ValueError for no epoch, or less room than 24 x 4.
    """
    if not curve or len(curve) > epochs:
        raise ValueError(f"a chart needs 1 to {epochs} epochs, but got {len(curve)}")
    if width < LEAST or height < 4:
        raise ValueError(f"a chart needs at least {LEAST} x 4 signs, but got {width} x {height}")
    low, high = _ends(curve)
    labels = {_row(mark / 100, low, high, height) // 4: f"{mark:g}" for mark in _marks(low, high, height)}
    margin = max(map(len, labels.values()))
    columns = min(width, MOST) - margin - 2 - len(AXIS)
    points = [(_column(n, epochs, columns), _row(value, low, high, height)) for n, value in enumerate(curve, 1)]
    rows = _signs(points, columns, height)
    lines = [f"{labels.get(n, ''):>{margin}} {'┤' if n in labels else '│'}{row}".rstrip() for n, row in enumerate(rows)]
    return [*lines, f"{'':{margin}} └{'─' * columns}", f"{'':{margin}}  {_below(epochs, columns)}"]


def _level(accuracy: float) -> float:
    """Height on the axis: decades of error below 100 %."""
    return -log10(max(1 - accuracy, 1 - MARKS[-1] / 100))


def _ends(curve: Sequence[float]) -> tuple[float, float]:
    """The marks next below and above the curve, as fractions; a curve at a mark touches the end."""
    low = max(mark for mark in MARKS if mark <= 100 * min(curve) + 1e-9 and mark < MARKS[-1])
    high = min((mark for mark in MARKS if mark >= 100 * max(curve) - 1e-9 and mark > low), default=MARKS[-1])
    return low / 100, high / 100


def _marks(low: float, high: float, height: int) -> list[float]:
    """The marks that get a line of their own, from the top; the ends always do."""
    inside = [mark for mark in reversed(MARKS) if low < mark / 100 < high]
    kept, bottom = [100 * high], height - 1
    for mark in inside:
        line = _row(mark / 100, low, high, height) // 4
        if line > _row(kept[-1] / 100, low, high, height) // 4 and line < bottom:
            kept.append(mark)
    return [*kept, 100 * low]


def _row(accuracy: float, low: float, high: float, height: int) -> int:
    """Row of dots, counted from the top."""
    share = (_level(high) - _level(accuracy)) / (_level(high) - _level(low))
    return round(share * (4 * height - 1))


def _column(epoch: int, epochs: int, columns: int) -> int:
    """Column of dots, counted from the left: the first epoch at the left end, the last at the right one."""
    return round((epoch - 1) / max(epochs - 1, 1) * (2 * columns - 1))


def _signs(points: Sequence[tuple[int, int]], columns: int, height: int) -> list[str]:
    """Lines of braille signs with all dots between one point and the next."""
    cells = [[BLANK] * columns for _ in range(height)]
    for (x, y), (to_x, to_y) in zip(points, [*points[1:], points[-1]], strict=True):
        steps = max(abs(to_x - x), abs(to_y - y), 1)
        for step in range(steps + 1):
            column, row = round(x + step * (to_x - x) / steps), round(y + step * (to_y - y) / steps)
            cells[row // 4][column // 2] |= DOTS[row % 4][column % 2]
    return ["".join(map(chr, row)).replace(chr(BLANK), " ") for row in cells]


def _below(epochs: int, columns: int) -> str:
    """Numbers of epochs, each under its column where there is room: the first and the last always."""
    steps = (n * base for base in (1, 10, 100, 1000, 10_000) for n in (1, 2, 5))
    step = next(step for step in steps if epochs / step <= columns / 8)
    line = [" "] * columns
    taken = columns
    for epoch in [epochs, *range(step * ((epochs - 1) // step), 0, -step), 1]:
        text = str(epoch)
        start = min(max(_column(epoch, epochs, columns) // 2 - (len(text) - 1) // 2, 0), columns - len(text))
        if start + len(text) < taken or taken == columns:
            line[start : start + len(text)] = text
            taken = start
    return "".join(line) + AXIS
