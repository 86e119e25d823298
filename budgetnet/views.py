"""What each cell along one axis of a layer's output sees of the layer's input."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

Interval = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Slide:
    """A window of ``kernel`` taps that moves by ``stride``; ``before`` cells of padding precede the first input."""

    kernel: int
    stride: int
    before: int
    dilation: int
    outputs: int

    def taps(self, index: int) -> range:
        """Input indices under the window at output ``index``; those outside the map are padding."""
        first = index * self.stride - self.before
        return range(first, first + self.dilation * (self.kernel - 1) + 1, self.dilation)

    def cells(self, index: int, size: int) -> Sequence[int]:
        """Cells of a map of ``size`` that output ``index`` sees."""
        return [tap for tap in self.taps(index) if 0 <= tap < size]


@dataclass(frozen=True, slots=True)
class Folded(Slide):
    """A window whose padding shows cells of the map; ``mode`` is torch's "reflect", "replicate" or "circular"."""

    mode: str = "reflect"

    def cells(self, index: int, size: int) -> Sequence[int]:
        """Cells that the taps see, directly or in the padding."""
        return [self._source(tap, size) for tap in self.taps(index)]

    def _source(self, tap: int, size: int) -> int:
        if self.mode == "circular":
            return tap % size
        if self.mode == "replicate":
            return min(max(tap, 0), size - 1)
        return size - 1 - abs(size - 1 - abs(tap))


@dataclass(frozen=True, slots=True)
class Adaptive:
    """Adaptive pooling to ``outputs`` cells: torch's bins, ``floor(i·n/o)`` to ``ceil((i+1)·n/o) - 1``."""

    outputs: int

    def cells(self, index: int, size: int) -> Sequence[int]:
        """Cells of a map of ``size`` that output ``index`` sees."""
        return range(index * size // self.outputs, -(-(index + 1) * size // self.outputs))


@dataclass(frozen=True, slots=True)
class Whole:
    """Each of ``outputs`` cells sees all cells: attention, or the statistics of a normalisation."""

    outputs: int

    def cells(self, index: int, size: int) -> Sequence[int]:
        """Cells of a map of ``size`` that output ``index`` sees."""
        return range(size)


@dataclass(frozen=True, slots=True)
class Listed:
    """``taps[i]``: the cells that output ``i`` sees, in no regular order: a resize, a window of attention, a roll."""

    taps: tuple[tuple[int, ...], ...]

    @property
    def outputs(self) -> int:
        return len(self.taps)

    def cells(self, index: int, size: int) -> Sequence[int]:
        """Cells of a map of ``size`` that output ``index`` sees."""
        return self.taps[index]


def view_of(taps: Sequence[Sequence[int]]) -> View:
    """The view that shows these cells: a Slide where each output sees one cell, in regular steps forward."""
    first = taps[0][0] if taps and taps[0] else 0
    step = taps[1][0] - first if len(taps) > 1 and taps[1] else 1
    if step > 0 and all(tuple(cells) == (first + index * step,) for index, cells in enumerate(taps)):
        return Slide(1, step, -first, 1, len(taps))
    return Listed(tuple(map(tuple, taps)))


View = Slide | Adaptive | Whole | Listed
"""What one axis of a layer sees; ``None`` in its place means: cell by cell, nothing moves."""
