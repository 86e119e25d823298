"""An architecture as a ``torch.nn.Module``, with the very layer names that its frozen source code has."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from budgetnet.architecture import Architecture
from budgetnet.graph import shape_after, shapes_along
from budgetnet.layers import Again, Call, Layer, Part, Residual, Shape


class ResidualSum(nn.Module):
    """``body(x) + shortcut(x)``; without a shortcut, x itself."""

    def __init__(self, body: nn.Module, shortcut: nn.Module) -> None:
        super().__init__()
        self.body = body
        self.shortcut = shortcut

    def forward(self, x: Tensor) -> Tensor:
        """Same shape from both branches, summed."""
        total: Tensor = self.body(x) + self.shortcut(x)
        return total


class Network(nn.Module):
    """Sections applied one after the other: (N, C, H, W) float images → (N, classes) logits."""

    def __init__(self, sections: Sequence[tuple[str, nn.Module]]) -> None:
        super().__init__()
        for name, section in sections:
            self.add_module(name, section)

    def forward(self, x: Tensor) -> Tensor:
        """Logits, not probabilities."""
        for section in self.children():
            x = section(x)
        return x


def build(architecture: Architecture, seed: int | None = None) -> Network:
    """The module of an architecture. ``seed`` fixes the initial weights; torch's global generator stays as it was."""
    if seed is None:
        return _build(architecture)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would also seed every GPU, and not undo it
        return _build(architecture)


def _build(architecture: Architecture) -> Network:
    shape = architecture.input_shape
    sections = []
    for name, parts in architecture.sections():
        sections.append((name, _sequential(parts, shape)))
        shape = shape_after(parts, shape)
    return Network(sections)


def _sequential(parts: Sequence[Part], shape: Shape) -> nn.Sequential:
    modules: list[nn.Module] = []
    for part, after in zip(parts, shapes_along(parts, shape), strict=True):
        modules.append(modules[-part.back] if isinstance(part, Again) else _module(part, shape))
        shape = after
    return nn.Sequential(*modules)


def _module(part: Layer | Residual, shape: Shape) -> nn.Module:
    if isinstance(part, Residual):
        shortcut = _sequential(part.shortcut, shape) if part.shortcut else nn.Identity()
        return ResidualSum(_sequential(part.body, shape), shortcut)
    return construct(part.call(shape))


def construct(call: Call) -> nn.Module:
    """Run a constructor call of ``torch.nn``."""
    module: nn.Module = getattr(nn, call.name)(*call.args, **dict(call.kwargs))
    return module
