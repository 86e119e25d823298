"""Receptive fields by intervals: for every output index of every layer, the input pixels that it can see.

Intervals are exact where a chain formula is not: at the border, for branches that do not align, for adaptive pooling.
Size, jump and start follow Araujo, Norris and Sim, "Computing Receptive Fields of Convolutional Neural Networks"
(Distill 2019) and are given where they are defined. No torch here: a candidate is judged before it is built.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import prod

from budgetnet.architecture import Architecture
from budgetnet.errors import ArchitectureError
from budgetnet.expansion import piece_graph, piece_shape
from budgetnet.graph import Graph, bare, input_shapes, shapes_of
from budgetnet.layers import Concat, Conv, Flatten, Layer, Linear, Shape
from budgetnet.pieces import Block, Form, Style, Transition
from budgetnet.traced import Attention, Elementwise, Product, Taken, TransposedConv
from budgetnet.views import Adaptive, Interval, Slide, View


@dataclass(frozen=True, eq=False)
class Axis:
    """What the indices along one axis of a feature map see of the input, in pixels.

    intervals: first and last pixel seen by each index, clipped to the input; None where an index sees only padding.
    size, jump, start: width of the unclipped field, distance between neighbouring fields, first pixel of the first
    field (negative: inside the padding); None where the fields are not a regular grid.

    Compared by identity, so that a look-up in the memos below costs one pointer hash; ``_axis`` makes each only once.
    """

    intervals: tuple[Interval | None, ...]
    size: int | None
    jump: int | None
    start: int | None

    @property
    def extent(self) -> int:
        """Size of the field: of the regular grid where there is one, else the longest interval."""
        if self.size is not None:
            return self.size
        return max((last - first + 1 for first, last in filter(None, self.intervals)), default=0)

    def span(self, index: int) -> Interval | None:
        """First and last pixel of the field of one index: of its grid, beyond the input too, where there is one."""
        if self.start is None or self.jump is None or self.size is None:
            return self.intervals[index]
        first = self.start + index * self.jump
        return first, first + self.size - 1


Field = tuple[Axis, ...]
"""The receptive field of one feature map: an Axis for each axis of the map."""


@lru_cache(maxsize=1 << 14)
def _axis(
    intervals: tuple[Interval | None, ...], size: int | None = None, jump: int | None = None, start: int | None = None
) -> Axis:
    """The one Axis of this content, however it was reached: networks that see alike share what follows."""
    return Axis(intervals, size, jump, start)


@lru_cache(maxsize=1024)
def image_axis(pixels: int) -> Axis:
    """The input itself: every pixel sees itself."""
    return _axis(tuple((i, i) for i in range(pixels)), 1, 1, 0)


@lru_cache(maxsize=1 << 14)
def _through(axis: Axis, view: View) -> Axis:
    """The axis after a layer that looks at it through ``view``."""
    size = len(axis.intervals)
    if isinstance(view, Adaptive) and size % view.outputs == 0:
        bins = size // view.outputs
        view = Slide(bins, bins, 0, 1, view.outputs)
    intervals = tuple([_hull([axis.intervals[cell] for cell in window]) for window in _windows(view, size)])
    if not isinstance(view, Slide) or axis.size is None or axis.jump is None or axis.start is None:
        return _axis(intervals)
    return _axis(
        intervals,
        axis.size + (view.kernel - 1) * view.dilation * axis.jump,
        axis.jump * view.stride,
        axis.start - view.before * axis.jump,
    )


@lru_cache(maxsize=1 << 12)
def _windows(view: View, size: int) -> list[Sequence[int]]:
    """Per output index, the cells of a map of ``size`` that it sees."""
    return [view.cells(index, size) for index in range(view.outputs)]


def _hull(intervals: Sequence[Interval | None]) -> Interval | None:
    """From the first to the last pixel of all; None where only padding is seen."""
    seen = [interval for interval in intervals if interval]
    return (min([first for first, _ in seen]), max([last for _, last in seen])) if seen else None


@lru_cache(maxsize=1 << 14)
def _join(axes: tuple[Axis, ...]) -> Axis:
    """Several branches into one map: each index sees what any branch sees."""
    if len(set(axes)) == 1:
        return axes[0]
    cells = max(len(axis.intervals) for axis in axes)
    if any(len(axis.intervals) != cells for axis in axes):  # one cell for all: it is the same everywhere
        axes = tuple(_axis(axis.intervals * cells) if len(axis.intervals) == 1 else axis for axis in axes)
    intervals = tuple(_hull(seen) for seen in zip(*(axis.intervals for axis in axes), strict=True))
    first = axes[0]
    if any(axis.jump is None or axis.jump != first.jump for axis in axes):
        return _axis(intervals)
    start = min(axis.start for axis in axes if axis.start is not None)
    end = max(axis.start + axis.size for axis in axes if axis.start is not None and axis.size is not None)
    return _axis(intervals, end - start, first.jump, start)


def fields_of(graph: Graph, input_shape: Shape, *, strict: bool = False) -> list[Field]:
    """Receptive field of every node's output, one Axis for each axis of the input (two for an image).

    ``strict``: gates (squeeze-and-excite) and statistics of the map (group norm) let every cell see what they see;
    by default the values alone are followed.
    """
    source = tuple(image_axis(pixels) for pixels in input_shape[1:])
    looks = _looks(graph, input_shape, strict)
    if any(isinstance(bare(node.layer), Taken) for node in graph):
        return _follow_channels(graph, looks, input_shape, source)
    return _follow(looks, source)


Look = tuple[tuple[int, ...], tuple[View, ...] | None]
"""The inputs of a node, and what it sees of them."""


def _looks(graph: Graph, input_shape: Shape, strict: bool = False) -> list[Look]:
    shapes = shapes_of(graph, input_shape)
    looks: list[Look] = []
    for node in graph:
        entering = input_shapes(node, shapes, input_shape)
        if strict:
            looks.append((node.inputs, node.layer.strict_views(entering[0])))
        else:
            followed = tuple(node.inputs[index] for index in node.layer.followed(*entering))
            looks.append((followed, node.layer.views(entering[0])))
    return looks


def _follow(looks: Sequence[Look], source: Field) -> list[Field]:
    fields: list[Field] = []
    for inputs, views in looks:
        entering = [fields[index] if index >= 0 else source for index in inputs]
        fields.append(_seen(_joined(entering), views))
    return fields


def _seen(field: Field, views: tuple[View, ...] | None) -> Field:
    """The field after a layer. Where cells are in a row, that one axis has the places on every axis of the input."""
    if views is None:
        return field
    return tuple(map(_through, field, views if len(views) == len(field) else views * len(field)))


# --- channel by channel, where a network parts them -------------------------------------------------------------------


def _follow_channels(graph: Graph, looks: Sequence[Look], input_shape: Shape, source: Field) -> list[Field]:
    """As ``_follow``, but channels that see different things stay apart until a layer mixes them."""
    shapes = shapes_of(graph, input_shape)
    known: list[list[Field]] = []
    for node, (inputs, views), shape in zip(graph, looks, shapes, strict=True):
        entering = [known[index] if index >= 0 else [source] * input_shape[0] for index in inputs]
        channels = _channels(bare(node.layer), entering, shape[0])
        seen = {field: _seen(field, views) for field in set(channels)}
        known.append([seen[field] for field in channels])
    return [_together(channels) for channels in known]


def _channels(layer: Layer, entering: Sequence[Sequence[Field]], width: int) -> Sequence[Field]:
    """Per channel that comes out, the field of what goes into it."""
    if isinstance(layer, Concat):
        return [field for channels in entering for field in channels]
    if isinstance(layer, Flatten | Linear | Attention | Product):
        return [_joined([_together(channels) for channels in entering])] * width
    if isinstance(layer, Conv | TransposedConv):
        size = len(entering[0]) // layer.groups
        parts = [_together(entering[0][first : first + size]) for first in range(0, len(entering[0]), size)]
        return [field for field in parts for _ in range(width // layer.groups)]
    if isinstance(layer, Taken | Elementwise) and layer.mixed:
        return [_together(entering[0])] * width
    if isinstance(layer, Taken) and layer.channels is not None:
        return [entering[0][channel] for channel in layer.channels]
    if len(entering) == 1:
        return entering[0]
    wide = [channels if len(channels) == width else list(channels) * width for channels in entering]
    return [_joined(fields) for fields in zip(*wide, strict=True)]


def _together(channels: Sequence[Field]) -> Field:
    """What all channels see together."""
    return _joined(tuple(dict.fromkeys(channels)))


def _joined(fields: Sequence[Field]) -> Field:
    return fields[0] if len(fields) == 1 else tuple(_join(axes) for axes in zip(*fields, strict=True))


def feature_field(architecture: Architecture) -> tuple[Shape, Field]:
    """Shape and receptive field of the last map before the head; pieces seen before are answered from memory."""
    channels = architecture.input_shape[0]
    field: Field = tuple(image_axis(pixels) for pixels in architecture.input_shape[1:])
    for position, piece in enumerate(architecture.body):
        try:
            if isinstance(piece, Block):
                if piece.groups > 1:
                    piece_shape(piece, architecture.style, (channels, *_cells(field)))  # groups must divide the widths
                channels, field = piece.width, _piece_field(piece.form, field)
            else:
                field = _piece_field(piece, field)
        except ArchitectureError as error:
            raise architecture.located(error, position) from None
    return (channels, *_cells(field)), field


def _cells(field: Field) -> tuple[int, ...]:
    """The map that a field belongs to."""
    return tuple([len(axis.intervals) for axis in field])


@lru_cache(maxsize=1 << 15)
def _piece_field(piece: Form | Transition, field: Field) -> Field:
    """The field after a piece, whatever its width. Raises ArchitectureError when it does not fit the map."""
    return _follow(_piece_looks(piece, _cells(field)), field)[-1]


@lru_cache(maxsize=1 << 12)
def _piece_looks(piece: Form | Transition, cells: tuple[int, ...]) -> list[Look]:
    block = piece.block(piece.groups) if isinstance(piece, Form) else piece
    shape = (piece.groups if isinstance(piece, Form) else 1, *cells)
    return _looks(piece_graph(block, Style(), shape), shape)


def extent(field: Field) -> tuple[int, ...]:
    """Size of a receptive field in pixels, (height, width) for an image."""
    return tuple(axis.extent for axis in field)


def whole_views(field: Field, input_shape: Shape) -> int:
    """How many cells of the map see every pixel of the input, or the padding beside it."""
    return prod(
        sum(interval == (0, pixels - 1) for interval in axis.intervals)
        for axis, pixels in zip(field, input_shape[1:], strict=True)
    )
