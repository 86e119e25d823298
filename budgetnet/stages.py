"""What each stage of an architecture is made of and costs: the network at a glance, without torch."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from itertools import groupby
from typing import Any

from budgetnet.architecture import Architecture
from budgetnet.cost import alive
from budgetnet.graph import input_shapes, shapes_of
from budgetnet.layers import Shape
from budgetnet.notation import write_rooms


@dataclass(frozen=True)
class Stage:
    """A room of a network: ``stem``, ``stage1``, …, ``head``.

    notation: its pieces. output: shape after it, without the batch. params, macs: of its layers; macs at batch 1.
    activations: the most elements alive at once while one of its layers runs, at batch 1.
    """

    name: str
    notation: str
    output: Shape
    params: int
    macs: int
    activations: int

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return {**asdict(self), "output": list(self.output)}


def stages(architecture: Architecture) -> tuple[Stage, ...]:
    """The rooms in order. Params and MACs add up to ``cost``'s; its peak of activations is the highest of theirs.

    Raises ArchitectureError where the network cannot be built.
    """
    graph, entering = architecture.graph(), architecture.input_shape
    shapes = shapes_of(graph, entering)
    _, *elements = alive(graph, shapes, entering)
    written = write_rooms(architecture)
    found = []
    for name, group in groupby(range(len(graph)), key=lambda place: graph[place].name.partition(".")[0]):
        places = list(group)
        inputs = {place: input_shapes(graph[place], shapes, entering) for place in places}
        found.append(
            Stage(
                name,
                written[name],
                shapes[places[-1]],
                sum(graph[place].layer.params(*inputs[place]) for place in places),
                sum(graph[place].layer.macs(*inputs[place]) for place in places),
                max(elements[place] for place in places),
            )
        )
    return tuple(found)
