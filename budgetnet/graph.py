"""The graph that every fold walks: layers in topological order, named as in the state dict, with their shapes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from budgetnet.errors import ArchitectureError
from budgetnet.layers import Add, Again, Call, Layer, Part, Residual, Shape
from budgetnet.views import View


@dataclass(frozen=True, slots=True)
class Counted(Layer):
    """A layer whose own formula does not say its ``learned`` parameters: shared ones count once, at first sight."""

    layer: Layer
    learned: int

    @property
    def in_place(self) -> bool:
        return self.layer.in_place

    def out_shape(self, *shapes: Shape) -> Shape:
        return self.layer.out_shape(*shapes)

    def params(self, *shapes: Shape) -> int:
        return self.learned

    def macs(self, *shapes: Shape) -> int:
        return self.layer.macs(*shapes)

    def views(self, shape: Shape) -> tuple[View, ...] | None:
        return self.layer.views(shape)

    def strict_views(self, shape: Shape) -> tuple[View, ...] | None:
        return self.layer.strict_views(shape)

    def followed(self, *shapes: Shape) -> tuple[int, ...]:
        return self.layer.followed(*shapes)

    def call(self, *shapes: Shape) -> Call:
        return self.layer.call(*shapes)


def bare(layer: Layer) -> Layer:
    """The layer itself, where its parameters were counted apart."""
    return layer.layer if isinstance(layer, Counted) else layer


@dataclass(frozen=True, slots=True)
class Node:
    """One layer of a graph. ``name`` is its path in the state dict, and ``@2`` behind it where it is applied for the
    second time; ``inputs`` index earlier nodes, -1 the image."""

    name: str
    layer: Layer
    inputs: tuple[int, ...]


Graph = tuple[Node, ...]
"""Layers in topological order; the last one is the output."""


def graph_of(parts: Sequence[tuple[str, Part]]) -> Graph:
    """Named parts, applied one after the other, as a graph of plain layers."""
    nodes: list[Node] = []
    last = -1
    origins = origins_of([part for _, part in parts])
    for place, ((name, part), origin) in enumerate(zip(parts, origins, strict=True)):
        if isinstance(part, Residual):
            last = _append_residual(nodes, name, part, last)
        elif isinstance(part, Again):
            first, layer = parts[origin]
            assert isinstance(layer, Layer)
            last = _append(nodes, f"{first}@{origins[: place + 1].count(origin)}", Counted(layer, 0), last)
        else:
            last = _append(nodes, name, part, last)
    return tuple(nodes)


def origins_of(parts: Sequence[Part]) -> list[int]:
    """For every part the place of the layer that is applied: its own, but for those that repeat another."""
    origins: list[int] = []
    for place, part in enumerate(parts):
        origins.append(origins[place - part.back] if isinstance(part, Again) else place)
    return origins


def _append(nodes: list[Node], name: str, layer: Layer, *inputs: int) -> int:
    nodes.append(Node(name, layer, inputs))
    return len(nodes) - 1


def _append_residual(nodes: list[Node], name: str, part: Residual, source: int) -> int:
    ends = []
    for branch, layers in (("body", part.body), ("shortcut", part.shortcut)):
        end = source
        for index, layer in enumerate(layers):
            end = _append(nodes, f"{name}.{branch}.{index}", layer, end)
        ends.append(end)
    return _append(nodes, name, Add(), *ends)


def shape_after(parts: Sequence[Part], shape: Shape) -> Shape:
    """Shape of a map of ``shape`` after parts applied in turn. Raises ArchitectureError where one cannot be applied."""
    return [shape, *shapes_along(parts, shape)][-1]


def shapes_along(parts: Sequence[Part], shape: Shape) -> Iterator[Shape]:
    """The shape after every part. Raises ArchitectureError where one cannot be applied."""
    for origin in origins_of(parts):
        part = parts[origin]
        if isinstance(part, Residual):
            shape = Add().out_shape(shape_after(part.body, shape), shape_after(part.shortcut, shape))
        else:
            assert isinstance(part, Layer)
            shape = part.out_shape(shape)
        yield shape


def shapes_of(graph: Graph, input_shape: Shape) -> list[Shape]:
    """Output shape of every node. Raises ArchitectureError, naming the layer, where one cannot be applied."""
    shapes: list[Shape] = []
    for node in graph:
        inputs = input_shapes(node, shapes, input_shape)
        try:
            shapes.append(node.layer.out_shape(*inputs))
        except ArchitectureError as error:
            raise ArchitectureError(f"{node.name}: {error}") from None
    return shapes


def input_shapes(node: Node, shapes: Sequence[Shape], input_shape: Shape) -> list[Shape]:
    """Shapes of a node's inputs, given the shapes of the nodes before it."""
    return [input_shape if index < 0 else shapes[index] for index in node.inputs]
