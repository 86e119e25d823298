"""The effective receptive field: how strongly a feature map's centre really depends on each pixel, by measurement.

After Luo, Li, Urtasun and Zemel, "Understanding the Effective Receptive Field in Deep Convolutional Neural Networks"
(NeurIPS 2016): the input gradient of the centre cell, its absolute value averaged over images.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from budgetnet.errors import ModelError
from budgetnet.fields import fields_of
from budgetnet.layers import Shape
from budgetnet.layout import BATCH, Layout
from budgetnet.recorder import run
from budgetnet.trace import feature, trace, undisturbed

MASS = 0.95  # of the gradient, that the effective size holds
NOISE = 32  # images of noise where none are given
Strength = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True, eq=False)
class EffectiveField:
    """What the centre cell of a feature map depends on, and how strongly.

    field: first and last pixel, per axis, that the cell can see at all. centre: of its field, the part beyond the input
    included, in pixels. strength: over the axes of the input; the share
    of the absolute gradient, channels added up, mean over ``images``; it sums to one.
    """

    layer: str
    field: tuple[tuple[int, int], ...]
    centre: tuple[float, ...]
    strength: Strength
    images: int

    def box(self, mass: float = MASS) -> tuple[tuple[int, int], ...]:
        """First and last pixel, per axis, of the smallest cube around the centre that holds this share."""
        for radius in np.arange(0, max(self.strength.shape) + 1, 0.5):
            box = tuple(
                (max(0, int(np.ceil(at - radius))), min(size - 1, int(np.floor(at + radius))))
                for at, size in zip(self.centre, self.strength.shape, strict=True)
            )
            if self.strength[tuple(slice(first, last + 1) for first, last in box)].sum() >= mass:
                return box
        return tuple((0, size - 1) for size in self.strength.shape)

    def to_dict(self) -> dict[str, Any]:
        """JSON-able, without the strength of every pixel."""
        size, box = list(self.size()), [list(ends) for ends in self.box()]
        field = [list(ends) for ends in self.field]
        return {"layer": self.layer, "field": field, "mass": MASS, "size": size, "box": box, "images": self.images}

    def __str__(self) -> str:
        size = " × ".join(map(str, self.size()))
        return f"effective receptive field {size}: {MASS:.0%} of the gradient of {self.layer}, n = {self.images} images"

    def size(self, mass: float = MASS) -> tuple[int, ...]:
        """Pixels along each axis of that cube."""
        return tuple(last - first + 1 for first, last in self.box(mass))


def effective_field(
    module: nn.Module, input_shape: Shape, layer: str, images: Tensor | None = None, *, seed: int = 0
) -> EffectiveField:
    """Of the layer called ``layer`` in the traced graph. ``images``: (N, *input_shape), as the network expects them; by
    default noise from a standard normal distribution. Raises ModelError, TraceError."""
    graph = trace(module, input_shape)
    names = [node.name for node in graph]
    if layer not in names:
        raise ModelError(f"{type(module).__name__} has no layer {layer!r}; it has {', '.join(names)}")
    position = names.index(layer)
    axes = fields_of(graph, input_shape, strict=True)[position]
    part, layout = feature(module, input_shape, layer)
    cell = tuple(size // 2 for size in layout.of[1:])
    indices = cell if len(cell) == len(axes) else cell * len(axes)  # cells in a row have one index for all axes
    seen = [axis.intervals[index] for axis, index in zip(axes, indices, strict=True)]
    if images is None:
        images = torch.randn(NOISE, *input_shape, generator=torch.Generator().manual_seed(seed))
    strength = _gradients(module, part, images, _at(layout, cell))
    if any(pixels is None for pixels in seen) or not strength.sum() > 0:
        raise ModelError(f"the centre of {layer} depends on no pixel of the {len(images)} images")
    field = tuple(pixels for pixels in seen if pixels is not None)
    spans = [axis.span(index) or ends for axis, index, ends in zip(axes, indices, field, strict=True)]
    centre = tuple((first + last) / 2 for first, last in spans)
    return EffectiveField(layer, field, centre, strength / strength.sum(), len(images))


def _at(layout: Layout, cell: tuple[int, ...]) -> Tensor:
    """Which elements of a tensor so laid out belong to a cell of its map."""
    mask = torch.ones(layout.shape, dtype=torch.bool)
    for axis, wanted in enumerate(cell, 1):
        index = torch.zeros(layout.shape, dtype=torch.int64)
        for dim in range(len(layout.dims)):
            along = [1] * len(layout.dims)
            along[dim] = -1
            index = index + torch.tensor(layout.indices(dim, axis)).reshape(along)
        mask &= index == wanted
    return mask


def _gradients(module: nn.Module, part: nn.Module, images: Tensor, cell: Tensor) -> Strength:
    """Mean over images of the absolute input gradient of what ``cell`` marks, channels of the input added up.

    As many images at a time as the traced batch has, for a layout is that of such a batch."""
    like = next((p for p in module.parameters() if p.is_floating_point()), torch.empty(0))
    images = images if len(images) % BATCH == 0 else images.repeat(BATCH, *(1,) * (images.ndim - 1))
    total = torch.zeros(images.shape[2:], dtype=torch.float64)
    with undisturbed(module), torch.enable_grad():
        for batch in torch.split(images, BATCH):
            x = batch.to(like.device, like.dtype).requires_grad_()
            answer = run(type(module).__name__, tuple(x.shape[1:]), partial(part, x.clone()))  # it may change its input
            output = answer[cell.to(like.device)].sum()
            if output.requires_grad:
                (gradient,) = torch.autograd.grad(output, x, allow_unused=True)
                total += 0 if gradient is None else gradient.double().abs().sum((0, 1)).cpu()
    found: Strength = (total / len(images)).numpy()
    return found
