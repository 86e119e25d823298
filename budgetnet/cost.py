"""What a network costs, in closed form: params, MACs and peak activations, without torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import prod
from operator import le

from budgetnet.architecture import Architecture
from budgetnet.errors import ArchitectureError
from budgetnet.expansion import piece_graph, piece_shape
from budgetnet.graph import Graph, input_shapes, shapes_of
from budgetnet.layers import Shape
from budgetnet.pieces import Block, Form, Head, Style, Transition


@dataclass(frozen=True, slots=True)
class Cost:
    """Params: elements of all learned parameters. MACs: multiply-accumulates of convolutions and matrix products at
    batch 1. Peak activations: the most elements alive at once at batch 1 (see ``peak_activations``)."""

    params: int
    macs: int
    peak_activations: int


# --- of a graph of layers ---------------------------------------------------------------------------------------------


def graph_cost(graph: Graph, input_shape: Shape) -> Cost:
    """Cost of a graph of layers on an input ``(C, *map)``. Raises ArchitectureError if a layer cannot be applied."""
    params, macs, *alive = _counts(graph, input_shape)
    return Cost(params, macs, max(alive))


def _counts(graph: Graph, input_shape: Shape) -> list[int]:
    """Params, MACs, and the elements alive at the start and while each layer runs."""
    shapes = shapes_of(graph, input_shape)
    params = macs = 0
    for node in graph:
        inputs = input_shapes(node, shapes, input_shape)
        params += node.layer.params(*inputs)
        macs += node.layer.macs(*inputs)
    return [params, macs, *alive(graph, shapes, input_shape)]


def peak_activations(graph: Graph, shapes: Sequence[Shape], input_shape: Shape) -> int:
    """Most elements alive at once when layers run in order at batch 1."""
    return max(alive(graph, shapes, input_shape))


def alive(graph: Graph, shapes: Sequence[Shape], input_shape: Shape) -> list[int]:
    """Elements alive at once at batch 1, at the start and while each layer runs, in order.

    Alive while a layer runs: every tensor that it or a later layer reads, and its own output – unless it works in
    place (norm, activation, dropout, flatten, sum) on a first input that nobody reads afterwards.
    """
    last_use = {index: position for position, node in enumerate(graph) for index in node.inputs}
    alive = {-1: prod(input_shape)}
    totals = [alive[-1]]
    for position, node in enumerate(graph):
        first = node.inputs[0]
        if node.layer.in_place and last_use[first] == position:
            del alive[first]
        alive[position] = prod(shapes[position])
        totals.append(sum(alive.values()))
        alive = {index: size for index, size in alive.items() if last_use.get(index, len(graph)) > position}
    return totals


# --- of an architecture -----------------------------------------------------------------------------------------------


def cost(architecture: Architecture) -> Cost:
    """Cost of a whole architecture. Raises ArchitectureError where it cannot be built."""
    return cost_by_width(architecture)(architecture.widths)


def cost_by_width(architecture: Architecture) -> Callable[[Sequence[int]], Cost]:
    """Cost of every network of this shape, as a function of the widths of its blocks.

    The law of each piece is looked up once and only evaluated for new widths: screening and fitting live on that.
    Raises ArchitectureError where the shape is impossible; the function does, where groups do not divide the widths.
    """
    style, cells = architecture.style, architecture.input_shape[1:]
    laws: list[tuple[Law, bool]] = []
    for position, piece in enumerate((*architecture.body, architecture.head)):
        form = piece.form if isinstance(piece, Block) else piece
        try:
            law, cells = _law(form, style.norm, style.bias, cells)
        except ArchitectureError as error:
            raise architecture.located(error, position) from None
        laws.append((law, form is not piece))

    def spent(widths: Sequence[int]) -> Cost:
        remaining = iter(widths)
        channels, params, macs, peak = architecture.input_shape[0], 0, 0, prod(architecture.input_shape)
        for position, (law, is_block) in enumerate(laws):
            width = next(remaining) if is_block else channels
            try:
                more_params, more_macs, alive = law(channels, width)
            except ArchitectureError as error:
                raise architecture.located(error, position) from None
            params, macs, channels = params + more_params, macs + more_macs, width
            if alive > peak:
                peak = alive
        return Cost(params, macs, peak)

    return spent


# --- of a piece, as a law of its widths -------------------------------------------------------------------------------

Counter = Callable[[int, int], list[int]]
Law = Callable[[int, int], tuple[int, int, int]]
"""Params, MACs and peak activations of a piece, given its channels in and its width."""


@lru_cache(maxsize=1 << 14)
def _law(piece: Form | Transition | Head, norm: str, bias: bool, cells: Shape) -> tuple[Law, Shape]:
    """The law of one piece on a map of ``cells``, and the map after it. Raises ArchitectureError if it does not fit.

    Read off the layers of a few narrow pieces (``_polynomials``), so that no formula is written twice. A residual block
    has another law where its width is its input's and no shortcut is needed; with groups, which must divide both
    widths, every pair of widths is counted by itself.
    """

    def counts(channels: int, width: int) -> list[int]:
        shape = (channels, *cells)
        sized = piece.block(width) if isinstance(piece, Form) else piece
        return _counts(piece_graph(sized, Style(norm, bias=bias), shape), shape)

    if isinstance(piece, Form):
        block = piece.block(piece.groups)
        after = piece_shape(block, Style(), (block.groups, *cells))[1:]
        if block.groups > 1:
            return lru_cache(maxsize=1 << 12)(lambda c, w: _spent(counts(c, w))), after
        law = _evaluator(counts)
        if block.kind == "residual":
            same_width = _evaluator(lambda _, w: counts(w, w))
            return lambda c, w: same_width(c, w) if c == w else law(c, w), after
        return law, after
    return _evaluator(counts), piece_shape(piece, Style(), (1, *cells))[1:]


def _spent(counts: list[int]) -> tuple[int, int, int]:
    params, macs, *alive = counts
    return params, macs, max(alive)


def _evaluator(counts: Counter) -> Law:
    """The law behind ``counts``, cheap to evaluate."""
    (p, pc, pw, pcw, pww), (m, mc, mw, mcw, mww), *alive = _polynomials(counts)
    lines = _upper({line[:3] for line in alive})

    def law(c: int, w: int) -> tuple[int, int, int]:
        return (
            p + pc * c + w * (pw + pcw * c + pww * w),
            m + mc * c + w * (mw + mcw * c + mww * w),
            max([a + ac * c + aw * w for a, ac, aw in lines]),
        )

    return law


def _polynomials(counts: Counter) -> list[tuple[int, int, int, int, int]]:
    """Each count as (k, kc, kw, kcw, kww), meaning k + kc·c + kw·w + kcw·c·w + kww·w².

    Params and MACs of a layer are products of at most two widths, never c·c; activations are sums of single ones. So
    five pieces with c ≠ w decide the five coefficients, by finite differences.
    """
    samples = [counts(c, w) for c, w in ((1, 2), (1, 3), (1, 4), (5, 2), (5, 3))]
    polynomials = []
    for f12, f13, f14, f52, f53 in zip(*samples, strict=True):
        ww = (f14 - 2 * f13 + f12) // 2
        cw = (f53 - f13 - f52 + f12) // 4
        c = (f52 - f12) // 4 - 2 * cw
        w = f13 - f12 - 5 * ww - cw
        polynomials.append((f12 - c - 2 * w - 2 * cw - 4 * ww, c, w, cw, ww))
    return polynomials


def _upper(lines: set[tuple[int, ...]]) -> list[tuple[int, ...]]:
    """The lines that are highest somewhere: without those that another is above for all widths."""
    return [line for line in lines if not any(other != line and all(map(le, line, other)) for other in lines)]
