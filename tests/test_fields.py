"""Receptive fields by hand (size, jump and start of Araujo et al.) and against the input gradient, which cannot lie."""

from __future__ import annotations

from itertools import product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from budgetnet.architecture import Architecture
from budgetnet.build import build, construct
from budgetnet.errors import ArchitectureError
from budgetnet.fields import Axis, Field, extent, feature_field, fields_of, image_axis, whole_views
from budgetnet.graph import Node
from budgetnet.layers import AdaptivePool, Concat, Conv, Layer, Pool
from budgetnet.notation import parse
from tests.networks import A2, B1, B3, B7, B8, B10
from tests.strategies import architectures


def geometry(axis: Axis) -> tuple[int | None, int | None, int | None]:
    return axis.size, axis.jump, axis.start


def last_geometry(notation: str) -> list[tuple[int | None, int | None, int | None]]:
    return [geometry(axis) for axis in feature_field(parse(notation))[1]]


# --- by hand ----------------------------------------------------------------------------------------------------------
# size += (kernel - 1) · dilation · jump; start -= padding · jump; jump *= stride


@pytest.mark.parametrize(
    ("notation", "size", "jump", "start"),
    [
        ("8", 3, 1, 0),
        ("c8", 3, 1, -1),
        ("8 8", 5, 1, 0),
        ("c8 c8", 5, 1, -2),
        ("8%2", 5, 1, 0),
        ("c8%3", 7, 1, -3),
        ("8/2", 3, 2, 0),
        ("c8/2 c8", 7, 2, -3),  # 3; then (3 - 1) · 2 more, and 1 · 2 before
        ("8 M", 4, 2, 0),
        ("8 M 8", 8, 2, 0),
        ("c8 A3 c8", 5 + 6, 3, -1 - 3),
        ("1x1:8", 1, 1, 0),
        ("2x2:8", 2, 1, 0),
        ("5x5:8p1", 5, 1, -1),
        ("8 s12", 5, 1, -1),
        ("8 r8", 7, 1, -2),  # the body's 3 + 2 + 2, from -2 on, covers the shortcut
        ("8 r12/2", 9, 2, -3),  # the body: 3, + 2 · 1, + 2 · 2; from -1 and then 2 more; the 1x1 shortcut is inside
    ],
)
def test_size_jump_and_start(notation, size, jump, start):
    assert last_geometry(notation) == [(size, jump, start)] * 2


@pytest.mark.parametrize(
    ("notation", "sizes"),
    [
        (A2, (22, 22)),  # 4 convolutions: 9; M: 10; 3 at jump 2: 22
        (B1, (28, 28)),  # 9; 10; 1x1: 10; 4 at jump 2: 26; M at jump 2: 28
        (B3, (28, 28)),  # 5; M 6; 14: 10; 1x1; 12: 14; 16: 18; M 20; 16 at jump 4: 28
        (B7, (20, 20)),  # 5; 6; 10; 14; 18; M at jump 2: 20
        (B8, (28, 28)),  # as B3
        (B10, (22, 22)),  # 5; 6; 10; 14; 18; 22
        ("[3x32x32] 3x5:8 M 1x3:8", (3 + 1, 5 + 1 + 4)),
    ],
)
def test_receptive_fields_of_known_networks(notation, sizes):
    assert extent(feature_field(parse(notation))[1]) == sizes


@pytest.mark.parametrize(
    ("notation", "cells"),
    [
        ("8 8 M 8 8 M 8", 0),
        ("c8 c8 M c8 c8 M c8 c8", 1),  # 7 × 7 cells, fields of 32 from -14 on, 4 apart: only the one from -2 to 29
        ("c8 M 8 M c8 M c8 c8 c8", 9),  # 3 × 3 cells, fields of 70 from -29 on
    ],
)
def test_cells_that_see_the_whole_image(notation, cells):
    network = parse(notation)
    assert whole_views(feature_field(network)[1], network.input_shape) == cells


def test_the_average_pool_of_a2_sees_28_pixels():
    network = parse(A2)
    fields = dict(zip((node.name for node in network.graph()), fields_of(network.graph(), (1, 28, 28)), strict=True))
    assert [geometry(axis) for axis in fields["head.0"]] == [(22 + 3 * 2, 8, 0)] * 2
    assert fields["head.0"][0].intervals == ((0, 27),)


def test_the_shortcut_of_a_strided_residual_block_steps_with_its_body():
    network = parse("[1x9x9] r4/2")
    names = [node.name for node in network.graph()]
    fields = fields_of(network.graph(), (1, 9, 9))
    shortcut, body, joined = (fields[names.index(f"stem.0{end}")][0] for end in (".shortcut.0", ".body.3", ""))
    assert geometry(shortcut) == (1, 2, 0)
    assert shortcut.intervals == ((0, 0), (2, 2), (4, 4), (6, 6), (8, 8))
    assert geometry(body) == geometry(joined) == (7, 2, -3)
    assert joined.intervals == ((0, 3), (0, 5), (1, 7), (3, 8), (5, 8))


def test_global_pooling_sees_everything():
    network = parse("[1x9x11] 4")
    last = fields_of(network.graph(), (1, 9, 11))[-1]
    assert [axis.intervals for axis in last] == [((0, 8),), ((0, 10),)]
    assert extent(last) == (9, 11)


def test_a_dilated_tap_that_falls_into_the_padding_leaves_a_gap():
    # taps at -1, 1, 3: the first pixel seen is 1, not 0
    network = parse("[1x7x7] 4%2p1")
    assert feature_field(network)[1][0].intervals == ((1, 3), (0, 4), (1, 5), (2, 6), (3, 5))


def test_a_window_in_the_padding_sees_nothing():
    # padding 2, kernel 1: the first two and the last two outputs see only zeros
    network = parse("[1x3x3] 1x1:4p2")
    axis = feature_field(network)[1][0]
    assert axis.intervals == (None, None, (0, 0), (1, 1), (2, 2), None, None)
    assert geometry(axis) == (1, 1, -2)


def test_pooling_with_ceil_mode_is_clipped_at_the_border():
    graph = (Node("pool", Pool((2, 2), stride=(2, 2), ceil_mode=True), (-1,)),)
    assert fields_of(graph, (1, 5, 5))[0][0].intervals == ((0, 1), (2, 3), (4, 4))


def branches(first: Layer, second: Layer) -> Axis:
    """What two layers on an image of 9 pixels see side by side."""
    graph = (Node("a", first, (-1,)), Node("b", second, (-1,)), Node("out", Concat(), (0, 1)))
    return fields_of(graph, (1, 9, 9))[-1][0]


def test_branches_of_one_jump_see_their_union():
    # 2x2 from padding 1 on sees 2i - 1 and 2i, 2x2 without padding 2i and 2i + 1: five cells each, none the other's
    left, right = Conv((2, 2), (2, 2), (1, 1), width=1), Pool((2, 2), (2, 2), ceil_mode=True)
    for joined in (branches(left, right), branches(right, left)):
        assert geometry(joined) == (3, 2, -1)
        assert joined.intervals == ((0, 1), (1, 3), (3, 5), (5, 7), (7, 8))


def test_branches_that_step_differently_are_no_grid():
    # the first sees i … i + 4, the second 2i: five cells each
    axis = branches(Conv((5, 5), width=1), Conv((1, 1), (2, 2), width=1))
    assert geometry(axis) == (None, None, None)
    assert axis.intervals == ((0, 4), (1, 5), (2, 6), (3, 7), (4, 8))
    assert axis.extent == 5


def test_adaptive_pooling_that_does_not_divide_is_no_grid():
    # torch: cell i of 2 from floor(5i/2) to ceil(5(i+1)/2) - 1
    graph = (Node("pool", AdaptivePool((2, 2)), (-1,)),)
    axis = fields_of(graph, (1, 5, 5))[0][0]
    assert axis.intervals == ((0, 2), (2, 4))
    assert geometry(axis) == (None, None, None)
    assert axis.extent == 3


@st.composite
def windows(draw: st.DrawFn) -> Layer:
    """A layer that looks through windows, rectangular and different along both axes."""

    def pair(least: int, most: int) -> tuple[int, int]:
        return draw(st.tuples(st.integers(least, most), st.integers(least, most)))

    kind = draw(st.sampled_from(("conv", "pool", "adaptive")))
    if kind == "adaptive":
        return AdaptivePool(pair(1, 7))
    kernel, stride = pair(1, 4), pair(1, 3)
    if kind == "conv":
        return Conv(kernel, stride, pair(0, 3), pair(1, 3))
    padding = (draw(st.integers(0, kernel[0] // 2)), draw(st.integers(0, kernel[1] // 2)))
    return Pool(kernel, stride, padding, ceil_mode=draw(st.booleans()), kind="avg")


@settings(max_examples=150)
@given(windows(), st.integers(3, 12), st.integers(3, 12))
def test_every_window_sees_what_torch_lets_it_see(layer, height, width):
    shape = (1, height, width)
    try:
        expected = layer.out_shape(shape)
    except ArchitectureError:
        with pytest.raises(RuntimeError):
            construct(layer.call(shape))(torch.ones(1, *shape))
        return
    module = construct(layer.call(shape)).double()
    for parameter in module.parameters():
        nn.init.ones_(parameter)
    image = torch.ones(1, *shape, dtype=torch.float64, requires_grad=True)
    output = module(image)
    assert output.shape[1:] == expected
    field = fields_of((Node("layer", layer, (-1,)),), shape)[0]
    for row, column in product(range(expected[1]), range(expected[2])):
        seen = field[0].intervals[row], field[1].intervals[column]
        assert support(output, row, column, image) == (seen if None not in seen else (None, None)), (row, column)


def test_the_image_sees_itself():
    assert image_axis(3).intervals == ((0, 0), (1, 1), (2, 2))
    assert geometry(image_axis(3)) == (1, 1, 0)


def test_an_impossible_network_has_no_field():
    for _ in range(2):
        with pytest.raises(ArchitectureError) as caught:
            feature_field(parse("28 M20 8"))
        assert str(caught.value) == "stage1: convolution 3 × 3 leaves nothing of a map of 1 × 1 cells"


# --- any network ------------------------------------------------------------------------------------------------------


def plain(field: Field) -> list[tuple[object, ...]]:
    return [(axis.intervals, axis.size, axis.jump, axis.start) for axis in field]


@given(architectures())
def test_following_piece_by_piece_equals_following_the_graph(architecture):
    shape, field = feature_field(architecture)
    assert shape == architecture.feature_shape()
    assert plain(field) == plain(fields_of(architecture.features(), architecture.input_shape)[-1])


@given(architectures())
def test_inside_the_image_intervals_are_the_regular_grid(architecture):
    """Where nothing is clipped, interval i is start + i · jump … + size - 1."""
    _, field = feature_field(architecture)
    for axis, pixels in zip(field, architecture.input_shape[1:], strict=True):
        if axis.size is None or axis.jump is None or axis.start is None:
            continue
        for index, interval in enumerate(axis.intervals):
            first = axis.start + index * axis.jump
            if interval is not None and first >= 0 and first + axis.size <= pixels:
                assert interval == (first, first + axis.size - 1)


@settings(max_examples=100)
@given(architectures(max_width=3), st.data())
def test_intervals_are_the_support_of_the_input_gradient(architecture, data):
    graph = architecture.graph()
    fields = fields_of(graph, architecture.input_shape)
    outputs, image = outputs_of_positive(architecture)
    index = data.draw(st.integers(0, len(graph) - 1))
    name, field = graph[index].name, fields[index]
    rows, columns = (len(axis.intervals) for axis in field)
    for row, column in product({0, rows // 2, rows - 1}, {0, columns // 2, columns - 1}):
        seen = field[0].intervals[row], field[1].intervals[column]
        expected = seen if None not in seen else (None, None)
        assert support(outputs[name], row, column, image) == expected, (name, row, column)


def outputs_of_positive(architecture: Architecture) -> tuple[dict[str, Tensor], Tensor]:
    """Output of every layer of the built network, made linear and positive so that no path cancels or is cut off."""
    network = build(architecture).double()
    for path, module in list(network.named_modules()):
        owner, _, name = path.rpartition(".")
        if isinstance(module, nn.MaxPool2d):
            setattr(network.get_submodule(owner), name, nn.AvgPool2d(module.kernel_size, module.stride))
        elif isinstance(module, nn.BatchNorm2d | nn.Dropout) or type(module).__module__.endswith("activation"):
            setattr(network.get_submodule(owner), name, nn.Identity())
    for parameter in network.parameters():
        nn.init.ones_(parameter)
    outputs: dict[str, Tensor] = {}
    for path, module in network.named_modules():
        module.register_forward_hook(lambda _module, _inputs, out, path=path: outputs.__setitem__(path, out))
    image = torch.ones(1, *architecture.input_shape, dtype=torch.float64, requires_grad=True)
    network(image)
    return outputs, image


def support(output: Tensor, row: int, column: int, image: Tensor) -> tuple[object, object]:
    """First and last row and column of the image that one cell of ``output``, all channels together, depends on."""
    cell = output[0] if output.ndim == 2 else output[0, :, row, column]
    if cell.grad_fn is None:
        return None, None
    (gradient,) = torch.autograd.grad(cell.sum(), image, retain_graph=True)
    lit = gradient[0].sum(0) > 0
    ends = []
    for axis in (1, 0):
        where = lit.any(axis).nonzero().flatten().tolist()
        ends.append((where[0], where[-1]) if where else None)
    return ends[0], ends[1]


def test_the_gradient_oracle_can_fail():
    """A field that is one pixel off is found."""
    outputs, image = outputs_of_positive(parse("[1x9x9] 2 2"))
    assert support(outputs["stage1.0"], 0, 2, image) == ((0, 4), (2, 6))
    assert support(outputs["stem.0"], 0, 2, image) == ((0, 2), (2, 4))
