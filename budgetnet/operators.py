"""torch's operators, with torch's own arguments → records of ``layers``. A new operator is one line in OPERATORS.

Handlers take the shape of the result, then the operator's arguments; a tensor that depends on the input comes as a Map.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from budgetnet.layers import (
    ACTIVATIONS,
    Activation,
    AdaptivePool,
    Add,
    BatchNorm,
    Concat,
    Conv,
    Dropout,
    Elementwise,
    Flatten,
    Layer,
    Linear,
    Multiply,
    Norm,
    Pad,
    PaddedConv,
    Pool,
    Shape,
)


@dataclass(frozen=True)
class Map:
    """Stands for a tensor that depends on the input, in the arguments of an operator; ``shape`` without the batch."""

    shape: Shape

    def axis(self, dim: int) -> int:
        """A torch dimension of the batched tensor as an index into ``shape``; -1 for the batch."""
        return dim % (len(self.shape) + 1) - 1


class Unknown(Exception):
    """An operator without a record, or with arguments that its record cannot say; the text, if any, says which."""


def written(shape: Iterable[int]) -> str:
    return "x".join(map(str, shape))


Handler = Callable[..., tuple[Layer, ...]]
"""(shape of the result, *torch's own arguments) → the layers that the operation amounts to, none where nothing happens.
Raises Unknown."""


def _per_axis(value: int | tuple[int, ...], axes: int) -> tuple[int, ...]:
    """torch takes 3, (3,) and (3, 3)."""
    values = (value,) if isinstance(value, int) else tuple(value)
    return values * axes if len(values) == 1 else values


def _conv(
    out: Shape,
    input: Map,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
    padding_mode: str = "zeros",
) -> tuple[Layer, ...]:
    if isinstance(weight, Map):
        raise Unknown("has a weight that depends on the input")
    kernel = tuple(weight.shape[2:])
    axes = len(kernel)
    dilation = _per_axis(dilation, axes)
    after = (0,) * axes
    if padding == "same":
        total = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
        padding, after = tuple(t // 2 for t in total), tuple(t % 2 for t in total)
    elif padding == "valid":
        padding = 0
    window = (kernel, _per_axis(stride, axes), _per_axis(padding, axes), dilation)
    rest: dict[str, Any] = {"width": weight.shape[0], "groups": groups, "bias": bias is not None}
    if padding_mode == "zeros" and not any(after):
        return (Conv(*window, **rest),)
    return (PaddedConv(*window, **rest, after=after, mode=padding_mode),)


def _pool(kind: str, axes: int) -> Handler:
    def handler(
        out: Shape, input: Map, kernel_size: Any, stride: Any = None, padding: Any = 0, *rest: Any, **more: Any
    ) -> tuple[Layer, ...]:
        # torch's order: max_pool(…, padding, dilation, ceil_mode, return_indices), avg_pool(…, padding, ceil_mode, …)
        names = ("dilation", "ceil_mode", "return_indices") if kind == "max" else ("ceil_mode",)
        options = {**dict(zip(names, rest, strict=False)), **more}
        kernel = _per_axis(kernel_size, axes)
        return (
            Pool(
                kernel,
                _per_axis(stride, axes) if stride else kernel,
                _per_axis(padding, axes),
                _per_axis(options.get("dilation", 1), axes),
                bool(options.get("ceil_mode", False)),
                kind,
            ),
        )

    return handler


def _adaptive_pool(kind: str) -> Handler:
    def handler(out: Shape, input: Map, output_size: Any, return_indices: bool = False) -> tuple[Layer, ...]:
        return (AdaptivePool(out[1:], kind),)

    return handler


def _reduce(kind: str) -> Handler:
    """mean and amax over the whole map; with ``keepdim``, over some of its axes."""

    def handler(out: Shape, input: Map, dim: Any = None, keepdim: bool = False, **more: Any) -> tuple[Layer, ...]:
        dims = tuple(range(len(input.shape) + 1)) if dim is None else (dim,) if isinstance(dim, int) else dim
        axes = {input.axis(item) for item in dims}
        whole = axes == set(range(1, len(input.shape)))
        if not axes or min(axes) < 1 or not (whole or keepdim):
            raise Unknown("is known over the axes of the map only")
        pool = AdaptivePool(tuple(1 if a in axes else size for a, size in enumerate(input.shape) if a), kind)
        return (pool,) if keepdim else (pool, Flatten())

    return handler


def _batch_norm(
    out: Shape, input: Map, running_mean: Tensor | None, running_var: Tensor | None, *rest: Any, **more: Any
) -> tuple[Layer, ...]:
    return (BatchNorm(),) if running_mean is not None else (Norm("batch"),)


def _norm(kind: str) -> Handler:
    return lambda out, input, *rest, **more: (Norm(kind),)


def _activation(kind: str) -> Handler:
    return lambda out, input, *rest, **more: (Activation(kind),)


def _elementwise(name: str) -> Handler:
    return lambda out, input, *rest, **more: (Elementwise(name),)


def _softmax(name: str) -> Handler:
    def handler(out: Shape, input: Map, dim: int | None = None, *rest: Any, **more: Any) -> tuple[Layer, ...]:
        if dim is None or input.axis(dim) != 0:
            raise Unknown("is known over the channels only")
        return (Elementwise(name),)

    return handler


def _dropout(out: Shape, input: Map, p: float = 0.5, *rest: Any, **more: Any) -> tuple[Layer, ...]:
    return (Dropout(p),)


def _linear(out: Shape, input: Map, weight: Tensor, bias: Tensor | None = None) -> tuple[Layer, ...]:
    if isinstance(weight, Map):
        raise Unknown("has a weight that depends on the input")
    return (Linear(weight.shape[0], bias is not None),)


def _join(layer: Layer, name: str) -> Handler:
    """A sum or product of two maps; with a number or a constant, each cell keeps to itself."""

    def handler(out: Shape, input: Any, other: Any, **more: Any) -> tuple[Layer, ...]:
        both = isinstance(input, Map) and isinstance(other, Map)
        return (layer,) if both else (Elementwise(name),)

    return handler


def _concat(out: Shape, tensors: Any, dim: int = 0, *, axis: int | None = None) -> tuple[Layer, ...]:
    if not all(isinstance(item, Map) for item in tensors):
        raise Unknown("joins the map with a constant")
    if tensors[0].axis(dim if axis is None else axis) != 0:
        raise Unknown("is known over the channels only")
    return (Concat(),)


def _pad(out: Shape, input: Map, pad: Any, mode: str = "constant", value: float | None = None) -> tuple[Layer, ...]:
    axes = len(input.shape) - 1
    pairs = [tuple(pad[i : i + 2]) for i in range(0, len(pad), 2)]  # torch: the last axis first
    if len(pairs) > axes:
        raise Unknown("is known over the axes of the map only")
    pairs = [(0, 0)] * (axes - len(pairs)) + pairs[::-1]
    return (Pad(tuple(before for before, _ in pairs), tuple(after for _, after in pairs), mode),)


def _reshape(out: Shape, input: Map, *rest: Any, **more: Any) -> tuple[Layer, ...]:
    if out == input.shape:
        return ()
    if len(out) == 1:
        return (Flatten(),)
    raise Unknown(f"from {written(input.shape)} to {written(out)} is not a flattening")


def _nothing(out: Shape, input: Map, *rest: Any, **more: Any) -> tuple[Layer, ...]:
    return ()


_CELLWISE = (
    *("relu6", "selu", "celu", "prelu", "rrelu", "softplus", "softsign", "hardtanh", "hardsigmoid", "hardshrink"),
    *("softshrink", "tanhshrink", "threshold", "logsigmoid", "clamp", "clip", "abs", "neg", "exp", "log", "sqrt"),
    *("square", "pow", "rsqrt", "erf", "sin", "cos", "local_response_norm"),
)

OPERATORS: dict[str, Handler] = {
    **{f"conv{axes}d": _conv for axes in (1, 2, 3)},
    **{f"{kind}_pool{axes}d": _pool(kind, axes) for kind in ("max", "avg") for axes in (1, 2, 3)},
    **{f"adaptive_{kind}_pool{axes}d": _adaptive_pool(kind) for kind in ("max", "avg") for axes in (1, 2, 3)},
    **{kind: _activation(kind) for kind in ACTIVATIONS},
    **{name: _elementwise(name) for name in _CELLWISE},
    **{name: _softmax(name) for name in ("softmax", "log_softmax", "softmin")},
    **{f"{kind}_norm": _norm(kind) for kind in ("group", "layer", "instance", "rms")},
    **{
        f"{name}dropout{axes}": _dropout for name in ("", "alpha_", "feature_alpha_") for axes in ("", "1d", "2d", "3d")
    },
    **dict.fromkeys(("flatten", "view", "reshape", "squeeze", "unsqueeze"), _reshape),
    **dict.fromkeys(("identity", "contiguous", "clone", "detach", "to", "type_as", "float", "double"), _nothing),
    **dict.fromkeys(("stochastic_depth", "requires_grad"), _nothing),
    **dict.fromkeys(("cat", "concat", "concatenate"), _concat),
    "batch_norm": _batch_norm,
    "linear": _linear,
    "pad": _pad,
    "mean": _reduce("avg"),
    "amax": _reduce("max"),
    "add": _join(Add(), "add"),
    "sub": _join(Add(), "sub"),
    "mul": _join(Multiply(), "mul"),
    "truediv": _join(Multiply(), "div"),
    "div": _join(Multiply(), "div"),
}

# --- layers of torch.nn: the operator each calls, and with what -------------------------------------------------------


def torch_layer(module: nn.Module) -> type[nn.Module] | None:
    """The class of torch.nn whose forward ``module`` runs, or None for a container or a forward of the user's own."""
    for kind in type(module).__mro__:
        if not issubclass(kind, nn.Module) or kind is nn.Module or issubclass(kind, nn.Sequential):
            continue
        if kind.__module__.startswith(("torch.nn.modules", "torch.ao.nn")):
            same = all(
                getattr(type(module), name, None) is getattr(kind, name, None) for name in ("forward", "_conv_forward")
            )
            return kind if same else None
    return None


_WINDOW = ("kernel_size", "stride", "padding")
MODULES: dict[str, tuple[str, tuple[str, ...]]] = {
    **{
        f"Conv{axes}d": (
            f"conv{axes}d",
            ("weight", "bias", "stride", "padding", "dilation", "groups", "padding_mode"),
        )
        for axes in (1, 2, 3)
    },
    **{
        f"MaxPool{axes}d": (f"max_pool{axes}d", (*_WINDOW, "dilation", "ceil_mode", "return_indices"))
        for axes in (1, 2, 3)
    },
    **{f"AvgPool{axes}d": (f"avg_pool{axes}d", (*_WINDOW, "ceil_mode")) for axes in (1, 2, 3)},
    **{f"AdaptiveMaxPool{axes}d": (f"adaptive_max_pool{axes}d", ("output_size",)) for axes in (1, 2, 3)},
    **{f"AdaptiveAvgPool{axes}d": (f"adaptive_avg_pool{axes}d", ("output_size",)) for axes in (1, 2, 3)},
    **{f"BatchNorm{axes}d": ("batch_norm", ("running_mean", "running_var")) for axes in (1, 2, 3)},
    **{f"InstanceNorm{axes}d": ("instance_norm", ()) for axes in (1, 2, 3)},
    **{f"Dropout{axes}": ("dropout", ("p",)) for axes in ("", "1d", "2d", "3d")},
    **dict.fromkeys(("AlphaDropout", "FeatureAlphaDropout"), ("dropout", ("p",))),
    **{name: (kind, ()) for kind, name in ACTIVATIONS.items()},
    **{
        name: (name.lower(), ())
        for name in (
            *("ReLU6", "SELU", "CELU", "PReLU", "RReLU", "Softplus", "Softsign", "Hardtanh", "Hardsigmoid"),
            *("Hardshrink", "Softshrink", "Tanhshrink", "Threshold", "LogSigmoid"),
        )
    },
    **{
        f"{kind}Pad{axes}d": ("pad", ("padding", "mode"))
        for kind in ("Zero", "Constant", "Reflection", "Replication", "Circular")
        for axes in (1, 2, 3)
    },
    "SyncBatchNorm": ("batch_norm", ("running_mean", "running_var")),
    "GroupNorm": ("group_norm", ()),
    "LayerNorm": ("layer_norm", ()),
    "RMSNorm": ("rms_norm", ()),
    "LocalResponseNorm": ("local_response_norm", ()),
    "Softmax": ("softmax", ("dim",)),
    "LogSoftmax": ("log_softmax", ("dim",)),
    "Softmax2d": ("softmax", ("dim",)),
    "Linear": ("linear", ("weight", "bias")),
    "Flatten": ("flatten", ()),
    "Identity": ("identity", ()),
}
"""Layer of torch.nn → the operator that it calls, and the attributes that it calls it with."""

_PAD_MODES = {"Reflection": "reflect", "Replication": "replicate", "Circular": "circular"}


def settings(module: nn.Module) -> dict[str, Any]:
    """The arguments that a layer of torch.nn hands to its operator."""
    kind = torch_layer(module)
    assert kind is not None
    settings = {name: getattr(module, name, None) for name in MODULES[kind.__name__][1]}
    if "Pad" in kind.__name__:
        mode = next((mode for prefix, mode in _PAD_MODES.items() if kind.__name__.startswith(prefix)), "constant")
        return {"pad": settings["padding"], "mode": mode}
    return {**settings, "dim": -3} if kind is nn.Softmax2d else settings
