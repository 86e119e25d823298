"""torch's matrix products, and attention in its several forms → records, and the layout of the result."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

from torch import Tensor

from budgetnet.layers import Linear, Shape
from budgetnet.layout import BATCH, BATCH_AXIS, Factor, Layout
from budgetnet.made import Made
from budgetnet.operators import Map, Unknown
from budgetnet.traced import Attention, CellLinear, Product, Taken
from budgetnet.views import Slide, view_of


def linear(out: Shape, input: Map, weight: Tensor, bias: Tensor | None = None) -> Made:
    if isinstance(weight, Map):
        raise Unknown("has a weight that depends on the input")
    return _over_channels(input.layout, weight.shape[0], bias is not None)


def _over_channels(layout: Layout, width: int, bias: bool) -> Made:
    """A matrix product with weights over the last dimension."""
    last = len(layout.dims) - 1
    if layout.axis(last) != 0:
        raise Unknown("is known over the channels only")
    if len(layout.of) == 1:
        return Made((Linear(width, bias),), layout.resized(last, width))
    return Made((CellLinear(width, bias),), layout.resized(last, width))


def multihead(
    out: Sequence[Shape], query: Map, key: Any, value: Any, *rest: Any, **module: Any
) -> tuple[Made | None, ...]:
    """nn.MultiheadAttention: four projections and two products."""
    maps = [each for each in (query, key, value) if isinstance(each, Map)]
    if len(maps) < 3 or any(each.layout != query.layout for each in maps):
        raise Unknown("attends to something else than its own input")
    layout, width = query.layout, module["embed_dim"]
    along = 1 if module["batch_first"] else 0
    tokens = prod(layout.shape) // width // BATCH
    products = 4 * tokens * width * width + 2 * tokens * layout.shape[along] * width
    return (Made((Attention("MultiheadAttention", width, products, layout.reach([along])),), layout), None)


def scaled_dot_product(out: Shape, query: Map, key: Any, value: Any, *rest: Any, **more: Any) -> Made:
    """Each position of the second last dimension attends to all of that dimension."""
    if not (isinstance(key, Map) and isinstance(value, Map)):
        raise Unknown("attends to something that does not depend on the input")
    layout = query.layout
    if not layout == key.layout == value.layout:
        raise Unknown("attends to something else than its own input")
    products = 2 * prod(layout.shape) // BATCH * layout.shape[-2]
    return Made((Attention("attention", layout.of[0], products, layout.reach([query.rank - 2])),), layout)


def matmul(out: Shape, input: Any, other: Any) -> Made:
    """With weights, over the channels; of two maps, what attention does by hand."""
    if not isinstance(input, Map):
        raise Unknown("multiplies weights with the map")
    if isinstance(other, Tensor):
        if other.ndim != 2:
            raise Unknown("has weights of another form than a matrix")
        return _over_channels(input.layout, other.shape[1], False)
    if input.rank != other.rank:
        raise Unknown("multiplies maps of different ranks")
    shared = [chr(ord("a") + dim) for dim in range(input.rank - 2)]
    return _product("matmul", input, other, [*shared, "i", "k"], [*shared, "k", "j"], [*shared, "i", "j"])


def einsum(out: Shape, equation: str, *operands: Any) -> Made:
    given, _, result = equation.partition("->")
    labels = [each.split() if " " in each.strip() else list(each.strip()) for each in (*given.split(","), result)]
    if len(operands) != 2 or not all(isinstance(each, Map) for each in operands) or "." in equation or not result:
        raise Unknown("is known for two maps and a result that is written out")
    return _product("einsum", *operands, *labels)


def _product(
    name: str, first: Map, second: Map, labels: Sequence[str], others: Sequence[str], result: Sequence[str]
) -> Made:
    """A product whose cells are the first map's: what the second has along other cells is seen from each of them.

    ``labels``, ``others``, ``result``: a name for each dimension, as in einsum.
    """
    a, b = first.layout, second.layout
    own = {label: dim for dim, label in enumerate(labels)}
    theirs = {label: dim for dim, label in enumerate(others)}
    moving = [label for label in result if label in own and a.axes([own[label]]) - {0}]
    for label, dim in own.items():
        if a.axes([dim]) - {0} and (label not in result or (label in theirs and b.dims[theirs[label]] != a.dims[dim])):
            raise Unknown("sums over cells of its first map")
    mixed = [dim for label, dim in theirs.items() if label not in moving and b.axes([dim]) - {0}]
    if BATCH_AXIS in b.axes(mixed) or a.of[1:] != b.of[1:]:
        raise Unknown("multiplies maps of different sizes")
    size = {label: a.shape[dim] for label, dim in own.items()} | {label: b.shape[dim] for label, dim in theirs.items()}
    width = prod(size[label] for label in result if label not in moving)
    dims, step = [], width
    for label in result:
        if label in moving:
            dims.append(a.dims[own[label]])
        else:
            step //= size[label]
            dims.append((Factor(0, size[label], step),) if size[label] > 1 else ())
    layer = Product(name, width, prod(size.values()) // BATCH)
    seen = Taken(name, None, b.reach(mixed), mixed=True)
    return Made((layer,), Layout((width, *a.of[1:]), tuple(dims)), ((), (seen,)))


def window_attention(
    out: Shape,
    input: Map,
    qkv_weight: Tensor,
    proj_weight: Tensor,
    relative_position_bias: Tensor,
    window_size: Sequence[int],
    num_heads: int,
    shift_size: Sequence[int],
    *rest: Any,
    **more: Any,
) -> Made:
    """torchvision's Swin: windows of a map with its channels last, shifted, with cells of the far side masked out."""
    height, width, channels = input.layout.shape[1:]
    if input.layout.axis(3) != 0:
        raise Unknown("needs a map with its channels last")
    window = prod(window_size)
    padded = [-(-size // side) * side for size, side in zip((height, width), window_size, strict=True)]
    cells = prod(padded)
    products = 4 * cells * channels * channels + 2 * cells * window * channels
    seen = tuple(
        view_of(_windows(size, side, shift if side < whole else 0))
        for size, side, shift, whole in zip((height, width), window_size, shift_size, padded, strict=True)
    )
    return Made((Attention("window attention", channels, products, seen),), input.layout)


def _windows(size: int, side: int, shift: int) -> list[list[int]]:
    """Along an axis: the cells in the same window, of the same side of the map, once all have moved by ``shift``."""
    padded = -(-size // side) * side

    def group(cell: int) -> tuple[int, int]:
        at = (cell - shift) % padded
        return at // side, (at >= padded - shift) + (at >= padded - side) if shift else 0

    groups = [group(cell) for cell in range(size)]
    return [[other for other in range(size) if groups[other] == groups[cell]] for cell in range(size)]


def patch_merging(out: Shape, input: Map) -> Made:
    """torchvision's Swin: every 2 × 2 cells into one with four times the channels; channels last."""
    height, width, channels = input.layout.shape[1:]
    if input.layout.axis(3) != 0:
        raise Unknown("needs a map with its channels last")
    seen = tuple(Slide(2, 2, 0, 1, -(-size // 2)) for size in (height, width))
    layer = Taken("patch merging", tuple(range(channels)) * 4, seen, mixed=True)
    of = layer.out_shape(input.layout.of)
    return Made((layer,), Layout.plain(of).permuted((0, 2, 3, 1)))
