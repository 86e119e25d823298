"""Any ``torch.nn.Module`` as the graph of layers that every fold reads: what ``rf`` shows for networks not built here.

Mechanism: torch.fx lists the operations of ``forward``; they run once, on zeros, so every shape is torch's own; each
becomes a record of ``layers`` whose output shape must agree. Limits: a ``forward`` that branches on its input cannot be
listed; an operator without a record is an error that names it, for nothing is passed over in silence.
"""

from __future__ import annotations

import operator
import warnings
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from inspect import Parameter, signature
from typing import Any

import torch
from torch import fx, nn
from torch.nn.parameter import is_lazy

from budgetnet.errors import FOREIGN, ModelError, TraceError, first_line
from budgetnet.graph import Graph, shapes_of
from budgetnet.layers import Shape
from budgetnet.layout import Layout
from budgetnet.operators import torch_layer
from budgetnet.recorder import Recorder, run, used_graph, zeros


def trace(module: nn.Module, input_shape: Shape) -> Graph:
    """The layers of ``module`` in topological order for one input of ``input_shape`` (without the batch).

    The module is run in eval mode and left as it was. Names are its paths in the state dict; an operation that is no
    module is named after the module whose forward does it. Raises ModelError when ``forward`` fails on such an input,
    TraceError when its graph cannot be read off.
    """
    module = _in_a_container(module)
    with undisturbed(module):
        recorder = _recorded(module, input_shape)
    graph = used_graph(recorder.steps, recorder.result)
    if not graph:
        raise TraceError(f"{type(module).__name__} has no layers: its output is its input")
    return graph


def feature(module: nn.Module, input_shape: Shape, layer: str) -> tuple[nn.Module, Layout]:
    """``module`` as far as one layer of its traced graph, and how the tensor that this gives holds the layer's map.

    It shares the parameters of ``module``. Raises as ``trace`` does, and ModelError where there is no such layer.
    """
    module = _in_a_container(module)
    with undisturbed(module):
        recorder = _recorded(module, input_shape)
        if layer not in recorder.nodes:
            inside = any(step.name == layer for step in recorder.steps)
            what = (
                f"does not hold what {layer!r}, a step inside an operation, gives"
                if inside
                else f"has no layer {layer!r}"
            )
            raise ModelError(f"{type(module).__name__} {what}; it has {', '.join(recorder.nodes)}")
        end, index = recorder.nodes[layer]
        graph = fx.Graph()
        copies: dict[fx.Node, fx.Node] = {}
        for node in end.graph.nodes:
            copies[node] = graph.node_copy(node, copies.__getitem__)
            if node is end:
                break
        result = copies[end] if index is None else graph.call_function(operator.getitem, (copies[end], index))
        graph.output(result)
        return fx.GraphModule(module, graph), recorder.layout(end, index)


def _in_a_container(module: nn.Module) -> nn.Module:
    """A layer by itself is named by its class."""
    if torch_layer(module) is None:
        return module
    return nn.Sequential(OrderedDict({type(module).__name__: module}))


def _recorded(module: nn.Module, input_shape: Shape) -> Recorder:
    recorder = Recorder(module, input_shape)
    for node in _operations(module, input_shape).nodes:
        recorder.visit(node)
    return recorder


def unused_params(module: nn.Module, graph: Graph, input_shape: Shape) -> int:
    """Parameters of ``module`` that its traced ``graph`` never reads; a budget pays for them all the same."""
    shapes: list[Shape] = [*shapes_of(graph, input_shape), input_shape]
    used = sum(node.layer.params(*(shapes[index] for index in node.inputs)) for node in graph)
    return sum(parameter.numel() for parameter in module.parameters()) - used


# --- running the module without leaving marks -------------------------------------------------------------------------


@contextmanager
def undisturbed(module: nn.Module) -> Iterator[None]:
    """Eval mode, no gradients, no warnings; afterwards modes, buffers, attributes and random state are as before."""
    modes = [(part, part.training) for part in module.modules()]
    buffers = [(buffer, buffer.clone(), buffer._version) for buffer in module.buffers() if not is_lazy(buffer)]
    attributes = set(vars(module))
    registered = set(module._buffers)
    module.eval()
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for part, mode in modes:
            part.training = mode
        for buffer, value, version in buffers:
            if buffer._version != version:
                with torch.no_grad():
                    buffer.copy_(value)
        for name in (set(vars(module)) - attributes) | (set(module._buffers) - registered):
            if name.startswith("_tensor_constant"):  # torch.fx keeps the constants of a forward on the module
                delattr(module, name)


class _Proxy(fx.Proxy):
    """Records ``x += y`` as what it is; torch.fx takes it for ``x = x + y``, which leaves other names of x alone."""

    def __iadd__(self, other: Any) -> Any:
        return self.tracer.create_proxy("call_function", operator.iadd, (self, other), {})

    def __isub__(self, other: Any) -> Any:
        return self.tracer.create_proxy("call_function", operator.isub, (self, other), {})

    def __imul__(self, other: Any) -> Any:
        return self.tracer.create_proxy("call_function", operator.imul, (self, other), {})

    def __itruediv__(self, other: Any) -> Any:
        return self.tracer.create_proxy("call_function", operator.itruediv, (self, other), {})


class _Tracer(fx.Tracer):
    """Stops at the layers of torch.nn, and at subclasses that keep the forward of such a layer."""

    def proxy(self, node: fx.Node) -> fx.Proxy:
        return _Proxy(node, self)

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return torch_layer(m) is not None


def _operations(module: nn.Module, input_shape: Shape) -> fx.Graph:
    """What torch.fx lists. A parameter of ``forward`` that has a default keeps it."""
    arguments = list(signature(module.forward).parameters.values())
    defaults = {item.name: item.default for item in arguments[1:] if item.default is not Parameter.empty}
    try:
        return _Tracer().trace(module, defaults or None)
    except FOREIGN as error:
        run(type(module).__name__, input_shape, lambda: module(zeros(module, input_shape)))
        raise TraceError(f"{type(module).__name__}: torch.fx cannot follow its forward: {first_line(error)}") from None
