"""Layers that only a traced network has, as frozen records; an Architecture never draws them."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from budgetnet.errors import ArchitectureError
from budgetnet.layers import Call, Conv, Layer, Linear, Shape
from budgetnet.views import Folded, Listed, Slide, View, Whole


@dataclass(frozen=True, slots=True)
class PaddedConv(Conv):
    """A convolution whose padding is not the same zeros on both sides: ``after`` cells more at the end of each axis
    (padding="same" with an even span), and ``mode`` as torch's padding_mode."""

    after: tuple[int, ...] = (0, 0)
    mode: str = "zeros"

    def _outputs(self, axis: int, size: int) -> int:
        return Conv._outputs(self, axis, size + self.after[axis])

    def views(self, shape: Shape) -> tuple[View, ...] | None:
        slides = [
            (self.kernel[axis], self.stride[axis], self.padding[axis], self.dilation[axis], outputs)
            for axis, outputs in enumerate(self.map_shape(shape))
        ]
        return tuple(Slide(*slide) if self.mode == "zeros" else Folded(*slide, mode=self.mode) for slide in slides)

    def call(self, *shapes: Shape) -> Call:
        raise NotImplementedError(type(self).__name__)


@dataclass(frozen=True, slots=True)
class Pad(Layer):
    """Cells added ``before`` and ``after`` each axis of the map (cut off where negative); ``mode`` "constant" or one of
    Folded's."""

    before: tuple[int, ...]
    after: tuple[int, ...]
    mode: str = "constant"

    def out_shape(self, *shapes: Shape) -> Shape:
        channels, *cells = shapes[0]
        return (channels, *(sum(axis) for axis in zip(self.before, cells, self.after, strict=True)))

    def views(self, shape: Shape) -> tuple[View, ...] | None:
        slides = [(1, 1, before, 1, size) for before, size in zip(self.before, self.out_shape(shape)[1:], strict=True)]
        return tuple(Slide(*slide) if self.mode == "constant" else Folded(*slide, mode=self.mode) for slide in slides)


@dataclass(frozen=True, slots=True)
class Norm(Layer):
    """Normalisation by statistics of the input itself: ``kind`` "group", "layer", "instance", "rms" or "batch".

    over_map: whether the statistics are of the map and not only of a cell's own channels. Strictly, they then let every
    cell see the whole map; the field followed otherwise is that of the values.
    """

    kind: str
    over_map: bool = True

    @property
    def in_place(self) -> bool:
        return True

    def strict_views(self, shape: Shape) -> tuple[View, ...] | None:
        return tuple(map(Whole, shape[1:])) if self.over_map and len(shape) > 1 else None


MIXING = frozenset(("softmax", "log_softmax", "softmin", "local_response_norm"))
"""Elementwise functions that keep each cell to itself, but not each channel."""


@dataclass(frozen=True, slots=True)
class Elementwise(Layer):
    """Any other function that keeps each cell to itself, by its torch name: "relu6", "softmax" over channels, "mul"."""

    name: str

    @property
    def in_place(self) -> bool:
        return True

    @property
    def mixed(self) -> bool:
        """Whether every channel that comes out is made of all."""
        return self.name in MIXING


@dataclass(frozen=True, slots=True)
class Taken(Layer):
    """Channels and cells taken from elsewhere in the map: a slice, a roll, a resize, a shuffle; ``name`` is torch's.

    channels: which of the input's come out; None for all, as they are. seen: what each axis sees; empty where every
    cell stays where it is. mixed: whether every channel that comes out is made of all.
    """

    name: str
    channels: tuple[int, ...] | None = None
    seen: tuple[View, ...] = ()
    mixed: bool = False

    def out_shape(self, *shapes: Shape) -> Shape:
        channels = shapes[0][0] if self.channels is None else len(self.channels)
        return (channels, *(view.outputs for view in self.seen)) if self.seen else (channels, *shapes[0][1:])

    def views(self, shape: Shape) -> tuple[View, ...] | None:
        return self.seen or None


@dataclass(frozen=True, slots=True)
class Broadcast(Layer):
    """Elementwise ``name`` of maps of which some have one channel or one cell for all.

    A map of one cell beside a larger one is a gate, as in squeeze-and-excite: strictly, it lets every cell see what it
    has seen, mostly the whole input; the field followed here is that of the larger maps.
    """

    name: str

    def out_shape(self, *shapes: Shape) -> Shape:
        ranks = {len(shape) for shape in shapes}
        sizes = [set(dimension) - {1} for dimension in zip(*shapes, strict=False)]
        if len(ranks) > 1 or any(len(different) > 1 for different in sizes):
            raise ArchitectureError(f"{self.name} cannot join maps of {' and '.join(map(str, shapes))}")
        return tuple(max(dimension) for dimension in zip(*shapes, strict=True))

    def followed(self, *shapes: Shape) -> tuple[int, ...]:
        cells = [prod(shape[1:]) for shape in shapes]
        return tuple(index for index, count in enumerate(cells) if count > 1 or max(cells) == 1)


@dataclass(frozen=True, slots=True)
class CellLinear(Linear):
    """A matrix product over the channels of every cell: nn.Linear on a map whose channels come last."""

    def out_shape(self, *shapes: Shape) -> Shape:
        return (self.width, *shapes[0][1:])

    def params(self, *shapes: Shape) -> int:
        return self.width * (shapes[0][0] + self.bias)

    def macs(self, *shapes: Shape) -> int:
        return self.width * prod(shapes[0])


@dataclass(frozen=True, slots=True)
class TransposedConv(Layer):
    """A transposed convolution; ``seen`` says what each axis sees. MACs: one per weight and *input* cell."""

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    width: int
    groups: int
    bias: bool
    seen: tuple[View, ...]

    def out_shape(self, *shapes: Shape) -> Shape:
        return (self.width, *(view.outputs for view in self.seen))

    def _weights(self, shape: Shape) -> int:
        return shape[0] * self.width // self.groups * prod(self.kernel)

    def params(self, *shapes: Shape) -> int:
        return self._weights(shapes[0]) + self.width * self.bias

    def macs(self, *shapes: Shape) -> int:
        return self._weights(shapes[0]) * prod(shapes[0][1:])

    def views(self, shape: Shape) -> tuple[View, ...] | None:
        return self.seen


@dataclass(frozen=True, slots=True)
class Attention(Layer):
    """Attention, ``name`` as a person calls it: ``seen`` says which cells each cell attends to, axis by axis.

    width: channels that come out. products: multiply-accumulates, of the projections inside it too.
    """

    name: str
    width: int
    products: int
    seen: tuple[View, ...]

    def out_shape(self, *shapes: Shape) -> Shape:
        return (self.width, *(view.outputs for view in self.seen))

    def macs(self, *shapes: Shape) -> int:
        return self.products

    def views(self, shape: Shape) -> tuple[View, ...] | None:
        return self.seen


@dataclass(frozen=True, slots=True)
class Product(Layer):
    """A matrix product of two maps, as attention is written by hand: each cell sees what it saw in either.

    width: channels that come out. products: multiply-accumulates.
    """

    name: str
    width: int
    products: int

    def out_shape(self, *shapes: Shape) -> Shape:
        if shapes[0][1:] != shapes[1][1:]:
            raise ArchitectureError(f"{self.name} cannot join maps of {' and '.join(map(str, shapes))}")
        return (self.width, *shapes[0][1:])

    def macs(self, *shapes: Shape) -> int:
        return self.products


@dataclass(frozen=True, slots=True)
class Tokens(Layer):
    """The cells of a map in a row, after ``extra`` positions that see nothing, such as a class token."""

    extra: int = 0

    def out_shape(self, *shapes: Shape) -> Shape:
        return (shapes[0][0], self.extra + prod(shapes[0][1:]))

    def views(self, shape: Shape) -> tuple[View, ...] | None:
        cells = shape[1:]
        nothing = ((),) * self.extra
        return tuple(
            Listed((*nothing, *((i // prod(cells[axis + 1 :]) % size,) for i in range(prod(cells)))))
            for axis, size in enumerate(cells)
        )
