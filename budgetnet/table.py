"""Receptive field and cost of a network, layer by layer: the table that ``budgetnet rf`` prints.

Reads a graph of layers, so it serves an Architecture (without torch) and any traced ``nn.Module`` alike.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from math import prod
from typing import TYPE_CHECKING, Any

from budgetnet.architecture import Architecture
from budgetnet.columns import COLUMNS, sides, times, type_name
from budgetnet.cost import peak_activations
from budgetnet.errors import ModelError
from budgetnet.fields import Axis, Field, extent, fields_of, image_axis
from budgetnet.graph import Graph, Node, bare, input_shapes, shapes_of
from budgetnet.layers import AdaptivePool, Conv, Flatten, Layer, Pool, Shape
from budgetnet.markup import paragraph, table
from budgetnet.notation import parse
from budgetnet.traced import Pad, Taken, TransposedConv
from budgetnet.views import Interval

if TYPE_CHECKING:
    from torch import nn


_MOVING = frozenset(
    (
        "Flatten",
        "Dropout",
        "Identity",
        "Concat",
        "cat",
        "Tokens",
        "getitem",
        "chunk",
        "split",
        "roll",
        "flip",
        "rearrange",
    )
)
"""Types that only move or drop values."""

DEFAULT_INPUT: Shape = (1, 28, 28)


@dataclass(frozen=True)
class Row:
    """One layer. Window settings, jump, receptive field and start are per axis of the map: (height, width) of an image.

    kernel … groups: None where the layer has no window. output: shape without the batch. jump, start: None along an
    axis where branches do not align or pooling bins differ; then the receptive field is that of the widest cell.
    """

    name: str
    type: str
    kernel: tuple[int, ...] | None
    stride: tuple[int, ...] | None
    padding: tuple[int, ...] | None
    dilation: tuple[int, ...] | None
    groups: int | None
    output: Shape
    jump: tuple[int | None, ...]
    receptive_field: tuple[int, ...]
    start: tuple[int | None, ...]
    params: int
    macs: int
    sees_all: bool = False  # every cell sees the whole input, as after attention or global pooling


@dataclass(frozen=True, repr=False)
class ReceptiveFieldTable:
    """What every layer sees and costs, then the whole; prints as text, shows as HTML in a notebook.

    feature_layer: the last feature map, before global pooling or flattening; ``receptive_field``, ``jump`` and
    ``covers_input`` (its field is at least as large as the input, along every axis) are this map's.
    output_receptive_field: of the network's output. Sizes are in input pixels, unclipped: they may exceed the input.
    unused_params: included in ``params``, but never read by forward. strictly_global: layers that, strictly, let every
    cell see what statistics of the whole map say: normalisations over the map (group, layer, instance norm) and gates
    (squeeze-and-excite). The fields are those of the values, along the convolutions, unless ``strict``. joins: places
    where branches join, 0 where it cannot be told of all whether they align; misaligned: those of branches whose fields
    have other centres or jumps. fields: of every row, cell by cell; not part of the dictionary.
    """

    title: str
    input_shape: Shape
    rows: tuple[Row, ...]
    feature_layer: str
    jump: tuple[int | None, ...]
    receptive_field: tuple[int, ...]
    output_receptive_field: tuple[int, ...]
    covers_input: bool
    params: int
    macs: int
    peak_activations: int
    unused_params: int = 0
    strictly_global: tuple[str, ...] = ()
    strict: bool = False
    joins: int = 0
    misaligned: tuple[str, ...] = ()
    fields: tuple[Field, ...] = field(default=(), compare=False)

    def row(self, name: str) -> Row:
        """The row of one layer. Raises ModelError when there is none of this name."""
        for row in self.rows:
            if row.name == name:
                return row
        raise ModelError(f"{self.title} has no layer {name!r}; it has {', '.join(row.name for row in self.rows)}")

    @property
    def uncounted(self) -> dict[str, int]:
        """Types of layers that compute something and have no MACs, and how many there are of each."""
        return dict(Counter(row.type for row in self.rows if not row.macs and row.type not in _MOVING).most_common())

    def row_sees_all(self, name: str) -> bool:
        """Whether every cell of this layer's output sees the whole input."""
        return any(row.sees_all for row in self.rows if row.name == name)

    def field(self, name: str) -> Field:
        """What the cells of one layer's output see. Raises ModelError when there is none of this name."""
        return self.fields[self.rows.index(self.row(name))]

    def to_dict(self) -> dict[str, Any]:
        """JSON-able: every field, tuples as lists."""
        whole = {item.name: getattr(self, item.name) for item in fields(self) if item.name not in ("rows", "fields")}
        whole |= {"uncounted": self.uncounted, "rows": [asdict(row) for row in self.rows]}
        return {key: _listed(value) for key, value in whole.items()}

    def layer(self, name: str) -> LayerField:
        """One layer, and what its first, middle and last cell see. Raises ModelError when none has this name."""
        row = self.row(name)
        axes = self.field(name)
        lengths = [len(axis.intervals) for axis in axes]
        cells = [(0,) * len(axes), tuple(n // 2 for n in lengths), tuple(n - 1 for n in lengths)]
        seen = {cell: tuple(axis.intervals[i] for axis, i in zip(axes, cell, strict=True)) for cell in cells}
        return LayerField(self.title, self.input_shape, row, tuple(seen.items()))

    def cells(self) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
        """Headings and, for each layer, its cells as text; columns that say nothing here are left out."""
        columns = [column for column in COLUMNS if column.tells(self.rows)]
        return tuple(c.heading for c in columns), [tuple(c.text(row) for c in columns) for row in self.rows]

    def totals(self) -> list[str]:
        """The whole network in a few lines."""
        size, pixels = sides(self.receptive_field), times(self.input_shape[1:])
        covers = "covers" if self.covers_input else "does not cover"
        seen = "global" if self.row_sees_all(self.feature_layer) and None in self.jump else size
        lines = [
            f"receptive field {seen} after {self.feature_layer}, jump {sides(self.jump)}; {covers} the input {pixels}",
            f"receptive field of the output {sides(self.output_receptive_field)}",
            *self._alignment(),
            f"params {self.params:,} · MACs {self.macs:,} · peak activations {self.peak_activations:,}",
        ]
        if not self.input_shape[1:]:
            lines = lines[-1:]
        if self.uncounted:
            lines.append("without MACs: " + " · ".join(f"{count} {type_}" for type_, count in self.uncounted.items()))
        if self.unused_params:
            lines.append(f"{self.unused_params:,} of the params are never read by forward")
        if self.strictly_global:
            follows = "follows" if self.strict else "leaves out (--strict follows them)"
            who = _some(self.strictly_global)
            lines.append(f"global, strictly, by gates or statistics of the map, which this {follows}: {who}")
        return lines

    def _alignment(self) -> list[str]:
        """Of branches, if there are any."""
        if self.misaligned:
            return [f"branches that do not align: {_some(self.misaligned)}"]
        return ["branches align"] if self.joins else []

    def __str__(self) -> str:
        shown = [column for column in COLUMNS if column.tells(self.rows)]
        heading = tuple(column.short or column.heading for column in shown)
        rows = [tuple(column.text(row) for column in shown) for row in self.rows]
        widths = [max(map(len, column)) for column in zip(heading, *rows, strict=True)]
        left = [column.left for column in shown]
        legend = ", ".join(f"{column.short} {column.heading}" for column in shown if column.short)
        lines = [
            "  ".join(
                cell.ljust(width) if text else cell.rjust(width)
                for cell, width, text in zip(cells, widths, left, strict=True)
            ).rstrip()
            for cells in (heading, *rows)
        ]
        rule = "─" * max(map(len, lines))
        return "\n".join(
            [self._caption(), lines[0], rule, *lines[1:], rule, *self.totals(), *([legend] * bool(legend))]
        )

    __repr__ = __str__

    def _caption(self) -> str:
        return f"{self.title} · input {times(self.input_shape)}"

    def _repr_html_(self) -> str:
        heading, rows = self.cells()
        words = [column.heading for column in COLUMNS if column.left]
        return table(self._caption(), heading, rows, words) + paragraph(self.totals())


@dataclass(frozen=True)
class LayerField:
    """One layer of a table. seen: cells, and the first and last pixel that each sees, axis by axis (None: padding)."""

    title: str
    input_shape: Shape
    row: Row
    seen: tuple[tuple[tuple[int, ...], tuple[Interval | None, ...]], ...]

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        seen = [{"cell": list(cell), "pixels": _listed(pixels)} for cell, pixels in self.seen]
        return {"title": self.title, "input_shape": list(self.input_shape), **_listed(asdict(self.row)), "seen": seen}

    def __str__(self) -> str:
        told = [(column.heading, column.text(self.row)) for column in COLUMNS]
        lines = [f"{heading:<9} {text}" for heading, text in told if text]
        for cell, pixels in self.seen:
            ends = [f"{ends[0]}–{ends[1]}" if ends else "padding only" for ends in pixels]
            lines.append(f"cell {times(cell)} sees pixels {' × '.join(ends)} of {times(self.input_shape[1:])}")
        return "\n".join(lines)


def receptive_field(
    network: Architecture | nn.Module | str,
    input_shape: Sequence[int] | None = None,
    title: str | None = None,
    *,
    strict: bool = False,
) -> ReceptiveFieldTable:
    """The table of an Architecture, its notation, or any ``nn.Module`` (run once on zeros, and left as it was).

    ``input_shape`` is (channels, height, width), without the batch; by default what the network itself says, else
    (1, 28, 28). ``title`` is by default the notation or the class. ``strict``: follow gates and statistics of the map,
    too. Raises ArchitectureError, ModelError or TraceError.
    """
    if isinstance(network, str):
        network = parse(network)
    if isinstance(network, Architecture):
        title = title or str(network)
        if input_shape is not None:
            network = replace(network, input_shape=tuple(input_shape))
        return tabulate(network.graph(), network.input_shape, title, strict=strict)
    return _of_module(network, input_shape, title or type(network).__name__, strict)


def _of_module(module: nn.Module, input_shape: Sequence[int] | None, title: str, strict: bool) -> ReceptiveFieldTable:
    from torch.nn import Module

    from budgetnet.trace import trace, unused_params

    if not isinstance(module, Module):
        raise ModelError(f"an Architecture, its notation or an nn.Module is needed, but got a {type(module).__name__}")
    shape = input_shape_of(module, input_shape)
    graph = trace(module, shape)
    return tabulate(graph, shape, title, unused_params(module, graph, shape), strict=strict)


def input_shape_of(module: nn.Module, given: Sequence[int] | None = None) -> Shape:
    """``given``; else the module's own ``input_shape``; else (1, 28, 28). Raises ModelError if that is no shape."""
    shape = given if given is not None else getattr(module, "input_shape", DEFAULT_INPUT)
    fits = isinstance(shape, Sequence) and len(shape) > 0 and all(isinstance(n, int) and n > 0 for n in shape)
    if not fits:
        raise ModelError(f"{type(module).__name__}: input_shape must be like (1, 28, 28), but is {shape!r}")
    return tuple(shape)


def tabulate(
    graph: Graph, input_shape: Shape, title: str, unused_params: int = 0, *, strict: bool = False
) -> ReceptiveFieldTable:
    """The table of a graph of layers. ``unused_params`` are added to its own."""
    shapes = shapes_of(graph, input_shape)
    seen_by = fields_of(graph, input_shape, strict=strict)
    rows = tuple(
        _row(node, input_shapes(node, shapes, input_shape), shape, field, input_shape[1:])
        for node, shape, field in zip(graph, shapes, seen_by, strict=True)
    )
    feature = _last_feature_map(graph, shapes, input_shape)
    field = tuple(map(image_axis, input_shape[1:])) if feature < 0 else seen_by[feature]
    seen = extent(field)
    joined = list(_branching(graph, shapes, input_shape, seen_by))
    return ReceptiveFieldTable(
        title=title,
        input_shape=input_shape,
        rows=rows,
        feature_layer="the input" if feature < 0 else graph[feature].name,
        jump=tuple(axis.jump for axis in field),
        receptive_field=seen,
        output_receptive_field=extent(seen_by[-1]),
        covers_input=all(size >= pixels for size, pixels in zip(seen, input_shape[1:], strict=True)),
        params=sum(row.params for row in rows) + unused_params,
        macs=sum(row.macs for row in rows),
        peak_activations=peak_activations(graph, shapes, input_shape),
        unused_params=unused_params,
        strictly_global=tuple(
            node.name for node in graph if _is_strictly_global(node, input_shapes(node, shapes, input_shape))
        ),
        strict=strict,
        joins=len(joined) if all(_is_even(field) for _, branches in joined for field in branches) else 0,
        misaligned=tuple(name for name, branches in joined if _are_apart(branches)),
        fields=tuple(seen_by),
    )


def _branching(
    graph: Graph, shapes: Sequence[Shape], input_shape: Shape, fields: Sequence[Field]
) -> Iterator[tuple[str, list[Field]]]:
    """Joins by name, with the fields of their branches."""
    source = tuple(map(image_axis, input_shape[1:]))
    for node in graph:
        followed = [node.inputs[i] for i in node.layer.followed(*input_shapes(node, shapes, input_shape))]
        if len(followed) > 1:
            yield node.name, [fields[index] if index >= 0 else source for index in followed]


def _are_apart(branches: Sequence[Field]) -> bool:
    """Whether cells of branches are centred on different pixels (Araujo et al. 2019, "Alignment issues")."""
    return len({tuple(map(_grid, field)) for field in branches if _is_even(field)}) > 1


def _is_even(field: Field) -> bool:
    """Whether the cells lie at equal distances; behind a resize they may not."""
    return all(axis.jump is not None for axis in field)


def _grid(axis: Axis) -> tuple[float, int | None]:
    """Centre of the first field, in pixels, and the distance to the next."""
    span = axis.span(0)
    assert span is not None
    return sum(span) / 2, axis.jump


def _is_strictly_global(node: Node, inputs: Sequence[Shape]) -> bool:
    """Whether a gate or a statistic of the map lets every cell see more than the values do."""
    gated = len(node.layer.followed(*inputs)) < len(inputs)
    return gated or (node.layer.strict_views(inputs[0]) != node.layer.views(inputs[0]) and prod(inputs[0][1:]) > 1)


def _row(node: Node, inputs: Sequence[Shape], output: Shape, field: Field, seen: Shape) -> Row:
    """``seen``: the pixels along each axis of the input."""
    layer = bare(node.layer)
    window = layer if isinstance(layer, Conv | Pool | TransposedConv) else None
    return Row(
        name=node.name,
        type=type_name(node.layer),
        kernel=window.kernel if window else None,
        stride=window.stride if window else None,
        padding=window.padding if window else layer.before if isinstance(layer, Pad) else None,
        dilation=window.dilation if window else None,
        groups=layer.groups if isinstance(layer, Conv | TransposedConv) else None,
        output=output,
        jump=tuple(axis.jump for axis in field),
        receptive_field=extent(field),
        start=tuple(axis.start for axis in field),
        params=node.layer.params(*inputs),
        macs=node.layer.macs(*inputs),
        sees_all=all(set(axis.intervals) == {(0, pixels - 1)} for axis, pixels in zip(field, seen, strict=True)),
    )


def _last_feature_map(graph: Graph, shapes: Sequence[Shape], input_shape: Shape) -> int:
    """The node before the first global pooling or flattening on the way to the output; -1 for the input itself.

    Where branches join, the way is the one with the largest map: a squeeze-and-excite gate is no end of the features.
    """
    node, feature = len(graph) - 1, len(graph) - 1
    while node >= 0:
        inputs = input_shapes(graph[node], shapes, input_shape)
        cells = [prod(shape[1:]) for shape in inputs]
        source = graph[node].inputs[cells.index(max(cells))]
        if _ends_the_map(graph[node].layer, max(inputs, key=lambda shape: prod(shape[1:]))):
            feature = source
        node = source
    return feature


def _ends_the_map(layer: Layer, shape: Shape) -> bool:
    if isinstance(layer, AdaptivePool):
        return set(layer.output) == {1}
    if isinstance(layer, Taken) and layer.seen and prod(shape[1:]) > 1:
        return all(view.outputs == 1 for view in layer.seen)  # a class token, say
    covering = isinstance(layer, Pool) and layer.kind == "avg" and layer.kernel == shape[1:]
    return covering or isinstance(layer, Flatten)


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f", … ({len(names)} in all)" if len(names) > 3 else "")


def _listed(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _listed(item) for key, item in value.items()}
    return [_listed(item) for item in value] if isinstance(value, list | tuple) else value
