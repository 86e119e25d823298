"""What an operation that arranges, joins or mixes a map amounts to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from budgetnet.layers import Layer, Shape
from budgetnet.layout import Layout


@dataclass(frozen=True)
class Made:
    """What an operation amounts to: layers one after the other, and how torch holds what comes out.

    each: layers through which every input goes first, where they differ.
    """

    layers: tuple[Layer, ...]
    layout: Layout
    each: tuple[tuple[Layer, ...], ...] = ()


Result = Made | tuple[Made | None, ...]
Arranger = Callable[..., Result]
"""(shape or shapes of the result, *torch's own arguments) → what is made. Raises Unknown, ArchitectureError."""


def plain(layers: tuple[Layer, ...], of: Shape) -> Made:
    """Layers whose result is a map as convolutions have it."""
    return Made(layers, Layout.plain(of))
