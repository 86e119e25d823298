"""From a piece to its layers: what a block, a transition or a head is made of where it receives a map of some shape."""

from __future__ import annotations

from functools import lru_cache

from budgetnet.errors import ArchitectureError
from budgetnet.graph import Graph, graph_of, shape_after
from budgetnet.layers import (
    Activation,
    AdaptivePool,
    Again,
    BatchNorm,
    Conv,
    Dropout,
    Flatten,
    Layer,
    Linear,
    Part,
    Pool,
    Residual,
    Shape,
)
from budgetnet.pieces import Block, Head, Piece, Style, Transition


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
