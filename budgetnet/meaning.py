"""What one operation amounts to: layers and a layout, for maps as torch holds them, or read as maps where it must."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor
from torch.utils import _pytree as pytree

from budgetnet.arrangements import ARRANGEMENTS
from budgetnet.errors import ArchitectureError
from budgetnet.layers import Layer
from budgetnet.layout import Layout
from budgetnet.made import Made, Result
from budgetnet.operators import KEEPING, OPERATORS, Map, Unknown

KNOWN = OPERATORS.keys() | ARRANGEMENTS.keys()


def meaning(name: str, value: Any, layouts: Sequence[Layout], args: Any, kwargs: Any) -> Result:
    """What the operator called ``name`` amounts to, whose result is ``value``.

    layouts: of the maps in its arguments, in their order. Raises Unknown, ArchitectureError, TypeError.
    """
    tensors = [item for item in (value if isinstance(value, list | tuple) else (value,)) if item is not None]
    if not all(isinstance(item, Tensor) for item in tensors):
        raise Unknown("does not give tensors")
    if name not in KNOWN:
        raise Unknown
    if name in OPERATORS and not isinstance(value, Tensor):
        raise Unknown("gives several results, which its record does not know")
    shapes = [tuple(item.shape) for item in tensors]
    out = shapes[0] if isinstance(value, Tensor) else shapes
    try:
        return _arranged(name, out, layouts, args, kwargs)
    except (Unknown, ArchitectureError):
        if all(layout.is_plain for layout in layouts):
            raise
        return _after(tuple(map(as_map, layouts)), _arranged(name, out, [], *_read_as_maps((args, kwargs))))


def _arranged(name: str, out: Any, layouts: Sequence[Layout], args: Any, kwargs: Any) -> Result:
    """What an operator makes of its inputs as torch holds them. Raises Unknown, ArchitectureError."""
    if name in ARRANGEMENTS:
        return ARRANGEMENTS[name](out, *args, **kwargs)
    if name in KEEPING and len(set(layouts)) == 1:
        return Made(OPERATORS[name](layouts[0].of, *args, **kwargs), layouts[0])
    if not all(layout.is_plain for layout in layouts):
        raise Unknown("needs a map with its channels first")
    return Made(OPERATORS[name](out[1:], *args, **kwargs), Layout.plain(out[1:]))


def _after(each: tuple[tuple[Layer, ...], ...], result: Result) -> Result:
    """The same, after layers that every input goes through first."""
    if isinstance(result, tuple):
        return tuple(made and Made(made.layers, made.layout, _chained(each, made.each)) for made in result)
    return Made(result.layers, result.layout, _chained(each, result.each))


def _chained(
    first: tuple[tuple[Layer, ...], ...], then: tuple[tuple[Layer, ...], ...]
) -> tuple[tuple[Layer, ...], ...]:
    return tuple((*a, *b) for a, b in zip(first, then, strict=True)) if then else first


def _read_as_maps(arguments: Any) -> Any:
    return pytree.tree_map_only(Map, lambda each: Map(Layout.plain(each.layout.shape[1:])), arguments)


def as_map(layout: Layout) -> tuple[Layer, ...]:
    """What makes a map of a tensor in another layout."""
    return () if layout.is_plain else (layout.as_map(),)
