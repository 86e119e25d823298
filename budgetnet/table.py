"""The table that ``budgetnet rf`` prints, of receptive fields and cost, layer by layer; ``tabulate`` makes it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from budgetnet.columns import COLUMNS, sides, times
from budgetnet.errors import ModelError
from budgetnet.fields import Field
from budgetnet.layers import Shape
from budgetnet.markup import paragraph, table
from budgetnet.views import Interval

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


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f", … ({len(names)} in all)" if len(names) > 3 else "")


def _listed(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _listed(item) for key, item in value.items()}
    return [_listed(item) for item in value] if isinstance(value, list | tuple) else value
