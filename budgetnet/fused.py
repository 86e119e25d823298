"""How a model runs on a CPU: its layers of torch.nn by budgetnet's own kernels wherever those are faster."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from math import inf
from typing import Any, TypeGuard, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from budgetnet import kernels, winograd
from budgetnet.maps import array, cells, rows

Piece = Callable[[Tensor], Tensor]
Layer = TypeVar("Layer", bound=nn.Module)


@contextmanager
def fused(model: nn.Module, device: torch.device) -> Iterator[None]:
    """Within, a plain ``nn.Sequential`` runs (ReLU) BatchNorm (ReLU) (Dropout), or BatchNorm SiLU, as one operation.

    Max pooling and dropout alone have kernels too, as has SiLU behind a convolution where no gradient is needed; wide
    3x3 convolutions train in float32 with fewer multiplications;
    grouped convolutions that oneDNN has no fast bfloat16 code for stay in float32, and strided 1x1 ones, where it can
    crash, become others. The mathematics is that of the layers; dropout's random numbers are not torch's, but seeded by
    its generator. A layer with hooks, such as prune its weights, or a forward of its own is called as ever. Elsewhere
    than on a CPU nothing changes.
    """
    sequences = [m for m in model.modules() if isinstance(m, nn.Sequential) and _is_plain(m)]
    if device.type != "cpu":
        sequences = []
    for sequence in sequences:
        sequence.forward = _Chain(tuple(_pieces(sequence)))  # type: ignore[method-assign]
    try:
        yield
    finally:
        for sequence in sequences:
            del sequence.forward


@dataclass(frozen=True)
class _Chain:
    pieces: Sequence[Piece]

    def __call__(self, x: Tensor) -> Tensor:
        for piece in self.pieces:
            x = piece(x)
        return x


def _pieces(layers: nn.Sequential) -> Iterator[Piece]:
    rest = list(layers)
    made: nn.Module | None = None  # the layer before
    while rest:
        before = len(rest) > 1 and _is_relu(rest[0]) and not rest[0].inplace and _is_norm(rest[1])
        layer = rest.pop(1 if before else 0)
        if isinstance(layer, nn.BatchNorm2d) and _is_norm(layer):
            relu = rest.pop(0) if before else None
            if relu is None and rest and _is_silu(rest[0]):
                yield _NormSiLU(layer, rest.pop(0))
            else:
                after = rest.pop(0) if rest and _is_relu(rest[0]) else None
                yield _Norm(relu, layer, after, rest.pop(0) if rest and _is_dropout(rest[0]) else None)
        elif isinstance(layer, nn.Dropout) and _is_dropout(layer):
            yield _Dropout(layer)
        elif isinstance(layer, nn.MaxPool2d) and _is_pool(layer):
            yield _MaxPool(layer)
        elif isinstance(layer, nn.Conv2d) and _is_strided_point(layer):
            yield _StridedPoint(layer)
        elif isinstance(layer, nn.Conv2d) and _is_slow_in_bfloat16(layer):
            yield _Float32(layer)
        elif isinstance(layer, nn.Conv2d) and _is_plain_3x3(layer):
            yield _Wide(layer)
        elif _is_silu(layer) and made is not None and _is(made, nn.Conv2d):
            yield _SiLU(layer)
        else:
            yield layer
        made = layer


def _is_plain(layers: nn.Sequential) -> bool:
    return type(layers).forward is nn.Sequential.forward and "forward" not in vars(layers)


def _is(layer: nn.Module, kind: type[Layer]) -> TypeGuard[Layer]:
    """Whether a call of the layer does what its class says, and no more: no hooks, no forward of its own."""
    hooks = layer._forward_hooks, layer._forward_pre_hooks, layer._backward_hooks, layer._backward_pre_hooks
    return type(layer) is kind and not any(hooks) and "forward" not in vars(layer)


def _is_relu(layer: nn.Module) -> bool:
    return _is(layer, nn.ReLU)


def _is_silu(layer: nn.Module) -> bool:
    return _is(layer, nn.SiLU) and not layer.inplace


def _is_norm(layer: nn.Module) -> bool:
    return _is(layer, nn.BatchNorm2d) and layer.affine and layer.track_running_stats and layer.momentum is not None


def _is_dropout(layer: nn.Module) -> bool:
    return _is(layer, nn.Dropout) and round(layer.p * 2**32) < 2**32


def _is_pool(layer: nn.MaxPool2d) -> bool:
    size = layer.kernel_size
    plain = (layer.stride, layer.padding, layer.dilation, layer.ceil_mode, layer.return_indices)
    return _is(layer, nn.MaxPool2d) and isinstance(size, int) and plain == (size, 0, 1, False, False)


def _is_strided_point(layer: nn.Conv2d) -> bool:
    plain = layer.kernel_size == (1, 1) and layer.padding == (0, 0)
    return _is(layer, nn.Conv2d) and plain and max(layer.stride) > 1


def _is_slow_in_bfloat16(layer: nn.Conv2d) -> bool:
    """Grouped convolutions but for the plainest; the benchmark of training has the figures."""
    plain = layer.in_channels == layer.out_channels and max(*layer.stride, *layer.dilation) == 1
    return _is(layer, nn.Conv2d) and layer.groups > 1 and not (plain and max(layer.kernel_size) <= 3)


def _is_plain_3x3(layer: nn.Conv2d) -> bool:
    """Over all channels, of stride 1, padded with zeros or not at all."""
    plain = (layer.kernel_size, layer.stride, layer.dilation, layer.groups) == ((3, 3), (1, 1), (1, 1), 1)
    padded = layer.padding_mode == "zeros" and not isinstance(layer.padding, str)
    return _is(layer, nn.Conv2d) and plain and padded


# --- pieces: torch's layers themselves where a map is not one that the kernels take -----------------------------------


def _is_map(x: Tensor) -> bool:
    """float32 or bfloat16 (N, C, H, W) with more than one cell."""
    return x.dtype in (torch.float32, torch.bfloat16) and x.ndim == 4 and x.numel() > x.shape[1]


def _takes(norm: nn.BatchNorm2d, x: Tensor) -> bool:
    """Whether the kernels take this map, and the norm trains, or evaluates without gradients, in float32."""
    needed = norm.training or not torch.is_grad_enabled()
    return _is_map(x) and x.shape[1] == norm.num_features and needed and norm.weight.dtype == torch.float32


@dataclass(frozen=True)
class _Norm:
    """``dropout(relu(norm(relu(x))))``, of which all but the norm may be missing."""

    before: nn.Module | None
    norm: nn.BatchNorm2d
    after: nn.Module | None
    dropout: nn.Module | None

    def __call__(self, x: Tensor) -> Tensor:
        norm = self.norm
        if not _takes(norm, x) or not self._drops_with_norm():
            for layer in (self.before, norm, self.after, self.dropout):
                x = x if layer is None else layer(x)
            return x
        lows = (-inf if self.before is None else 0.0, -inf if self.after is None else 0.0)
        if not norm.training:
            return _normalised(x, norm, lows)
        if norm.num_batches_tracked is not None:
            norm.num_batches_tracked.add_(1)
        passes, options = (kernels.norm_forward, kernels.norm_backward), (*lows, *_random(self.dropout))
        out: Tensor = _NormFunction.apply(x, norm.weight, norm.bias, norm, passes, options)
        return out

    def _drops_with_norm(self) -> bool:
        return self.dropout is None or self.dropout.training == self.norm.training


class _NormFunction(torch.autograd.Function):
    """A norm with what is fused to it; ``passes``: the kernels there and back, which both take the ``options``."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, norm: Any, passes: Any, options: Any) -> Tensor:
        y = torch.empty_like(x, memory_format=torch.channels_last)
        there, ctx.back = passes
        ctx.statistics = there(rows(x), rows(y), *_affine(norm), *_running(norm), norm.momentum, norm.eps, *options)
        ctx.options = options
        ctx.save_for_backward(x, weight, bias)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, bias = ctx.saved_tensors
        dx = torch.empty_like(x, memory_format=torch.channels_last)
        gradients = ctx.back(rows(x), rows(dy), rows(dx), array(weight), array(bias), *ctx.statistics, *ctx.options)
        return dx, *(torch.from_numpy(g) for g in gradients), None, None, None


@dataclass(frozen=True)
class _NormSiLU:
    """``silu(norm(x))`` in float32; in bfloat16 torch's own SiLU, with its wider vectors, is the faster one."""

    norm: nn.BatchNorm2d
    silu: nn.Module

    def __call__(self, x: Tensor) -> Tensor:
        norm = self.norm
        if x.dtype != torch.float32 or not _takes(norm, x):
            return self.silu(_Norm(None, norm, None, None)(x))  # type: ignore[no-any-return]
        if not norm.training:
            y = torch.empty_like(x, memory_format=torch.channels_last)
            kernels.norm_silu_eval(rows(x), rows(y), *_affine(norm), *_running(norm), norm.eps)
            return y
        if norm.num_batches_tracked is not None:
            norm.num_batches_tracked.add_(1)
        passes = kernels.norm_silu_forward, kernels.norm_silu_backward
        out: Tensor = _NormFunction.apply(x, norm.weight, norm.bias, norm, passes, ())
        return out


def _normalised(x: Tensor, norm: nn.BatchNorm2d, lows: tuple[float, float]) -> Tensor:
    """The layers of a _Norm in eval mode."""
    y = torch.empty_like(x, memory_format=torch.channels_last)
    kernels.norm_eval(rows(x), rows(y), *_affine(norm), *_running(norm), norm.eps, *lows)
    return y


def _affine(norm: nn.BatchNorm2d) -> tuple[Any, Any]:
    return array(norm.weight), array(norm.bias)


def _running(norm: nn.BatchNorm2d) -> tuple[Any, Any]:
    return array(norm.running_mean), array(norm.running_var)


@dataclass(frozen=True)
class _SiLU:
    """Of a map that nobody else has: without gradients, and in float32, it takes the map's place."""

    layer: nn.Module

    def __call__(self, x: Tensor) -> Tensor:
        plain = _is_map(x) and x.dtype == torch.float32 and x.is_contiguous(memory_format=torch.channels_last)
        if torch.is_grad_enabled() or not plain:
            return self.layer(x)  # type: ignore[no-any-return]
        kernels.silu(rows(x))
        return x


@dataclass(frozen=True)
class _Dropout:
    layer: nn.Dropout

    def __call__(self, x: Tensor) -> Tensor:
        dropped, seed = _random(self.layer)
        if dropped == 0 or not _is_map(x):
            return self.layer(x)  # type: ignore[no-any-return]
        out: Tensor = _DropoutFunction.apply(x, dropped, seed)
        return out


class _DropoutFunction(torch.autograd.Function):
    """The same seed drops the same cells, so that the gradient is dropout once more."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, dropped: int, seed: int) -> Tensor:
        ctx.options = dropped, seed
        y = torch.empty_like(x, memory_format=torch.channels_last)
        kernels.dropout(rows(x), rows(y), dropped, seed)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        dx = torch.empty_like(dy, memory_format=torch.channels_last)
        kernels.dropout(rows(dy), rows(dx), *ctx.options)
        return dx, None, None


@dataclass(frozen=True)
class _MaxPool:
    layer: nn.MaxPool2d

    def __call__(self, x: Tensor) -> Tensor:
        size = self.layer.kernel_size
        if not _is_map(x) or min(x.shape[2:]) < size:  # type: ignore[operator]
            return self.layer(x)  # type: ignore[no-any-return]
        out: Tensor = _MaxPoolFunction.apply(x, size)
        return out


class _MaxPoolFunction(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, size: int) -> Tensor:
        n, channels, height, width = x.shape
        y = torch.empty((n, channels, height // size, width // size), dtype=x.dtype, memory_format=torch.channels_last)
        kernels.max_pool_forward(cells(x), cells(y), size)
        ctx.size = size
        ctx.save_for_backward(x, y.clone())  # what follows may overwrite y
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, y = ctx.saved_tensors
        dx = torch.empty_like(x, memory_format=torch.channels_last)
        kernels.max_pool_backward(cells(x), cells(y), cells(dy), cells(dx), ctx.size)
        return dx, None


@dataclass(frozen=True)
class _StridedPoint:
    """A strided 1x1 convolution, as one of stride 1 of the cells that it sees.

    Channels last, oneDNN's own writes past its workspace in the backward pass where the input has few channels (issue
    6035 of oneDNN): a crash, or memory that is wrong.
    """

    layer: nn.Conv2d

    def __call__(self, x: Tensor) -> Tensor:
        layer, (down, across) = self.layer, self.layer.stride
        if x.ndim != 4:
            return layer(x)  # type: ignore[no-any-return]
        seen = x[:, :, ::down, ::across].contiguous(memory_format=torch.channels_last)
        point = partial(F.conv2d, weight=layer.weight, bias=layer.bias, groups=layer.groups)
        return point(seen) if layer.groups == 1 else _in_float32(point, layer, seen)


@dataclass(frozen=True)
class _Float32:
    layer: nn.Conv2d

    def __call__(self, x: Tensor) -> Tensor:
        return _in_float32(self.layer, self.layer, x)


@dataclass(frozen=True)
class _Wide:
    """In float32 and where a gradient is needed. A network that is only asked answers as torch's layers to the bit."""

    layer: nn.Conv2d

    def __call__(self, x: Tensor) -> Tensor:
        layer = self.layer
        assert not isinstance(layer.padding, str)
        float32 = {x.dtype, *(p.dtype for p in layer.parameters())} == {torch.float32}
        plain = float32 and x.ndim == 4 and x.shape[1] == layer.in_channels and not torch.is_autocast_enabled("cpu")
        if not plain or not torch.is_grad_enabled():
            return layer(x)  # type: ignore[no-any-return]
        padding = layer.padding[0], layer.padding[1]
        if not winograd.pays(layer.in_channels, layer.out_channels, winograd.result_size(x, padding)):
            return layer(x)  # type: ignore[no-any-return]
        return winograd.convolution(x, layer.weight, layer.bias, padding)


def _in_float32(piece: Piece, layer: nn.Conv2d, x: Tensor) -> Tensor:
    """``piece(x)``, a map in bfloat16 computed in float32 as far as the layer has its weights in that."""
    if x.dtype != torch.bfloat16 or layer.weight.dtype != torch.float32:
        return piece(x)
    with torch.autocast("cpu", enabled=False):
        return piece(x.float()).to(x.dtype)


def _random(layer: nn.Module | None) -> tuple[int, int]:
    """How many of 2³² cells a dropout layer drops, and 31 bits of torch's generator if it drops any."""
    if not isinstance(layer, nn.Dropout) or not layer.training or not (dropped := round(layer.p * 2**32)):
        return 0, 0
    return dropped, int(torch.randint(2**31, ()))
