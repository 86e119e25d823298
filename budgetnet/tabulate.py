"""From a network to its table of receptive fields and cost.

Reads a graph of layers, so it serves an Architecture (without torch) and any traced ``nn.Module`` alike.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from math import prod
from typing import TYPE_CHECKING

from budgetnet.architecture import Architecture
from budgetnet.columns import type_name
from budgetnet.cost import peak_activations
from budgetnet.errors import ModelError
from budgetnet.fields import Axis, Field, extent, fields_of, image_axis
from budgetnet.graph import Graph, Node, bare, input_shapes, shapes_of
from budgetnet.layers import AdaptivePool, Conv, Flatten, Layer, Pool, Shape
from budgetnet.notation import parse
from budgetnet.table import ReceptiveFieldTable, Row
from budgetnet.traced import Pad, Taken, TransposedConv

if TYPE_CHECKING:
    from torch import nn

DEFAULT_INPUT: Shape = (1, 28, 28)


def receptive_field(
    network: Architecture | nn.Module | str,
    input_shape: Sequence[int] | None = None,
    title: str | None = None,
    *,
    strict: bool = False,
) -> ReceptiveFieldTable:
    """The table of an Architecture, its notation, or any ``nn.Module`` (run once on zeros, and left as it was).

    ``input_shape`` is (channels, height, width), without the batch; by default what the network itself says, else
    (1, 28, 28). ``title`` is by default the notation or the class. ``strict``: follow gates and statistics of the map,
    too. Raises ArchitectureError, ModelError or TraceError.
    """
    if isinstance(network, str):
        network = parse(network)
    if isinstance(network, Architecture):
        title = title or str(network)
        if input_shape is not None:
            network = replace(network, input_shape=tuple(input_shape))
        return tabulate(network.graph(), network.input_shape, title, strict=strict)
    return _of_module(network, input_shape, title or type(network).__name__, strict)


def _of_module(module: nn.Module, input_shape: Sequence[int] | None, title: str, strict: bool) -> ReceptiveFieldTable:
    from torch.nn import Module

    from budgetnet.trace import trace, unused_params

    if not isinstance(module, Module):
        raise ModelError(f"an Architecture, its notation or an nn.Module is needed, but got a {type(module).__name__}")
    shape = input_shape_of(module, input_shape)
    graph = trace(module, shape)
    return tabulate(graph, shape, title, unused_params(module, graph, shape), strict=strict)


def input_shape_of(module: nn.Module, given: Sequence[int] | None = None) -> Shape:
    """``given``; else the module's own ``input_shape``; else (1, 28, 28). Raises ModelError if that is no shape."""
    shape = given if given is not None else getattr(module, "input_shape", DEFAULT_INPUT)
    fits = isinstance(shape, Sequence) and len(shape) > 0 and all(isinstance(n, int) and n > 0 for n in shape)
    if not fits:
        raise ModelError(f"{type(module).__name__}: input_shape must be like (1, 28, 28), but is {shape!r}")
    return tuple(shape)


def tabulate(
    graph: Graph, input_shape: Shape, title: str, unused_params: int = 0, *, strict: bool = False
) -> ReceptiveFieldTable:
    """The table of a graph of layers. ``unused_params`` are added to its own."""
    shapes = shapes_of(graph, input_shape)
    seen_by = fields_of(graph, input_shape, strict=strict)
    rows = tuple(
        _row(node, input_shapes(node, shapes, input_shape), shape, field, input_shape[1:])
        for node, shape, field in zip(graph, shapes, seen_by, strict=True)
    )
    feature = _last_feature_map(graph, shapes, input_shape)
    field = tuple(map(image_axis, input_shape[1:])) if feature < 0 else seen_by[feature]
    seen = extent(field)
    joined = list(_branching(graph, shapes, input_shape, seen_by))
    return ReceptiveFieldTable(
        title=title,
        input_shape=input_shape,
        rows=rows,
        feature_layer="the input" if feature < 0 else graph[feature].name,
        jump=tuple(axis.jump for axis in field),
        receptive_field=seen,
        output_receptive_field=extent(seen_by[-1]),
        covers_input=all(size >= pixels for size, pixels in zip(seen, input_shape[1:], strict=True)),
        params=sum(row.params for row in rows) + unused_params,
        macs=sum(row.macs for row in rows),
        peak_activations=peak_activations(graph, shapes, input_shape),
        unused_params=unused_params,
        strictly_global=tuple(
            node.name for node in graph if _is_strictly_global(node, input_shapes(node, shapes, input_shape))
        ),
        strict=strict,
        joins=len(joined) if all(_is_even(field) for _, branches in joined for field in branches) else 0,
        misaligned=tuple(name for name, branches in joined if _are_apart(branches)),
        fields=tuple(seen_by),
    )


def _branching(
    graph: Graph, shapes: Sequence[Shape], input_shape: Shape, fields: Sequence[Field]
) -> Iterator[tuple[str, list[Field]]]:
    """Joins by name, with the fields of their branches."""
    source = tuple(map(image_axis, input_shape[1:]))
    for node in graph:
        followed = [node.inputs[i] for i in node.layer.followed(*input_shapes(node, shapes, input_shape))]
        if len(followed) > 1:
            yield node.name, [fields[index] if index >= 0 else source for index in followed]


def _are_apart(branches: Sequence[Field]) -> bool:
    """Whether cells of branches are centred on different pixels (Araujo et al. 2019, "Alignment issues")."""
    return len({tuple(map(_grid, field)) for field in branches if _is_even(field)}) > 1


def _is_even(field: Field) -> bool:
    """Whether the cells lie at equal distances; behind a resize they may not."""
    return all(axis.jump is not None for axis in field)


def _grid(axis: Axis) -> tuple[float, int | None]:
    """Centre of the first field, in pixels, and the distance to the next."""
    span = axis.span(0)
    assert span is not None
    return sum(span) / 2, axis.jump


def _is_strictly_global(node: Node, inputs: Sequence[Shape]) -> bool:
    """Whether a gate or a statistic of the map lets every cell see more than the values do."""
    gated = len(node.layer.followed(*inputs)) < len(inputs)
    return gated or (node.layer.strict_views(inputs[0]) != node.layer.views(inputs[0]) and prod(inputs[0][1:]) > 1)


def _row(node: Node, inputs: Sequence[Shape], output: Shape, field: Field, seen: Shape) -> Row:
    """``seen``: the pixels along each axis of the input."""
    layer = bare(node.layer)
    window = layer if isinstance(layer, Conv | Pool | TransposedConv) else None
    return Row(
        name=node.name,
        type=type_name(node.layer),
        kernel=window.kernel if window else None,
        stride=window.stride if window else None,
        padding=window.padding if window else layer.before if isinstance(layer, Pad) else None,
        dilation=window.dilation if window else None,
        groups=layer.groups if isinstance(layer, Conv | TransposedConv) else None,
        output=output,
        jump=tuple(axis.jump for axis in field),
        receptive_field=extent(field),
        start=tuple(axis.start for axis in field),
        params=node.layer.params(*inputs),
        macs=node.layer.macs(*inputs),
        sees_all=all(set(axis.intervals) == {(0, pixels - 1)} for axis, pixels in zip(field, seen, strict=True)),
    )


def _last_feature_map(graph: Graph, shapes: Sequence[Shape], input_shape: Shape) -> int:
    """The node before the first global pooling or flattening on the way to the output; -1 for the input itself.

    Where branches join, the way is the one with the largest map: a squeeze-and-excite gate is no end of the features.
    """
    node, feature = len(graph) - 1, len(graph) - 1
    while node >= 0:
        inputs = input_shapes(graph[node], shapes, input_shape)
        cells = [prod(shape[1:]) for shape in inputs]
        source = graph[node].inputs[cells.index(max(cells))]
        if _ends_the_map(graph[node].layer, max(inputs, key=lambda shape: prod(shape[1:]))):
            feature = source
        node = source
    return feature


def _ends_the_map(layer: Layer, shape: Shape) -> bool:
    if isinstance(layer, AdaptivePool):
        return set(layer.output) == {1}
    if isinstance(layer, Taken) and layer.seen and prod(shape[1:]) > 1:
        return all(view.outputs == 1 for view in layer.seen)  # a class token, say
    covering = isinstance(layer, Pool) and layer.kind == "avg" and layer.kernel == shape[1:]
    return covering or isinstance(layer, Flatten)
