"""Params, MACs and peak activations against literal networks, the layers themselves, and a second liveness count.

fvcore and ``numel`` are asked in test_build.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from budgetnet.architecture import Architecture
from budgetnet.cost import Cost, cost, graph_cost, peak_activations
from budgetnet.errors import ArchitectureError
from budgetnet.graph import Graph, Node, shapes_of
from budgetnet.layers import Activation, Add, BatchNorm, Concat, Conv, Flatten, Linear, Shape
from budgetnet.notation import parse
from budgetnet.pieces import Block, Head, Style, Transition
from tests.networks import PARAMS
from tests.strategies import architectures

# --- literal networks -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("text", "params"), PARAMS.items())
def test_params_of_the_baselines(text, params):
    assert cost(parse(text)).params == params


def test_a_network_counted_by_hand():
    # 1x6x6 → conv 3x3, 2 channels → 2x4x4: 18 weights, BatchNorm 4; 18 · 16 = 288 MACs; alive: 36 + 32 = 68
    # → M → 2x2x2: alive 32 + 8 = 40 → gap → 2: alive 8 + 2 → 1x1 conv to 3 with bias: 6 + 3 params, 6 MACs
    network = Architecture((Block(2), Transition()), Head(3), input_shape=(1, 6, 6))
    assert cost(network) == Cost(params=18 + 4 + 9, macs=288 + 6, peak_activations=68)


def test_macs_of_a_strided_biased_rectangular_convolution():
    # 3x9x9, kernel 3x1, stride 2 → 4x5 cells; 4 channels; per output: 3·3·1 multiply-adds; the bias adds none
    network = Architecture(
        (Block(4, kernel=(3, 1), stride=2, bare=True),), Head(1), Style(bias=True), input_shape=(3, 9, 9)
    )
    assert cost(network).macs == 4 * (4 * 5) * 9 + 4
    assert cost(network).params == 4 * 9 + 4 + 4 + 1


def test_a_loop_counts_its_weights_once_and_its_macs_each_time():
    # 1x6x6 → conv 3x3, 2 channels → 2x4x4: 18 weights, BatchNorm 4, 18 · 16 MACs; then a convolution 2 → 2, 36 weights:
    # → 2x2x2, BatchNorm 4, 36 · 4 MACs
    once = Architecture((Block(2, loops=1),), Head(3), input_shape=(1, 6, 6))
    assert cost(once) == Cost(params=18 + 4 + 36 + 4 + 9, macs=288 + 144 + 6, peak_activations=68)
    # padded, the map stays 6x6: 18 · 36 MACs, then 36 · 36 each time; two loops have norms of their own, one weight
    twice = Architecture((Block(2, padding=(1, 1), loops=2),), Head(3), input_shape=(1, 6, 6))
    assert cost(twice).params == 18 + 4 + 36 + 2 * 4 + 9
    assert cost(twice).macs == 18 * 36 + 2 * 36 * 36 + 6


def test_a_separable_block_counted_by_hand():
    # on 4 channels, 5x5: depthwise 4·9 weights, 36 · 25 MACs; BatchNorm 8; pointwise 4·6, 24 · 25 MACs; BatchNorm 12
    before = parse("[1x5x5] 1x1:4")
    after = parse("[1x5x5] 1x1:4 s6")
    heads = (cost(before).params - 4 - 8, cost(after).params - 4 - 8 - (36 + 8 + 24 + 12))
    assert heads == (4 * 10 + 10, 6 * 10 + 10)
    assert cost(after).macs - cost(before).macs == (36 + 24) * 25 + (6 - 4) * 10


def test_a_residual_block_holds_its_input_until_the_sum():
    # 4x6x6 = 144 elements everywhere. x, conv(x) → norm and activation in place, conv → a third buffer: 3 · 144
    assert cost(parse("[4x6x6] r4")).peak_activations == 3 * 144
    # with a 1x1 shortcut to 8 channels: x 144 stays alive beside the body's 288 while the second convolution needs
    # 288 + 288; then the body 288, x 144 and the shortcut's 288: the peak is 144 + 288 + 288 both times
    assert cost(parse("[4x6x6] r8")).peak_activations == 144 + 288 + 288


def test_groups_divide_the_weights():
    # 8 → 12 channels, groups 4: every output sees 2 channels
    plain, grouped = cost(parse("[8x5x5] 12*")), cost(parse("[8x5x5] 12*g4"))
    assert plain.params - grouped.params == 12 * 9 * (8 - 2)
    assert plain.macs - grouped.macs == 12 * 9 * 9 * (8 - 2)


# --- any network ------------------------------------------------------------------------------------------------------


@given(architectures())
def test_counting_piece_by_piece_equals_counting_the_whole_graph(architecture):
    assert cost(architecture) == graph_cost(architecture.graph(), architecture.input_shape)


@given(architectures(), st.data())
def test_cost_does_not_depend_on_what_was_counted_before(architecture, data):
    """The same shape of network with other widths, equal ones among them, is counted as its own graph."""
    drawn = [data.draw(st.integers(1, 5)) for _ in architecture.blocks]
    network = architecture.with_widths(
        [width * block.groups for width, block in zip(drawn, architecture.blocks, strict=True)]
    )
    try:
        network.sections()
    except ArchitectureError:
        assume(False)  # groups that divide the old widths need not divide the new
    cost(architecture)
    assert cost(network) == graph_cost(network.graph(), network.input_shape)


@given(architectures(), st.integers(0, 5))
def test_cost_grows_with_width(architecture, index):
    """Blocks without groups and shortcuts: one channel more never costs less, and always more params."""
    blocks = architecture.blocks
    assume(all(block.groups == 1 and block.kind != "residual" for block in blocks))
    widths = list(architecture.widths)
    widths[index % len(widths)] += 1
    small, large = cost(architecture), cost(architecture.with_widths(widths))
    assert large.params > small.params
    assert large.macs > small.macs
    assert large.peak_activations >= small.peak_activations


@given(architectures())
def test_dropout_and_activation_cost_nothing(architecture):
    plain = tuple(
        Block(**{**vars(piece), "dropout": 0.0}) if isinstance(piece, Block) else piece for piece in architecture.body
    )
    style = Style(architecture.style.norm, "relu", architecture.style.bias)
    other = Architecture(plain, architecture.head, style, architecture.input_shape)
    assert cost(other) == cost(architecture)


@pytest.mark.parametrize(
    ("notation", "message"),
    [
        ("28 M20 8", "stage1: convolution 3 × 3 leaves nothing of a map of 1 × 1 cells"),
        ("10 8g3", "stage1: groups must divide both widths, but got groups=3 for 10 → 8 channels"),
        ("8 | avg4 1x1:10", "the head must leave one cell per class, but leaves a map of 6 × 6"),
    ],
)
def test_an_impossible_network_has_no_cost(notation, message):
    for _ in range(2):  # the second time from memory
        with pytest.raises(ArchitectureError) as caught:
            cost(parse(notation))
        assert str(caught.value) == message


# --- peak activations against a second count --------------------------------------------------------------------------


def peak_by_lifetimes(graph: Graph, shapes: Sequence[Shape], input_shape: Shape) -> int:
    """The same number from the lifetimes of buffers: a result that overwrites its first input joins its buffer."""
    reads: dict[int, list[int]] = {-1: []}
    for position, node in enumerate(graph):
        reads[position] = []
        for source in node.inputs:
            reads[source].append(position)
    buffer_of, size, birth, death = {-1: -1}, {-1: prod(input_shape)}, {-1: 0}, {-1: max(reads[-1], default=0)}
    for position, node in enumerate(graph):
        first = node.inputs[0]
        home = buffer_of[first] if node.layer.in_place and max(reads[first]) == position else position
        buffer_of[position] = home
        size[home] = max(size.get(home, 0), prod(shapes[position]))
        birth.setdefault(home, position)
        death[home] = max(reads[position], default=len(graph))
    return max(
        sum(size[buffer] for buffer in size if birth[buffer] <= moment <= death[buffer]) for moment in range(len(graph))
    )


@given(architectures())
def test_peak_activations_equal_the_lifetimes_of_buffers(architecture):
    graph = architecture.graph()
    shapes = shapes_of(graph, architecture.input_shape)
    expected = peak_by_lifetimes(graph, shapes, architecture.input_shape)
    assert peak_activations(graph, shapes, architecture.input_shape) == expected
    assert cost(architecture).peak_activations == expected


@st.composite
def tangled(draw: st.DrawFn) -> Graph:
    """Any graph of layers on a map of 4 cells, outputs read by several layers, joined again later."""
    nodes: list[Node] = []
    for position in range(draw(st.integers(1, 8))):
        source = st.integers(-1, position - 1)
        layer, arity = draw(
            st.sampled_from(
                [(Conv((1, 1), width=2), 1), (BatchNorm(), 1), (Activation(), 1), (Add(), 2), (Concat(), 2)]
            )
        )
        nodes.append(Node(str(position), layer, tuple(draw(source) for _ in range(arity))))
    read = {index for node in nodes for index in node.inputs}
    loose = tuple(index for index in range(len(nodes)) if index not in read)
    return (*nodes, Node("out", Concat(), loose)) if len(loose) > 1 else tuple(nodes)


@given(tangled())
def test_peak_activations_of_any_graph(graph):
    shape = (2, 2, 2)
    try:
        shapes = shapes_of(graph, shape)
    except ArchitectureError:
        assume(False)
    assert peak_activations(graph, shapes, shape) == peak_by_lifetimes(graph, shapes, shape)


def test_an_output_that_is_read_twice_is_not_overwritten():
    # x (4) → conv a (4) → relu b beside a, as a is read again: 8 → a + b, where a is overwritten: 8
    graph = (
        Node("a", Conv((1, 1), width=1), (-1,)),
        Node("b", Activation(), (0,)),
        Node("c", Add(), (0, 1)),
    )
    assert peak_activations(graph, shapes_of(graph, (1, 2, 2)), (1, 2, 2)) == 8


def test_flattening_moves_nothing():
    graph = (Node("flat", Flatten(), (-1,)), Node("fc", Linear(10), (0,)))
    assert peak_activations(graph, shapes_of(graph, (2, 3, 3)), (2, 3, 3)) == 18 + 10
