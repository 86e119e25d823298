"""What a network is put together from, as plain data: blocks, transitions, the head, and the style they share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from budgetnet.errors import ArchitectureError
from budgetnet.layers import ACTIVATIONS

Pair = tuple[int, int]

NORMS = ("before", "after", "none")
BLOCKS = ("plain", "separable", "residual")
POOLS = ("max", "avg")

# Beyond these lies a typing error, and a network that nobody can hold in memory.
MOST_CHANNELS = 1_000_000
MOST_PIXELS = 65_536  # along one axis of the image
MOST_CELLS = 1_024  # of a kernel, stride, padding or dilation
MOST_LOOPS = 100


def same_padding(kernel: Pair, dilation: int = 1) -> Pair:
    """Padding that keeps the map's size at stride 1. Raises ArchitectureError for an even kernel, which has none."""
    if kernel[0] % 2 == 0 or kernel[1] % 2 == 0:
        raise ArchitectureError(f"padding 'same' needs odd kernels, but got kernel={kernel[0]}x{kernel[1]}")
    return dilation * (kernel[0] - 1) // 2, dilation * (kernel[1] - 1) // 2


@dataclass(frozen=True)
class Style:
    """What all blocks share: BatchNorm before or after the activation or none, the activation, biased convolutions."""

    norm: str = "before"
    activation: str = "relu"
    bias: bool = False

    def __post_init__(self) -> None:
        check_one_of("style.norm", self.norm, NORMS)
        check_one_of("style.activation", self.activation, ACTIVATIONS)
        _check_yes_or_no("style.bias", self.bias)


class Form(NamedTuple):
    """All of a block but its width and its dropout: it decides maps, receptive fields, and how cost follows width."""

    kind: str
    kernel: Pair
    stride: int
    padding: Pair
    dilation: int
    groups: int
    bare: bool
    loops: int

    def block(self, width: int) -> Block:
        """A block of this form, without dropout."""
        return Block(width, *self[:-1], loops=self.loops)


@dataclass(frozen=True)
class Block:
    """One block of ``width`` channels.

    plain: a convolution. separable: a depthwise, then a 1x1 convolution, both with norm and activation. residual:
    ``x + f(x)`` with two convolutions in ``f``. ``bare``: the convolution alone, no norm, no activation. ``loops``: how
    often a further convolution (depthwise and 1x1 of a separable block) from ``width`` to ``width`` channels follows,
    one and the same each time, with norms of its own each time.
    """

    width: int
    kind: str = "plain"
    kernel: Pair = (3, 3)
    stride: int = 1
    padding: Pair = (0, 0)
    dilation: int = 1
    groups: int = 1
    bare: bool = False
    dropout: float = 0.0
    loops: int = 0

    def __post_init__(self) -> None:
        check_one_of("block.kind", self.kind, BLOCKS)
        check_whole("block.width", self.width, 1, MOST_CHANNELS)
        _check_pair("block.kernel", self.kernel, 1, MOST_CELLS)
        check_whole("block.stride", self.stride, 1, MOST_CELLS)
        _check_pair("block.padding", self.padding, 0, MOST_CELLS)
        check_whole("block.dilation", self.dilation, 1, MOST_CELLS)
        check_whole("block.groups", self.groups, 1, MOST_CHANNELS)
        _check_yes_or_no("block.bare", self.bare)
        if type(self.dropout) not in (float, int) or not 0 <= self.dropout < 1:
            raise ArchitectureError(f"block.dropout must be in [0, 1), but got dropout={self.dropout!r}")
        check_whole("block.loops", self.loops, 0, MOST_LOOPS)
        if self.bare and self.kind != "plain":
            raise ArchitectureError(f"only a plain block can be bare, but got kind={self.kind}")
        if self.loops and (self.bare or self.kind == "residual"):
            raise ArchitectureError(f"a {'bare' if self.bare else self.kind} block has no loops, but got {self.loops}")
        if self.kind == "separable" and self.groups != 1:
            raise ArchitectureError(f"a separable block sets its own groups, but got groups={self.groups}")
        if self.kind == "residual" and self.padding != same_padding(self.kernel, self.dilation):
            raise ArchitectureError("a residual block needs padding 'same', or x and f(x) differ in size")

    @property
    def form(self) -> Form:
        """The block without its width and its dropout."""
        return Form(
            self.kind, self.kernel, self.stride, self.padding, self.dilation, self.groups, self.bare, self.loops
        )


@dataclass(frozen=True)
class Transition:
    """Pooling between two stages: "max" or "avg", ``kernel`` x ``kernel``, moved by its own size."""

    kind: str = "max"
    kernel: int = 2

    def __post_init__(self) -> None:
        check_one_of("transition.kind", self.kind, POOLS)
        check_whole("transition.kernel", self.kernel, 2, MOST_CELLS)


@dataclass(frozen=True)
class Head:
    """From the last map to ``classes`` logits.

    pool: "global", a kernel size, or None. kind: "conv" (1x1 convolution) or "linear" (after flattening). ``first``:
    whether the pooling or the classifier comes first.
    """

    classes: int = 10
    kind: str = "conv"
    pool: str | int | None = "global"
    first: str = "pool"
    bias: bool = True

    def __post_init__(self) -> None:
        check_one_of("head.kind", self.kind, ("conv", "linear"))
        check_one_of("head.first", self.first, ("pool", "classifier"))
        _check_yes_or_no("head.bias", self.bias)
        check_whole("head.classes", self.classes, 1, MOST_CHANNELS)
        if type(self.pool) is int:
            check_whole("head.pool", self.pool, 1, MOST_CELLS)
        elif self.pool is not None and self.pool != "global":
            raise ArchitectureError(f"head.pool must be 'global', a kernel size or null, but got pool={self.pool!r}")
        if self.first == "classifier" and (self.kind == "linear" or self.pool is None):
            raise ArchitectureError("head.first 'classifier' needs a 1x1 convolution and a pooling after it")


Piece = Block | Transition | Head


# --- rules of single values -------------------------------------------------------------------------------------------


def check_one_of(place: str, value: object, allowed: Sequence[str] | Mapping[str, str]) -> None:
    """Raise ArchitectureError, naming the place, unless the value is one of those allowed."""
    if not isinstance(value, str) or value not in allowed:
        raise ArchitectureError(f"{place} must be one of {', '.join(allowed)}, but got {value!r}")


def _check_yes_or_no(place: str, value: object) -> None:
    if type(value) is not bool:
        raise ArchitectureError(f"{place} must be true or false, but got {value!r}")


def check_whole(place: str, value: object, least: int, most: int) -> None:
    """Raise ArchitectureError unless the value is a whole number, no bool, from ``least`` to ``most``."""
    if type(value) is not int:  # a bool is an int to Python, and a typing error to us
        raise ArchitectureError(f"{place} must be a whole number, but got {value!r}")
    if not least <= value <= most:
        bound = f"at least {least}" if value < least else f"at most {most:,}"
        raise ArchitectureError(f"{place} must be {bound}, but got {place.rpartition('.')[2]}={value}")


def _check_pair(place: str, value: object, least: int, most: int) -> None:
    if not isinstance(value, tuple) or len(value) != 2:
        raise ArchitectureError(f"{place} must be two whole numbers, height and width, but got {value!r}")
    check_whole(place, value[0], least, most)
    check_whole(place, value[1], least, most)
