"""torch's operators that arrange, cut, join or mix a map whatever its layout → records, and the layout of the result.

Handlers take the shape of the result (of several results: their shapes), then torch's own arguments.
A new operator is one line in ARRANGEMENTS.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from math import prod
from typing import Any

from torch import Tensor

from budgetnet import products
from budgetnet.errors import ArchitectureError
from budgetnet.layers import AdaptivePool, Add, Concat, Flatten, Layer, Shape
from budgetnet.layout import BATCH_AXIS, IMAGES, Factor, Layout
from budgetnet.made import Arranger, Made, plain
from budgetnet.operators import Map, Unknown
from budgetnet.traced import Elementwise, Norm, Pad, Taken, Tokens
from budgetnet.views import Slide, View, Whole, view_of

# --- nothing but another order ----------------------------------------------------------------------------------------


def _reshape(out: Shape, input: Map, *rest: Any, **more: Any) -> Made:
    return _settled(input.layout.reshaped(out))


def _settled(layout: Layout) -> Made:
    """A layout; where all is one row of features, a flattening; where it is a map again, what has moved in it."""
    if len(layout.dims) == 2 and layout.dims[0] == IMAGES and len(layout.of) > 1:
        return plain((Flatten(),), (prod(layout.of),))
    if len(layout.dims) == len(layout.of) + 1 and not layout.is_plain:
        with suppress(ArchitectureError):
            return plain((layout.as_map(),), layout.shape[1:])
    return Made((), layout)


def _ordered(layout: Layout, order: Sequence[int]) -> Made:
    return Made((), layout.permuted([dim % len(order) for dim in order]))


def _permute(out: Shape, input: Map, *dims: Any, **more: Any) -> Made:
    order = more.get("dims", dims)
    return _ordered(input.layout, order[0] if isinstance(order[0], Sequence) else order)


def _transpose(out: Shape, input: Map, dim0: int, dim1: int) -> Made:
    order = list(range(input.rank))
    order[dim0], order[dim1] = order[dim1], order[dim0]
    return _ordered(input.layout, order)


def _reversed(out: Shape, input: Map) -> Made:
    return _ordered(input.layout, (*range(input.rank - 2), -1, -2))


def _movedim(out: Shape, input: Map, source: Any, destination: Any) -> Made:
    rank = input.rank
    moved = [d % rank for d in ((source,) if isinstance(source, int) else source)]
    places = [d % rank for d in ((destination,) if isinstance(destination, int) else destination)]
    order = [dim for dim in range(rank) if dim not in moved]
    for place, dim in sorted(zip(places, moved, strict=True)):
        order.insert(place, dim)
    return _ordered(input.layout, order)


def _pixel_shuffle(out: Shape, input: Map, upscale_factor: int) -> Made:
    images, channels, *cells = input.layout.shape
    factor = upscale_factor
    parts = input.layout.reshaped((images, channels // factor**2, factor, factor, *cells))
    return _settled(parts.permuted((0, 1, 4, 2, 5, 3)).reshaped(out))


def _pixel_unshuffle(out: Shape, input: Map, downscale_factor: int) -> Made:
    images, channels, height, width = input.layout.shape
    factor = downscale_factor
    parts = input.layout.reshaped((images, channels, height // factor, factor, width // factor, factor))
    return _settled(parts.permuted((0, 1, 3, 5, 2, 4)).reshaped(out))


def _channel_shuffle(out: Shape, input: Map, groups: int) -> Made:
    images, channels, *cells = input.layout.shape
    parts = input.layout.reshaped((images, groups, channels // groups, *cells))
    return _settled(parts.permuted((0, 2, 1, *range(3, len(cells) + 3))).reshaped(out))


# --- parts ------------------------------------------------------------------------------------------------------------


def _cut(name: str, layout: Layout, dim: int, kept: range) -> Made:
    """Some positions of one dimension: channels, or cells along an axis of the map."""
    if len(kept) == layout.shape[dim] and kept.step == 1:
        return Made((), layout)
    axes = layout.axes([dim])
    if axes == {0} and len(layout.dims[dim]) == 1:
        return _fewer_channels(name, layout, dim, kept)
    axis = layout.axis(dim)
    if not axis:
        raise Unknown("cuts a dimension that is not one axis of the map")
    return Made((Taken(name, None, _on_axis(layout.of, axis, [[i] for i in kept])),), layout.resized(dim, len(kept)))


def _fewer_channels(name: str, layout: Layout, dim: int, kept: range) -> Made:
    """Some of the positions of a dimension that runs through channels alone."""
    (cut,) = layout.dims[dim]
    channels = tuple(c for c in range(layout.of[0]) if c // cut.step % cut.size in kept)

    def closer(factor: Factor) -> Factor:
        outside = factor.axis == 0 and factor.step > cut.step
        return Factor(factor.axis, factor.size, factor.step // cut.size * len(kept)) if outside else factor

    dims = [tuple(map(closer, each)) for each in layout.dims]
    dims[dim] = (Factor(0, len(kept), cut.step),) if len(kept) > 1 else ()
    return Made((Taken(name, channels),), Layout((len(channels), *layout.of[1:]), tuple(dims)))


def _on_axis(of: Shape, axis: int, taps: Sequence[Sequence[int]]) -> tuple[View, ...]:
    """Views of a map in which one axis sees ``taps``, and the others stay."""
    seen = [Slide(1, 1, 0, 1, size) for size in of[1:]]
    return (*seen[: axis - 1], view_of(taps), *seen[axis:])


def _getitem(out: Shape, input: Map, index: Any) -> Made:
    index = list(index) if isinstance(index, tuple) else [index]
    if any(isinstance(item, Tensor | Map | list) for item in index):
        raise Unknown("picks by a list or a tensor")
    given = sum(item is not None and item is not Ellipsis for item in index)
    place = index.index(Ellipsis) if Ellipsis in index else len(index)
    index = [*index[:place], *[slice(None)] * (input.rank - given), *index[place + 1 :]]
    made, dim = Made((), input.layout), 0
    for item in index:
        if item is None:
            dims = made.layout.dims
            made = Made(made.layers, Layout(made.layout.of, (*dims[:dim], (), *dims[dim:])))
        else:
            size = made.layout.shape[dim]
            kept = range(item % size, item % size + 1) if isinstance(item, int) else range(size)[item]
            cut = _cut("getitem", made.layout, dim, kept)
            cut = _dropped(cut, dim) if isinstance(item, int) else cut
            made = Made((*made.layers, *cut.layers), cut.layout)
        dim += not isinstance(item, int)
    return made


def _dropped(made: Made, dim: int) -> Made:
    """Without a dimension of one position; a map of one cell becomes a row of features."""
    layout = Layout(made.layout.of, (*made.layout.dims[:dim], *made.layout.dims[dim + 1 :]))
    if len(layout.dims) == 2 and len(layout.of) > 1 and set(layout.of[1:]) == {1}:
        return plain((*made.layers, Flatten()), layout.of[:1])
    return Made(made.layers, layout)


def _select(out: Shape, input: Map, dim: int, index: int) -> Made:
    at = dim % input.rank
    index %= input.layout.shape[at]
    return _dropped(_cut("select", input.layout, at, range(index, index + 1)), at)


def _narrow(out: Shape, input: Map, dim: int, start: int, length: int) -> Made:
    return _cut("narrow", input.layout, dim % input.rank, range(start, start + length))


def _parts(name: str) -> Arranger:
    """chunk and split: neighbours along a dimension, as long as torch has made them."""

    def handler(out: Sequence[Shape], input: Map, *rest: Any, dim: int = 0, **more: Any) -> tuple[Made, ...]:
        at = (rest[1] if len(rest) > 1 else dim) % input.rank
        made, start = [], 0
        for shape in out:
            made.append(_cut(name, input.layout, at, range(start, start + shape[at])))
            start += shape[at]
        return tuple(made)

    return handler


def _unbind(out: Sequence[Shape], input: Map, dim: int = 0) -> tuple[Made, ...]:
    at = dim % input.rank
    return tuple(_dropped(_cut("unbind", input.layout, at, range(i, i + 1)), at) for i in range(len(out)))


def _roll(out: Shape, input: Map, shifts: Any, dims: Any = None) -> Made:
    if dims is None:
        raise Unknown("is known along dimensions only")
    layers: list[Layer] = []
    for shift, dim in zip(_several(shifts), _several(dims), strict=True):
        layers += _moved("roll", input, dim, lambda index, size, by=shift: (index - by) % size)  # type: ignore[misc]
    return Made(tuple(layers), input.layout)


def _flip(out: Shape, input: Map, *dims: Any) -> Made:
    layers: list[Layer] = []
    for dim in _several(dims[0] if len(dims) == 1 else dims):
        layers += _moved("flip", input, dim, lambda index, size: size - 1 - index)
    return Made(tuple(layers), input.layout)


def _moved(name: str, input: Map, dim: int, source: Callable[[int, int], int]) -> tuple[Layer, ...]:
    """Along a whole axis, every position shows another."""
    layout, at = input.layout, dim % input.rank
    if not layout.axes([at]):
        return ()
    axis = layout.axis(at)
    if axis is None:
        raise Unknown("moves a dimension that is not one axis of the map")
    size = layout.of[axis]
    if axis == 0:
        return (Taken(name, tuple(source(i, size) for i in range(size))),)
    return (Taken(name, None, _on_axis(layout.of, axis, [[source(i, size)] for i in range(size)])),)


def _several(value: Any) -> tuple[Any, ...]:
    return tuple(value) if isinstance(value, Sequence) else (value,)


# --- several into one -------------------------------------------------------------------------------------------------


def _concat(out: Shape, tensors: Any, dim: int = 0, *, axis: int | None = None) -> Made:
    maps = [item for item in tensors if isinstance(item, Map)]
    at = (dim if axis is None else axis) % maps[0].rank
    if len(maps) < len(tensors):
        return _with_constants(out, tensors, at)
    layouts = [each.layout for each in maps]
    joined = layouts[0].axis(at)
    if joined is None or any(each.axis(at) != joined for each in layouts):
        raise Unknown("joins a dimension that is not one axis of the map")
    size = sum(each.of[joined] for each in layouts)
    result = layouts[0].resized(at, size)
    if joined == 0:
        return Made((Concat(),), result)
    each, start = [], 0
    for layout in layouts:
        taps = [[i - start] if 0 <= i - start < layout.of[joined] else [] for i in range(size)]
        each.append((Taken("cat", None, _on_axis(layout.of, joined, taps)),))
        start += layout.of[joined]
    return Made((Add(),), result, tuple(each))


def _with_constants(out: Shape, tensors: Any, at: int) -> Made:
    """Constants in front of or behind one map: a class token before a sequence of cells, or rows of padding."""
    places = [index for index, item in enumerate(tensors) if isinstance(item, Map)]
    if len(places) > 1:
        raise Unknown("joins maps with constants between them")
    layout = tensors[places[0]].layout
    front = sum(item.shape[at] for item in tensors[: places[0]])
    back = sum(item.shape[at] for item in tensors[places[0] + 1 :])
    axis = layout.axis(at)
    if axis:
        before, after = [0] * (len(layout.of) - 1), [0] * (len(layout.of) - 1)
        before[axis - 1], after[axis - 1] = front, back
        return Made((Pad(tuple(before), tuple(after)),), layout.resized(at, front + layout.of[axis] + back))
    if back or len(layout.dims) != 3 or at == 0 or not layout.is_row(at):
        raise Unknown("joins a dimension that is not one axis of the map with constants")
    tokens = Tokens(front)
    order = (0, 2, 1) if at == 1 else (0, 1, 2)
    return Made((tokens,), Layout.plain(tokens.out_shape(layout.of)).permuted(order))


# --- what mixes -------------------------------------------------------------------------------------------------------


def _channel_norm(kind: str) -> Arranger:
    def handler(out: Shape, input: Map, normalized_shape: Any = None, *rest: Any, **more: Any) -> Made:
        dims = range(input.rank - len(_several(normalized_shape)), input.rank)
        return Made((Norm(kind, over_map=not input.layout.axes(dims) <= {0}),), input.layout)

    return handler


def _softmax(name: str) -> Arranger:
    def handler(out: Shape, input: Map, dim: int | None = None, *rest: Any, **more: Any) -> Made:
        if dim is None:
            raise Unknown("needs a dimension")
        at = dim % input.rank
        if input.layout.axes([at]) <= {0}:
            return Made((Elementwise(name),), input.layout)
        return Made((Taken(name, None, input.layout.reach([at])),), input.layout)

    return handler


def _reduce(name: str, pool: str | None) -> Arranger:
    """mean, amax, sum, …: over channels, over the map, or over some of its axes. ``pool``: what it is over a map."""

    def handler(out: Shape, input: Map, dim: Any = None, keepdim: bool = False, **more: Any) -> Made:
        dim = more.get("axis", dim)
        dims = sorted({d % input.rank for d in (range(input.rank) if dim is None else _several(dim))})
        layout = input.layout
        axes = layout.axes(dims)
        if not dims or BATCH_AXIS in axes or axes & layout.axes(set(range(len(layout.dims))) - set(dims)):
            raise Unknown("is known over channels and whole axes of the map only")
        layers: list[Layer] = []
        of = tuple(1 if axis in axes else size for axis, size in enumerate(layout.of))
        if axes - {0} and pool is not None:
            layers.append(AdaptivePool(of[1:], pool))
        over_map = tuple(Whole(1) if axis in axes else Slide(1, 1, 0, 1, size) for axis, size in enumerate(of) if axis)
        if 0 in axes or (axes and pool is None):
            channels = (0,) if 0 in axes else None
            layers.append(Taken(name, channels, () if pool or axes == {0} else over_map, mixed=0 in axes))
        kept = [() if d in dims else factors for d, factors in enumerate(layout.dims)]
        result = Layout(of, tuple(f for d, f in enumerate(kept) if keepdim or d not in dims))
        if len(result.dims) == 2 and len(of) > 1 and set(of[1:]) == {1}:
            return plain((*layers, Flatten()), of[:1])
        return Made(tuple(layers), result)

    return handler


ARRANGEMENTS: dict[str, Arranger] = {
    **dict.fromkeys(("flatten", "view", "reshape", "squeeze", "unsqueeze", "unflatten"), _reshape),
    "permute": _permute,
    **dict.fromkeys(("transpose", "swapaxes", "swapdims"), _transpose),
    **dict.fromkeys(("movedim", "moveaxis"), _movedim),
    "pixel_shuffle": _pixel_shuffle,
    "pixel_unshuffle": _pixel_unshuffle,
    "channel_shuffle": _channel_shuffle,
    "getitem": _getitem,
    "select": _select,
    "narrow": _narrow,
    **{name: _parts(name) for name in ("chunk", "split", "tensor_split")},
    "unbind": _unbind,
    "roll": _roll,
    "flip": _flip,
    **dict.fromkeys(("cat", "concat", "concatenate"), _concat),
    "linear": products.linear,
    "layer_norm": _channel_norm("layer"),
    "rms_norm": _channel_norm("rms"),
    **{name: _softmax(name) for name in ("softmax", "log_softmax", "softmin")},
    "mean": _reduce("mean", "avg"),
    "amax": _reduce("amax", "max"),
    "sum": _reduce("sum", None),
    "multi_head_attention": products.multihead,
    "scaled_dot_product_attention": products.scaled_dot_product,
    **dict.fromkeys(("matmul", "bmm"), products.matmul),
    "einsum": products.einsum,
    "t": _reversed,
    "shifted_window_attention": products.window_attention,
    "_patch_merging_pad": products.patch_merging,
}
