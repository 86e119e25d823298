"""What a network costs, in closed form: params, MACs and peak activations, without torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import prod

from budgetnet.architecture import Architecture, Block, Head, Style, Transition, expand
from budgetnet.layers import Graph, Shape, graph_of, input_shapes, shapes_of


@dataclass(frozen=True, slots=True)
class Cost:
    """Params: elements of all learned parameters. MACs: multiply-accumulates of convolutions and matrix products at
    batch 1. Peak activations: the most elements alive at once at batch 1 (see ``peak_activations``)."""

    params: int
    macs: int
    peak_activations: int

    def then(self, other: Cost) -> Cost:
        """Cost of one network after the other; only the tensor between them is alive at the seam."""
        return Cost(
            self.params + other.params,
            self.macs + other.macs,
            max(self.peak_activations, other.peak_activations),
        )


def graph_cost(graph: Graph, input_shape: Shape) -> Cost:
    """Cost of a graph of layers on an input ``(C, *map)``. Raises ArchitectureError if a layer cannot be applied."""
    shapes = shapes_of(graph, input_shape)
    params = macs = 0
    for node in graph:
        inputs = input_shapes(node, shapes, input_shape)
        params += node.layer.params(*inputs)
        macs += node.layer.macs(*inputs)
    return Cost(params, macs, peak_activations(graph, shapes, input_shape))


def peak_activations(graph: Graph, shapes: Sequence[Shape], input_shape: Shape) -> int:
    """Most elements alive at once when layers run in order at batch 1.

    Alive while a layer runs: every tensor that it or a later layer reads, and its own output – unless it works in
    place (norm, activation, dropout, flatten, sum) on a first input that nobody reads afterwards.
    """
    last_use = {index: position for position, node in enumerate(graph) for index in node.inputs}
    alive = {-1: prod(input_shape)}
    peak = alive[-1]
    for position, node in enumerate(graph):
        first = node.inputs[0]
        if node.layer.in_place and last_use[first] == position:
            del alive[first]
        alive[position] = prod(shapes[position])
        peak = max(peak, sum(alive.values()))
        alive = {index: size for index, size in alive.items() if last_use.get(index, len(graph)) > position}
    return peak


def cost(architecture: Architecture) -> Cost:
    """Cost of a whole architecture, block by block; blocks seen before are answered from memory."""
    shape = architecture.input_shape
    total = Cost(0, 0, prod(shape))
    for piece in (*architecture.body, architecture.head):
        shape, part = _piece_cost(piece, architecture.style, shape)
        total = total.then(part)
    return total


@lru_cache(maxsize=1 << 17)
def _piece_cost(piece: Block | Transition | Head, style: Style, shape: Shape) -> tuple[Shape, Cost]:
    graph = graph_of([(str(index), part) for index, part in enumerate(expand(piece, style, shape))])
    return shapes_of(graph, shape)[-1], graph_cost(graph, shape)
