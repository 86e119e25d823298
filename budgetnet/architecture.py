"""A network as plain frozen data: stem, stages, transitions and head, with JSON and a one-line notation.

The first block is the stem; a pooling transition or a strided block opens the next stage; the head ends in one logit
per class. ``sections`` names those rooms and fills them with layers; every other module works on these layers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, field, fields, replace
from functools import lru_cache
from typing import Any, NamedTuple

from budgetnet.errors import ArchitectureError
from budgetnet.layers import (
    ACTIVATIONS,
    Activation,
    AdaptivePool,
    Again,
    BatchNorm,
    Conv,
    Dropout,
    Flatten,
    Graph,
    Layer,
    Linear,
    Part,
    Pool,
    Residual,
    Shape,
    graph_of,
    shape_after,
)

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
        _one_of("style.norm", self.norm, NORMS)
        _one_of("style.activation", self.activation, ACTIVATIONS)
        _yes_or_no("style.bias", self.bias)


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
        _one_of("block.kind", self.kind, BLOCKS)
        _whole("block.width", self.width, 1, MOST_CHANNELS)
        _pair("block.kernel", self.kernel, 1, MOST_CELLS)
        _whole("block.stride", self.stride, 1, MOST_CELLS)
        _pair("block.padding", self.padding, 0, MOST_CELLS)
        _whole("block.dilation", self.dilation, 1, MOST_CELLS)
        _whole("block.groups", self.groups, 1, MOST_CHANNELS)
        _yes_or_no("block.bare", self.bare)
        if type(self.dropout) not in (float, int) or not 0 <= self.dropout < 1:
            raise ArchitectureError(f"block.dropout must be in [0, 1), but got dropout={self.dropout!r}")
        _whole("block.loops", self.loops, 0, MOST_LOOPS)
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
        _one_of("transition.kind", self.kind, POOLS)
        _whole("transition.kernel", self.kernel, 2, MOST_CELLS)


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
        _one_of("head.kind", self.kind, ("conv", "linear"))
        _one_of("head.first", self.first, ("pool", "classifier"))
        _yes_or_no("head.bias", self.bias)
        _whole("head.classes", self.classes, 1, MOST_CHANNELS)
        if type(self.pool) is int:
            _whole("head.pool", self.pool, 1, MOST_CELLS)
        elif self.pool is not None and self.pool != "global":
            raise ArchitectureError(f"head.pool must be 'global', a kernel size or null, but got pool={self.pool!r}")
        if self.first == "classifier" and (self.kind == "linear" or self.pool is None):
            raise ArchitectureError("head.first 'classifier' needs a 1x1 convolution and a pooling after it")


Piece = Block | Transition | Head


@dataclass(frozen=True)
class Architecture:
    """A whole network for images of ``input_shape`` = (channels, height, width)."""

    body: tuple[Block | Transition, ...]
    head: Head = field(default_factory=Head)
    style: Style = field(default_factory=Style)
    input_shape: Shape = (1, 28, 28)

    def __post_init__(self) -> None:
        if not any(isinstance(piece, Block) for piece in self.body):
            raise ArchitectureError("a network needs at least one block, but got none")
        if not isinstance(self.input_shape, tuple) or len(self.input_shape) != 3:
            raise ArchitectureError(f"input_shape must be (channels, height, width), but got {self.input_shape!r}")
        for name, value in zip(("channels", "height", "width"), self.input_shape, strict=True):
            _whole(f"input_shape.{name}", value, 1, MOST_PIXELS)

    @property
    def blocks(self) -> tuple[Block, ...]:
        """The blocks without the transitions."""
        return tuple(piece for piece in self.body if isinstance(piece, Block))

    @property
    def widths(self) -> tuple[int, ...]:
        """Output channels of every block."""
        return tuple(block.width for block in self.blocks)

    def with_widths(self, widths: Sequence[int]) -> Architecture:
        """The same network with other widths, one per block. Raises ArchitectureError."""
        if len(widths) != len(self.blocks):
            raise ArchitectureError(
                f"a network of {len(self.blocks)} blocks needs as many widths, but got {len(widths)}"
            )
        remaining = iter(widths)
        body = tuple(
            replace(piece, width=next(remaining)) if isinstance(piece, Block) else piece for piece in self.body
        )
        return Architecture(body, self.head, self.style, self.input_shape)

    def sections(self) -> tuple[tuple[str, tuple[Part, ...]], ...]:
        """Named rooms and their layers: ``stem``, ``stage1``, …, ``head``.

        Raises ArchitectureError when a map vanishes, shapes do not join, or the head leaves more than one cell.
        """
        rooms: list[tuple[str, list[Part]]] = []
        for name, piece, shape in self._walk():
            if not rooms or rooms[-1][0] != name:
                rooms.append((name, []))
            rooms[-1][1].extend(expand(piece, self.style, shape))
        return tuple((name, tuple(layers)) for name, layers in rooms)

    def feature_shape(self) -> Shape:
        """Shape (C, H, W) of the last map before the head."""
        *_, (_, _, shape) = self._walk()
        return shape

    def features(self) -> Graph:
        """The graph without its head: what the receptive field of the last map is read from."""
        return self._graph(self.sections()[:-1])

    def graph(self) -> Graph:
        """All layers in topological order, named by their path in the state dict."""
        return self._graph(self.sections())

    @staticmethod
    def _graph(sections: Sequence[tuple[str, tuple[Part, ...]]]) -> Graph:
        return graph_of([(f"{room}.{i}", part) for room, parts in sections for i, part in enumerate(parts)])

    def _walk(self) -> Iterator[tuple[str, Piece, Shape]]:
        """Every piece with the name of its room and the shape that enters it."""
        shape = self.input_shape
        for position, (name, piece) in enumerate(zip(self.rooms(), self.body, strict=True)):
            yield name, piece, shape
            try:
                shape = piece_shape(piece, self.style, shape)
            except ArchitectureError as error:
                raise self.located(error, position) from None
        yield "head", self.head, shape

    def rooms(self) -> list[str]:
        """The room of every piece of the body: ``stem``, ``stage1``, …"""
        rooms, stage, seen_block = [], 0, False
        for piece in self.body:
            opens = isinstance(piece, Transition) or piece.stride > 1
            if seen_block and (opens or stage == 0):
                stage += 1
            rooms.append(f"stage{stage}" if stage else "stem")
            seen_block = seen_block or isinstance(piece, Block)
        return rooms

    def located(self, error: ArchitectureError, position: int) -> ArchitectureError:
        """``error`` with the room of the piece at ``position`` in front; the head names itself."""
        if position == len(self.body):
            return error
        return ArchitectureError(f"{self.rooms()[position]}: {error}")

    def to_dict(self) -> dict[str, Any]:
        """JSON-able; every field written out, but ``loops``, younger than frozen models, only where there are any."""
        body = [{"type": type(piece).__name__.lower(), **asdict(piece)} for piece in self.body]
        for piece in body:
            if not piece.get("loops", True):
                del piece["loops"]
        rest = {"head": asdict(self.head), "style": asdict(self.style), "input_shape": list(self.input_shape)}
        return {"body": body, **rest}

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> Architecture:
        """Inverse of ``to_dict``. Raises ArchitectureError that names the field."""
        _known("architecture", data, ("body", "head", "style", "input_shape"))
        if "body" not in data:
            raise ArchitectureError("architecture.body is missing")
        return Architecture(
            tuple(_piece(index, item) for index, item in enumerate(_listed("body", data["body"]))),
            _record(Head, "head", data.get("head", {})),
            _record(Style, "style", data.get("style", {})),
            tuple(_listed("input_shape", data.get("input_shape", (1, 28, 28)))),
        )

    def __str__(self) -> str:
        from budgetnet.notation import write

        return write(self)


# --- from a piece to its layers ---------------------------------------------------------------------------------------


@lru_cache(maxsize=1 << 16)
def expand(piece: Piece, style: Style, shape: Shape) -> tuple[Part, ...]:
    """The layers of one piece that receives a map of ``shape``. Raises ArchitectureError when they do not fit it."""
    if isinstance(piece, Transition):
        kernel = (piece.kernel, piece.kernel)
        return (Pool(kernel, stride=kernel, kind=piece.kind),)
    if isinstance(piece, Head):
        return _head(piece, shape)
    dropout = (Dropout(piece.dropout),) if piece.dropout else ()
    return (*_EXPAND[piece.kind](piece, style, shape[0]), *dropout)


@lru_cache(maxsize=1 << 16)
def piece_shape(piece: Piece, style: Style, shape: Shape) -> Shape:
    """Shape after one piece. Raises ArchitectureError when it does not fit its input."""
    return shape_after(expand(piece, style, shape), shape)


def piece_graph(piece: Piece, style: Style, shape: Shape) -> Graph:
    """The layers of one piece as a graph of its own. Raises ArchitectureError when they do not fit their input."""
    parts = expand(piece, style, shape)
    shape_after(parts, shape)  # its errors leave the naming of the place to who knows it
    return graph_of([(str(index), part) for index, part in enumerate(parts)])


def _plain(block: Block, style: Style, channels: int) -> tuple[Part, ...]:
    conv = _conv(block, style, block.width, block.groups, block.stride)
    if block.bare:
        return (conv,)
    again = (_conv(block, style, block.width, block.groups, 1), *_tail(style))
    return (conv, *_tail(style), *_looped(again, block.loops))


def _separable(block: Block, style: Style, channels: int) -> tuple[Part, ...]:
    depthwise = _conv(block, style, channels, channels, block.stride)
    pointwise = (Conv((1, 1), width=block.width, bias=style.bias), *_tail(style))
    again = (_conv(block, style, block.width, block.width, 1), *_tail(style), *pointwise)
    return (depthwise, *_tail(style), *pointwise, *_looped(again, block.loops))


def _looped(layers: tuple[Layer, ...], loops: int) -> tuple[Part, ...]:
    """Layers applied ``loops`` times: convolutions are the same each time, norms are not."""
    if not loops:
        return ()
    repeated = tuple(Again(len(layers)) if isinstance(layer, Conv) else layer for layer in layers)
    return (*layers, *(repeated * (loops - 1)))


def _residual(block: Block, style: Style, channels: int) -> tuple[Part, ...]:
    norm = (BatchNorm(),) if style.norm == "before" else ()
    first = _conv(block, style, block.width, block.groups, block.stride)
    second = _conv(block, style, block.width, block.groups, 1)
    shortcut: tuple[Layer, ...] = ()
    if block.stride > 1 or channels != block.width:
        stride = (block.stride, block.stride)
        shortcut = (Conv((1, 1), stride=stride, width=block.width, bias=style.bias), *norm)
    tail = _tail(Style("after" if style.norm == "after" else "none", style.activation))
    return (Residual((first, *_tail(style), second, *norm), shortcut), *tail)


_EXPAND = {"plain": _plain, "separable": _separable, "residual": _residual}


def _conv(block: Block, style: Style, width: int, groups: int, stride: int) -> Conv:
    return Conv(
        block.kernel,
        (stride, stride),
        block.padding,
        (block.dilation, block.dilation),
        width=width,
        groups=groups,
        bias=style.bias,
    )


def _tail(style: Style) -> tuple[Layer, ...]:
    """Norm and activation in the style's order."""
    activation = Activation(style.activation)
    if style.norm == "before":
        return BatchNorm(), activation
    return (activation, BatchNorm()) if style.norm == "after" else (activation,)


def _head(head: Head, shape: Shape) -> tuple[Part, ...]:
    pool: tuple[Layer, ...] = ()
    if head.pool == "global":
        pool = (AdaptivePool((1, 1)),)
    elif isinstance(head.pool, int):
        pool = (Pool((head.pool, head.pool), stride=(head.pool, head.pool), kind="avg"),)
    try:
        pooled = shape_after(pool, shape)
    except ArchitectureError as error:
        raise ArchitectureError(f"head: {error}") from None
    if head.kind == "linear":
        return (*pool, Flatten(), Linear(head.classes, head.bias))
    if pooled[1:] != (1, 1):
        raise ArchitectureError(
            f"the head must leave one cell per class, but leaves a map of {pooled[1]} × {pooled[2]}"
        )
    classify = (Conv((1, 1), width=head.classes, bias=head.bias),)
    return (*pool, *classify, Flatten()) if head.first == "pool" else (*classify, *pool, Flatten())


# --- rules of single values -------------------------------------------------------------------------------------------


def _one_of(place: str, value: object, allowed: Sequence[str] | Mapping[str, str]) -> None:
    if not isinstance(value, str) or value not in allowed:
        raise ArchitectureError(f"{place} must be one of {', '.join(allowed)}, but got {value!r}")


def _yes_or_no(place: str, value: object) -> None:
    if type(value) is not bool:
        raise ArchitectureError(f"{place} must be true or false, but got {value!r}")


def _whole(place: str, value: object, least: int, most: int) -> None:
    if type(value) is not int:  # a bool is an int to Python, and a typing error to us
        raise ArchitectureError(f"{place} must be a whole number, but got {value!r}")
    if not least <= value <= most:
        bound = f"at least {least}" if value < least else f"at most {most:,}"
        raise ArchitectureError(f"{place} must be {bound}, but got {place.rpartition('.')[2]}={value}")


def _pair(place: str, value: object, least: int, most: int) -> None:
    if not isinstance(value, tuple) or len(value) != 2:
        raise ArchitectureError(f"{place} must be two whole numbers, height and width, but got {value!r}")
    _whole(place, value[0], least, most)
    _whole(place, value[1], least, most)


# --- reading records from JSON ----------------------------------------------------------------------------------------


def _known(place: str, data: Mapping[str, Any], allowed: Sequence[str]) -> None:
    if not isinstance(data, Mapping):
        raise ArchitectureError(f"{place} must be a mapping, but got {data!r}")
    for key in data:
        if key not in allowed:
            raise ArchitectureError(f"{place} has no field {key!r}; it has {', '.join(allowed)}")


def _listed(place: str, data: Any) -> Sequence[Any]:
    if not isinstance(data, list | tuple):
        raise ArchitectureError(f"{place} must be a list, but got {data!r}")
    return data


def _record(kind: Any, place: str, data: Mapping[str, Any]) -> Any:
    _known(place, data, [item.name for item in fields(kind)])
    for item in fields(kind):
        if item.default is MISSING and item.name not in data:
            raise ArchitectureError(f"{place}.{item.name} is missing")
    values = {key: tuple(value) if isinstance(value, list) else value for key, value in data.items()}
    try:
        return kind(**values)
    except ArchitectureError as error:
        raise ArchitectureError(f"{place}: {error}") from None


def _piece(index: int, data: Mapping[str, Any]) -> Block | Transition:
    place = f"body[{index}]"
    kinds = {"block": Block, "transition": Transition}
    if not isinstance(data, Mapping):
        raise ArchitectureError(f"{place} must be a mapping, but got {data!r}")
    _one_of(f"{place}.type", data.get("type"), tuple(kinds))
    piece: Block | Transition = _record(kinds[data["type"]], place, {k: v for k, v in data.items() if k != "type"})
    return piece
