"""torch's operators, with torch's own arguments → records of ``layers``. A new operator is one line in OPERATORS.

Handlers take the shape of the result, then the operator's arguments; a tensor that depends on the input comes as a Map.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from budgetnet.layers import (
    ACTIVATIONS,
    Activation,
    AdaptivePool,
    Add,
    BatchNorm,
    Conv,
    Dropout,
    Layer,
    Multiply,
    Pool,
    Shape,
)
from budgetnet.layout import Layout
from budgetnet.traced import Broadcast, Elementwise, Norm, Pad, PaddedConv, Taken, TransposedConv
from budgetnet.views import View, view_of


@dataclass(frozen=True)
class Map:
    """Stands for a tensor that depends on the input, in the arguments of an operator."""

    layout: Layout

    @property
    def shape(self) -> Shape:
        """Of the map, without the batch."""
        return self.layout.of

    @property
    def rank(self) -> int:
        """Dimensions of the tensor, the batch included."""
        return len(self.layout.dims)


class Unknown(Exception):
    """An operator without a record, or with arguments that its record cannot say; the text, if any, says which."""


def written(shape: Iterable[int]) -> str:
    return "x".join(map(str, shape))


ROUNDING = 1e-9  # what a weight of zero may be when torch computes it in float64

Handler = Callable[..., tuple[Layer, ...]]
"""(shape of the result, *torch's own arguments) → the layers that the operation amounts to, none where nothing happens.
Raises Unknown."""


def _per_axis(value: Any, axes: int) -> tuple[Any, ...]:
    """torch takes 3, (3,) and (3, 3)."""
    values = (value,) if isinstance(value, int | float) else tuple(value)
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


def _dropout(out: Shape, input: Map, p: float = 0.5, *rest: Any, **more: Any) -> tuple[Layer, ...]:
    return (Dropout(p),)


def _join(layer: Layer, name: str) -> Handler:
    """Two maps into one; with a number or a constant, each cell keeps to itself."""

    def handler(out: Shape, input: Any, other: Any, **more: Any) -> tuple[Layer, ...]:
        if not (isinstance(input, Map) and isinstance(other, Map)):
            return (Elementwise(name),)
        return (layer if input.shape == other.shape else Broadcast(name),)

    return handler


def _pad(out: Shape, input: Map, pad: Any, mode: str = "constant", value: float | None = None) -> tuple[Layer, ...]:
    axes = len(input.shape) - 1
    pairs = [tuple(pad[i : i + 2]) for i in range(0, len(pad), 2)]  # torch: the last axis first
    if len(pairs) > axes:
        raise Unknown("is known over the axes of the map only")
    pairs = [(0, 0)] * (axes - len(pairs)) + pairs[::-1]
    return (Pad(tuple(before for before, _ in pairs), tuple(after for _, after in pairs), mode),)


def _interpolate(
    out: Shape, input: Map, size: Any = None, scale_factor: Any = None, mode: str = "nearest", *rest: Any, **more: Any
) -> tuple[Layer, ...]:
    """What each axis sees is asked of torch itself: which of the pixels, one at a time, shows where."""
    axes = len(input.shape) - 1
    names = ("align_corners", "recompute_scale_factor", "antialias")
    options = {**dict(zip(names, rest, strict=False)), **more}

    kept = {name: options[name] for name in ("align_corners", "antialias") if options.get(name) is not None}
    by_scale = size is None and not options.get("recompute_scale_factor")

    def resized(axis: int) -> View:
        length = input.shape[axis + 1]
        probe = torch.eye(length, dtype=torch.float64).reshape(
            1, length, *(length if a == axis else 1 for a in range(axes))
        )
        if by_scale:
            kept["scale_factor"] = tuple(_per_axis(scale_factor, axes)[a] if a == axis else 1 for a in range(axes))
        else:
            kept["size"] = tuple(out[1 + a] if a == axis else 1 for a in range(axes))
        return _seen(nn.functional.interpolate(probe, mode=mode, **kept).reshape(length, -1))

    return (Taken("interpolate", seen=tuple(resized(axis) for axis in range(axes))),)


def _seen(shown: Tensor) -> View:
    """The view of one axis, of (cells in, cells out): which cells show in which, by more than an error of rounding."""
    return view_of([(column.abs() > ROUNDING).nonzero().flatten().tolist() for column in shown.T])


def _transposed_conv(
    out: Shape,
    input: Map,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
) -> tuple[Layer, ...]:
    if isinstance(weight, Map):
        raise Unknown("has a weight that depends on the input")
    kernel = tuple(weight.shape[2:])
    axes = len(kernel)
    steps, cuts, gaps = (_per_axis(value, axes) for value in (stride, padding, dilation))
    more = _per_axis(output_padding, axes)

    def spread(axis: int) -> View:
        length = input.shape[axis + 1]
        probe, weights = torch.eye(length).unsqueeze(0), torch.ones(length, 1, kernel[axis])
        window = (steps[axis], cuts[axis], more[axis], length, gaps[axis])
        return _seen(nn.functional.conv_transpose1d(probe, weights, None, *window)[0])

    seen = tuple(spread(axis) for axis in range(axes))
    return (TransposedConv(kernel, steps, cuts, gaps, out[0], groups, bias is not None, seen),)


def _nothing(out: Shape, input: Map, *rest: Any, **more: Any) -> tuple[Layer, ...]:
    return ()


_CELLWISE = (
    *("relu6", "selu", "celu", "prelu", "rrelu", "softplus", "softsign", "hardtanh", "hardsigmoid", "hardshrink"),
    *("softshrink", "tanhshrink", "threshold", "logsigmoid", "clamp", "clip", "abs", "neg", "exp", "log", "sqrt"),
    *("square", "pow", "rsqrt", "erf", "sin", "cos", "masked_fill", "local_response_norm"),
)

_NOTHING = (
    *("identity", "contiguous", "clone", "detach", "to", "type_as", "float", "double", "half", "bfloat16"),
    *("cpu", "cuda", "stochastic_depth", "requires_grad"),
)

OPERATORS: dict[str, Handler] = {
    **{f"conv{axes}d": _conv for axes in (1, 2, 3)},
    **{f"{kind}_pool{axes}d": _pool(kind, axes) for kind in ("max", "avg") for axes in (1, 2, 3)},
    **{f"adaptive_{kind}_pool{axes}d": _adaptive_pool(kind) for kind in ("max", "avg") for axes in (1, 2, 3)},
    **{kind: _activation(kind) for kind in ACTIVATIONS},
    **{name: _elementwise(name) for name in _CELLWISE},
    **{f"{kind}_norm": _norm(kind) for kind in ("group", "instance")},
    **{
        f"{name}dropout{axes}": _dropout for name in ("", "alpha_", "feature_alpha_") for axes in ("", "1d", "2d", "3d")
    },
    **dict.fromkeys(_NOTHING, _nothing),
    "batch_norm": _batch_norm,
    "pad": _pad,
    "interpolate": _interpolate,
    **{f"conv_transpose{axes}d": _transposed_conv for axes in (1, 2, 3)},
    "add": _join(Add(), "add"),
    "sub": _join(Add(), "sub"),
    "mul": _join(Multiply(), "mul"),
    "truediv": _join(Multiply(), "div"),
    "div": _join(Multiply(), "div"),
    **{name: _join(Broadcast(name), name) for name in ("maximum", "minimum", "max", "min")},
}

KEEPING = frozenset(
    {
        *(*ACTIVATIONS, *_CELLWISE, *_NOTHING, "add", "sub", "mul", "truediv", "div", "maximum", "minimum"),
        *(f"{name}dropout{axes}" for name in ("", "alpha_", "feature_alpha_") for axes in ("", "1d", "2d", "3d")),
    }
)
"""Operators that leave every value in its place, whatever the layout."""

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
    "LayerNorm": ("layer_norm", ("normalized_shape",)),
    "RMSNorm": ("rms_norm", ("normalized_shape",)),
    **{
        f"ConvTranspose{axes}d": (
            f"conv_transpose{axes}d",
            ("weight", "bias", "stride", "padding", "output_padding", "groups", "dilation"),
        )
        for axes in (1, 2, 3)
    },
    **dict.fromkeys(
        ("Upsample", "UpsamplingNearest2d", "UpsamplingBilinear2d"),
        ("interpolate", ("size", "scale_factor", "mode", "align_corners", "recompute_scale_factor")),
    ),
    "PixelShuffle": ("pixel_shuffle", ("upscale_factor",)),
    "PixelUnshuffle": ("pixel_unshuffle", ("downscale_factor",)),
    "ChannelShuffle": ("channel_shuffle", ("groups",)),
    "Unflatten": ("unflatten", ()),
    "MultiheadAttention": ("multi_head_attention", ("embed_dim", "batch_first")),
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
    _, names = MODULES.get(kind.__name__, ("", ()))  # of one without a record, nothing: it is unknown
    settings = {name: getattr(module, name, None) for name in names}
    if "Pad" in kind.__name__:
        mode = next((mode for prefix, mode in _PAD_MODES.items() if kind.__name__.startswith(prefix)), "constant")
        return {"pad": settings["padding"], "mode": mode}
    return {**settings, "dim": -3} if kind is nn.Softmax2d else settings
