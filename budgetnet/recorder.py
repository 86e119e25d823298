"""The operations that torch.fx lists, run one after the other, and the layers that they amount to."""

from __future__ import annotations

import operator
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, fx, nn

from budgetnet.errors import FOREIGN, ArchitectureError, ModelError, TraceError, first_line
from budgetnet.graph import Counted, Graph, Node
from budgetnet.layers import Layer, Shape
from budgetnet.layout import BATCH, Layout
from budgetnet.made import Made, Result
from budgetnet.meaning import KNOWN, as_map, meaning
from budgetnet.operators import MODULES, Map, Unknown, settings, torch_layer, written

Modules = Mapping[str, nn.Module]
"""All modules by their paths."""


def zeros(module: nn.Module, input_shape: Shape) -> Tensor:
    """A batch of zeros where, and of the type that, the module computes."""
    parameter = next((item for item in module.parameters() if item.is_floating_point()), torch.empty(0))
    return torch.zeros(BATCH, *input_shape, device=parameter.device, dtype=parameter.dtype)


def run(place: str, input_shape: Shape, forward: Callable[[], Any]) -> Any:
    try:
        return forward()
    except FOREIGN as error:
        raise ModelError(
            f"{place}: forward fails for an input of {written(input_shape)}: {first_line(error)}"
        ) from None


@dataclass(frozen=True)
class _Held:
    """A tensor that depends on the input: the step that makes its map (-1: the input), and how it holds it."""

    source: int
    layout: Layout


@dataclass(frozen=True)
class _Step:
    """A node before it is known whether the output needs it, with the parameters that it reads."""

    name: str
    layer: Layer
    inputs: tuple[int, ...]
    shapes: tuple[Shape, ...]
    parameters: tuple[nn.Parameter, ...]


class Recorder:
    """Runs the operations in order and keeps a step for each layer that depends on the input."""

    def __init__(self, module: nn.Module, input_shape: Shape) -> None:
        self.module = module
        self.modules = dict(module.named_modules(remove_duplicate=False))
        self.input_shape = input_shape
        self.steps: list[_Step] = []
        self.result = -1
        self.nodes: dict[str, tuple[fx.Node, int | None]] = {}  # by the layer that ends one, or one of its results
        self._values: dict[fx.Node, Any] = {}
        self._held: dict[fx.Node, _Held] = {}  # tensors that depend on the input
        self._parts: dict[fx.Node, tuple[_Held | None, ...]] = {}  # … of operations with several results
        self._learned: dict[fx.Node, tuple[nn.Parameter, ...]] = {}  # of other tensors: what they were computed from
        self._names: Counter[str] = Counter()
        self._own: Counter[str] = Counter()  # operations that are no modules, by the call of the module that does them
        self._counted = False

    def visit(self, node: fx.Node) -> None:
        """Run one operation, and keep the layers that it amounts to."""
        if not self._counted:
            self._count_own(node.graph)
        if node.op == "placeholder":
            self._placeholder(node)
        elif node.op == "get_attr":
            self._attribute(node)
        elif node.op == "output":
            self._output(node)
        else:
            self._operation(node)

    def _count_own(self, graph: fx.Graph) -> None:
        for node in graph.nodes:
            if node.op in ("call_function", "call_method") and _operator(node) in _NAMED:
                self._own[_calling(node)[0]] += 1
        self._counted = True

    def _placeholder(self, node: fx.Node) -> None:
        if not self._values:
            make = partial(zeros, self.module, self.input_shape)
            self._values[node] = run(type(self.module).__name__, self.input_shape, make)
            self._held[node] = _Held(-1, Layout.plain(self.input_shape))
        elif node.args:
            self._values[node] = node.args[0]
        else:
            raise ModelError(f"{type(self.module).__name__}: forward needs a second input, {node.target!r}")

    def _attribute(self, node: fx.Node) -> None:
        value = operator.attrgetter(str(node.target))(self.module)
        self._values[node] = value
        self._learned[node] = (value,) if isinstance(value, nn.Parameter) else ()

    def _output(self, node: fx.Node) -> None:
        output = node.args[0]
        if not isinstance(output, fx.Node) or not isinstance(self._values[output], Tensor):
            value = self._values[output] if isinstance(output, fx.Node) else output
            raise TraceError(
                f"{type(self.module).__name__}: forward must return one tensor, but returns a {type(value).__name__}"
            )
        if output not in self._held:
            raise TraceError(f"{type(self.module).__name__}: the output of forward does not depend on its input")
        held = self._held[output]
        self.result = held.source
        with suppress(ArchitectureError):  # a tensor that cannot be read as a map stays as it is held
            self.result = self._append("output", as_map(held.layout), (held.source,), ())

    def _operation(self, node: fx.Node) -> None:
        place = self._place(node)
        value = run(place, self.input_shape, lambda: self._call(node))
        self._values[node] = value
        if not _holds_tensor(value):
            return
        if not any(source in self._held or source in self._parts for source in node.all_input_nodes):
            self._learned[node] = self._parameters(node)
        elif node.all_input_nodes[0] in self._parts:
            self._pick(node, place)
        else:
            self._make(node, place, value)

    def _pick(self, node: fx.Node, place: str) -> None:
        """One of several results of an operation."""
        parts, index = self._parts[node.all_input_nodes[0]], node.args[1] if len(node.args) > 1 else None
        if node.target is not operator.getitem or not isinstance(index, int):
            raise TraceError(
                f"{place}: {_described(node, self.modules)} takes several results at once, which is not known"
            )
        part = parts[index]
        if part is None:
            what = _described(node.all_input_nodes[0], self.modules)
            raise TraceError(f"{place}: result {index} of the operator {what} is not known")
        self._held[node] = part

    def _make(self, node: fx.Node, place: str, value: Any) -> None:
        """Keep the layers of an operation, and how torch holds what it makes."""
        inputs: list[_Held] = []
        fx.node.map_arg((node.args, node.kwargs), lambda n: inputs.append(self._held[n]) if n in self._held else None)
        result = self._result(node, place, value, inputs)
        makes = result if isinstance(result, tuple) else (result,)
        name = self._unique(self._name(node)) if any(made and (made.layers or made.each) for made in makes) else ""
        values = value if isinstance(value, list | tuple) else (value,)
        held: list[_Held | None] = []
        for index, (made, tensor) in enumerate(zip(makes, values, strict=True)):
            parted = f"{name}[{index}]" if name and sum(map(bool, makes)) > 1 else name
            held.append(self._keep(node, parted, made, inputs, tuple(tensor.shape)) if made else None)
            if made and held[-1] and held[-1].source >= 0:
                self.nodes.setdefault(self.steps[held[-1].source].name, (node, index if len(makes) > 1 else None))
        if isinstance(result, tuple):
            self._parts[node] = tuple(held)
        else:
            assert held[0] is not None
            self._held[node] = held[0]
            if _overwrites(node, self.modules) and isinstance(node.args[0], fx.Node):
                self._held[node.args[0]] = held[0]  # whoever reads the argument from here on reads the result
                self._check_views(node, place)

    def _check_views(self, node: fx.Node, place: str) -> None:
        """Raise TraceError where what an operation has written over is read through another view of it later on."""
        written_over = _storage(self._values[node])
        for other in self._held:
            shares = other not in (node, node.args[0]) and _storage(self._values[other]) == written_over
            if shares and any(node < user for user in other.users):
                what = _described(node, self.modules)
                raise TraceError(f"{place}: {what} writes over what {other.name} reads, which cannot be followed")

    def _call(self, node: fx.Node) -> Any:
        args, kwargs = fx.node.map_arg((node.args, node.kwargs), self._values.__getitem__)
        if node.op == "call_module":
            return self.modules[str(node.target)](*args, **kwargs)
        if node.op == "call_method":
            return getattr(args[0], str(node.target))(*args[1:], **kwargs)
        return node.target(*args, **kwargs)  # type: ignore[operator]

    def _result(self, node: fx.Node, place: str, value: Any, inputs: list[_Held]) -> Result:
        """What an operation whose result is ``value`` amounts to. Raises TraceError where that is not known."""
        args, kwargs = fx.node.map_arg((node.args, node.kwargs), self._argument)
        if node.op == "call_module":
            kwargs = settings(self.modules[str(node.target)])
        try:
            return meaning(_operator(node, self.modules), value, [held.layout for held in inputs], args, kwargs)
        except (Unknown, ArchitectureError, TypeError, ValueError, LookupError) as error:
            what = _described(node, self.modules)
            why = "is not known" if isinstance(error, Unknown) else "has arguments that its record does not know"
            why = str(error) if isinstance(error, Unknown) and str(error) else why
            if isinstance(error, ArchitectureError):
                raise TraceError(f"{place}: {what}: {error}") from None
            raise TraceError(f"{place}: the operator {what} {why}, so its layers cannot be read off") from None

    def layout(self, node: fx.Node, part: int | None) -> Layout:
        """How torch holds what a node makes, or one of its results."""
        held = self._held[node] if part is None else self._parts[node][part]
        assert held is not None
        return held.layout

    def _argument(self, node: fx.Node) -> Any:
        return Map(self._held[node].layout) if node in self._held else self._values[node]

    def _keep(self, node: fx.Node, name: str, made: Made, inputs: list[_Held], shape: Shape) -> _Held:
        """Append the layers one after the other; the result must have torch's shape."""
        sources = tuple(held.source for held in inputs)
        parameters = self._parameters(node)
        if made.each:
            sources = tuple(
                self._append(f"{name}:{index}", layers, (source,), ())
                for index, (source, layers) in enumerate(zip(sources, made.each, strict=True))
            )
        source = self._append(name, made.layers, sources, parameters)
        of = self._shape(source)
        if of != made.layout.of or made.layout.shape != shape:
            what, has = _described(node, self.modules), written(made.layout.shape[1:])
            raise TraceError(f"{name}: {what} makes {written(shape[1:])} where its record has {has}")
        return _Held(source, made.layout)

    def _append(
        self, name: str, layers: tuple[Layer, ...], sources: tuple[int, ...], parameters: tuple[nn.Parameter, ...]
    ) -> int:
        """The step that ends some layers, one after the other."""
        for position, layer in enumerate(layers):
            shapes = tuple(map(self._shape, sources))
            try:
                layer.out_shape(*shapes)
            except ArchitectureError as error:
                raise TraceError(f"{name}: {error}") from None
            self.steps.append(_Step(f"{name}:{position}" if position else name, layer, sources, shapes, parameters))
            sources, parameters = (len(self.steps) - 1,), ()
        return sources[0]

    def _shape(self, source: int) -> Shape:
        if source < 0:
            return self.input_shape
        step = self.steps[source]
        return step.layer.out_shape(*step.shapes)

    def _parameters(self, node: fx.Node) -> tuple[nn.Parameter, ...]:
        own = self.modules[str(node.target)].parameters() if node.op == "call_module" else ()
        return (*own, *(item for source in node.all_input_nodes for item in self._learned.get(source, ())))

    def _place(self, node: fx.Node) -> str:
        return self._name(node) or type(self.module).__name__

    def _name(self, node: fx.Node) -> str:
        """A module's path; an operation takes the path of its module, with its own name where that does several."""
        if node.op == "call_module":
            return str(node.target)
        call, path = _calling(node)
        if path and self._own[call] == 1:
            return path
        return f"{path}.{_operator(node)}" if path else _operator(node)

    def _unique(self, name: str) -> str:
        self._names[name] += 1
        return name if self._names[name] == 1 else f"{name}@{self._names[name]}"


def used_graph(steps: list[_Step], result: int) -> Graph:
    """The steps that the result needs, as a graph; a parameter counts where it is first read."""
    needed: set[int] = set()
    pending = [result]
    while pending:
        index = pending.pop()
        if index >= 0 and index not in needed:
            needed.add(index)
            pending.extend(steps[index].inputs)
    position = {-1: -1, **{index: place for place, index in enumerate(sorted(needed))}}
    seen: set[int] = set()
    graph = []
    for index in sorted(needed):
        step = steps[index]
        new = {id(item): item.numel() for item in step.parameters if id(item) not in seen}
        seen |= set(new)
        learned = sum(new.values())
        layer = step.layer if step.layer.params(*step.shapes) == learned else Counted(step.layer, learned)
        graph.append(Node(step.name, layer, tuple(position[source] for source in step.inputs)))
    return tuple(graph)


# --- naming operations ------------------------------------------------------------------------------------------------


_NAMED = KNOWN - {"getitem"}
"""Operators that lend a layer their name."""


def _holds_tensor(value: Any) -> bool:
    if isinstance(value, dict):
        value = tuple(value.values())
    return isinstance(value, Tensor) or (isinstance(value, list | tuple) and any(map(_holds_tensor, value)))


def _storage(tensor: Tensor) -> int:
    """The same for all views of one piece of memory, on every device."""
    return int(tensor.untyped_storage()._cdata)


def _calling(node: fx.Node) -> tuple[str, str]:
    """The call of the module whose forward does this operation (unique), and the module's path."""
    stack = node.meta.get("nn_module_stack")
    if not stack:
        return "", ""
    call, (path, _) = list(stack.items())[-1]
    return call, path


def _operator(node: fx.Node, modules: Modules | None = None) -> str:
    """What an operation is called, the same for a module, a function and a method: "relu" for ``x.relu_()``."""
    if node.op == "call_module" and modules is not None:
        kind = torch_layer(modules[str(node.target)])
        return MODULES[kind.__name__][0] if kind is not None and kind.__name__ in MODULES else ""
    if node.op == "call_function":
        home = (getattr(node.target, "__module__", None) or "torch").partition(".")[0]
        if home not in ("torch", "torchvision", "_operator"):
            return f"{home}.{getattr(node.target, '__name__', node.target)}"
        name = str(getattr(node.target, "__name__", node.target))
        return name[1:] if home == "_operator" and name in _IN_PLACE else name.rstrip("_")
    return str(node.target).rstrip("_")


def _described(node: fx.Node, modules: Modules) -> str:
    """What a person calls the operation."""
    if node.op == "call_module":
        return f"nn.{type(modules[str(node.target)]).__name__}"
    if node.op == "call_method":
        return f"Tensor.{node.target}"
    return str(getattr(node.target, "__name__", node.target))


_IN_PLACE = frozenset({"iadd", "isub", "imul", "itruediv"})


def _overwrites(node: fx.Node, modules: Modules) -> bool:
    """Whether an operation writes its result over its first argument."""
    if not node.args:
        return False
    if node.op == "call_module":
        return bool(getattr(modules[str(node.target)], "inplace", False))
    name = str(getattr(node.target, "__name__", node.target))
    return name in _IN_PLACE or name.endswith("_") or node.kwargs.get("inplace") is True
