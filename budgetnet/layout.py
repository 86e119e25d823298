"""Where the channels and the cells of a map are in a torch tensor that was reshaped, permuted or cut into windows.

Every map has its own shape ``(channels, *cells)``. A tensor that holds it in another order – channels last, a sequence
of cells, windows – is described by a Layout, so that no layer has to be made up for what only moves values in memory.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import product
from math import prod

from budgetnet.errors import ArchitectureError
from budgetnet.layers import Shape
from budgetnet.traced import Taken
from budgetnet.views import View, view_of


@dataclass(frozen=True, slots=True)
class Factor:
    """Part of an index: ``size`` steps along ``axis`` (0 the channels, 1 … the map's axes), ``step`` indices each.

    The images of the batch are an axis, too, for windows of a map are often put beside each other as if they were such.
    """

    axis: int
    size: int
    step: int


Dimension = tuple[Factor, ...]
"""What one dimension of a tensor runs through, the slowest factor first; empty where it has one index only."""

BATCH = 2  # images in a traced batch; not 1, so that the batch cannot be taken for an axis of one cell
BATCH_AXIS = -1
IMAGES = (Factor(BATCH_AXIS, BATCH, 1),)
"""The batch as a dimension."""


@dataclass(frozen=True, slots=True)
class Layout:
    """The dimensions of a tensor over the batch and the axes of the map ``of``, whose shape is without the batch."""

    of: Shape
    dims: tuple[Dimension, ...]

    @classmethod
    def plain(cls, of: Shape) -> Layout:
        """Images, then channels, then the map, as torch's convolutions have it."""
        return cls(of, (IMAGES, *(_merged([Factor(axis, size, 1)]) for axis, size in enumerate(of))))

    @property
    def is_plain(self) -> bool:
        """Whether the tensor is the map itself."""
        return self == Layout.plain(self.of)

    @property
    def shape(self) -> Shape:
        """The tensor's shape."""
        return tuple(prod(factor.size for factor in dim) for dim in self.dims)

    def axes(self, dims: Iterable[int]) -> set[int]:
        """The axes that some of the dimensions run through."""
        return {factor.axis for dim in dims for factor in self.dims[dim]}

    def axis(self, dim: int) -> int | None:
        """The one axis of the map that a dimension runs through, whole and in order; None where it is not so simple."""
        if not self.dims[dim]:  # one position: of the axes that have only one, the one in this place
            single = [axis for axis, size in enumerate(self.of) if size == 1]
            empty = [other for other, factors in enumerate(self.dims) if not factors]
            return single[empty.index(dim)] if len(single) == len(empty) else None
        axis = self.dims[dim][0].axis
        if axis == BATCH_AXIS:
            return None
        return axis if self.dims[dim] == _merged([Factor(axis, self.of[axis], 1)]) else None

    def is_row(self, dim: int) -> bool:
        """Whether the dimension runs through all cells of the map, row by row."""
        cells = self.of[1:]
        if self.shape[dim] != prod(cells) or min(self.axes([dim]), default=0) < 1:
            return False
        parts = self.reshaped((*self.shape[:dim], *cells, *self.shape[dim + 1 :]))
        return all(size == 1 or parts.axis(dim + i) == i + 1 for i, size in enumerate(cells))

    def permuted(self, order: Sequence[int]) -> Layout:
        """With its dimensions in another order."""
        return Layout(self.of, tuple(self.dims[dim] for dim in order))

    def reshaped(self, shape: Shape) -> Layout:
        """The same values, row by row, in another shape. Raises ArchitectureError where a factor cannot be parted."""
        left = [factor for dim in self.dims for factor in dim][::-1]
        dims = []
        for size in shape:
            dim: list[Factor] = []
            while size > 1:
                factor = left.pop()
                if factor.size > size:
                    if factor.size % size:
                        raise ArchitectureError(f"{self.shape} cannot be followed into {shape}")
                    inner = factor.size // size
                    left.append(Factor(factor.axis, inner, factor.step))
                    factor = Factor(factor.axis, size, factor.step * inner)
                if size % factor.size:
                    raise ArchitectureError(f"{self.shape} cannot be followed into {shape}")
                dim.append(factor)
                size //= factor.size
            dims.append(_merged(dim))
        return Layout(self.of, tuple(dims))

    def resized(self, dim: int, size: int) -> Layout:
        """With another size of the axis that a dimension runs through."""
        axis = self.axis(dim)
        assert axis is not None
        of = (*self.of[:axis], size, *self.of[axis + 1 :])
        return Layout(of, (*self.dims[:dim], _merged([Factor(axis, size, 1)]), *self.dims[dim + 1 :]))

    def indices(self, dim: int, axis: int) -> list[int]:
        """Along a dimension, what each position adds to the index on an axis of the map."""
        steps = [[i * f.step if f.axis == axis else 0 for i in range(f.size)] for f in self.dims[dim]]
        return [sum(index) for index in product(*steps)]

    def taps(self, dims: Iterable[int], axis: int) -> list[list[int]]:
        """For each index along an axis, those that some of the dimensions lead to from there."""
        free = [factor for dim in dims for factor in self.dims[dim] if factor.axis == axis]
        offsets = [sum(index) for index in product(*(range(0, f.size * f.step, f.step) for f in free))]
        found = []
        for index in range(self.of[axis]):
            base = index - sum(index // factor.step % factor.size * factor.step for factor in free)
            found.append(sorted(base + offset for offset in offsets))
        return found

    def reach(self, dims: Sequence[int]) -> tuple[View, ...]:
        """Per axis of the map, what a cell sees that sees all along some of the dimensions."""
        return tuple(view_of(self.taps(dims, axis)) for axis in range(1, len(self.of)))

    def as_map(self) -> Taken:
        """What makes a map, channels first, of the tensor: where its channels and its cells come from.

        Raises ArchitectureError where it has not as many axes, or one has gone into another's place.
        """
        axes = range(1, len(self.of))
        if len(self.dims) != len(self.of) + 1 or self.dims[0] != IMAGES:
            raise ArchitectureError(f"a tensor of shape {self.shape} is no map of {len(axes)} axes")
        seen = []
        for axis in axes:
            here = self.axes([axis + 1])
            if (here and axis not in here) or axis in self.axes(1 + other for other in axes if other != axis):
                raise ArchitectureError("the axes of the map have changed places")
            in_channels = self.taps([1], axis)
            seen.append(view_of([in_channels[index] for index in self.indices(axis + 1, axis)]))
        mixed = 0 in self.axes(1 + axis for axis in axes)
        return Taken("rearrange", tuple(self.indices(1, 0)), tuple(seen), mixed)


def _merged(factors: Sequence[Factor]) -> Dimension:
    """Without factors of one index, and neighbours that follow each other as one."""
    merged: list[Factor] = []
    for factor in factors:
        if factor.size == 1:
            continue
        last = merged[-1] if merged else None
        if last is not None and last.axis == factor.axis and last.step == factor.size * factor.step:
            merged[-1] = Factor(factor.axis, last.size * factor.size, factor.step)
        else:
            merged.append(factor)
    return tuple(merged)
