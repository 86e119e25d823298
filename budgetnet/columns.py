"""How a row of the ``rf`` table reads: its columns, and what a person calls a layer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from budgetnet.graph import bare
from budgetnet.layers import ACTIVATIONS, Activation, AdaptivePool, Conv, Layer, Linear, Pool
from budgetnet.traced import Attention, Broadcast, Elementwise, Norm, Product, Taken, TransposedConv

if TYPE_CHECKING:
    from budgetnet.table import Row


def type_name(layer: Layer) -> str:
    """What a person calls a layer: "MaxPool", "GlobalAvgPool", "ReLU", "GroupNorm"."""
    layer = bare(layer)
    if isinstance(layer, Pool):
        return f"{layer.kind.capitalize()}Pool"
    if isinstance(layer, AdaptivePool):
        return f"{'Global' if set(layer.output) == {1} else 'Adaptive'}{layer.kind.capitalize()}Pool"
    if isinstance(layer, Activation):
        return ACTIVATIONS[layer.kind]
    if isinstance(layer, Norm):
        return f"{'RMS' if layer.kind == 'rms' else layer.kind.capitalize()}Norm"
    if isinstance(layer, Elementwise | Broadcast | Taken | Attention | Product):
        return layer.name
    if isinstance(layer, Linear):
        return "Linear"
    if isinstance(layer, TransposedConv):
        return "ConvTranspose"
    return "Conv" if isinstance(layer, Conv) else type(layer).__name__


@dataclass(frozen=True)
class Column:
    """A heading, how a cell reads, and the texts that need no column when there is nothing else; ``short`` heads it
    where space is short."""

    heading: str
    text: Callable[[Row], str]
    idle: tuple[str, ...] = ()
    left: bool = False
    short: str = ""

    def tells(self, rows: Sequence[Row]) -> bool:
        return not self.idle or not {self.text(row) for row in rows} <= {*self.idle, ""}


def times(values: Sequence[object]) -> str:
    """3×5."""
    return "×".join(map(str, values))


def sides(values: Sequence[int | None] | None) -> str:
    """One number where the axes agree, ``3×5`` where they differ, – where it is not defined."""
    if values is None:
        return ""
    shown = ["–" if value is None else str(value) for value in values]
    return shown[0] if len(set(shown)) == 1 else times(shown)


def _field(row: Row) -> str:
    """Its size, or that every cell sees everything where there is no grid to measure, as after attention."""
    return "global" if row.sees_all and None in row.jump else sides(row.receptive_field)


def _count(value: int) -> str:
    return f"{value:,}" if value else ""


COLUMNS = (
    Column("layer", lambda row: row.name, left=True),
    Column("type", lambda row: row.type, left=True),
    Column("kernel", lambda row: sides(row.kernel), idle=("",), short="k"),
    Column("stride", lambda row: sides(row.stride), idle=("1",), short="s"),
    Column("padding", lambda row: sides(row.padding), idle=("0",), short="p"),
    Column("dilation", lambda row: sides(row.dilation), idle=("1",), short="d"),
    Column("groups", lambda row: str(row.groups or ""), idle=("1",), short="g"),
    Column("output", lambda row: times(row.output)),
    Column("jump", lambda row: sides(row.jump), idle=("",)),
    Column("field", _field, idle=("",)),
    Column("start", lambda row: sides(row.start), idle=("0",)),
    Column("params", lambda row: _count(row.params)),
    Column("MACs", lambda row: _count(row.macs)),
)
