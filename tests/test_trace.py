"""Any module as a graph: equal to the architecture it was built from, to literal goldens, and to the input gradient."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import Tensor, nn

from budgetnet.architecture import Architecture
from budgetnet.build import build
from budgetnet.cost import graph_cost
from budgetnet.errors import ArchitectureError, ModelError, TraceError
from budgetnet.fields import extent, fields_of
from budgetnet.graph import Counted, Graph, shapes_of
from budgetnet.layers import AdaptivePool, Conv, Flatten, Pool, Shape
from budgetnet.pieces import Block, Head, Style, Transition, same_padding
from budgetnet.tabulate import receptive_field
from budgetnet.trace import trace, unused_params
from budgetnet.traced import Elementwise, Norm


class Apply(nn.Module):
    """A module whose forward is a function of itself and the input, with layers as named."""

    def __init__(self, function, **layers: nn.Module) -> None:
        super().__init__()
        self.function = function
        for name, layer in layers.items():
            setattr(self, name, layer)

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self, x)


def outputs(module: nn.Module, input_shape: Shape) -> Shape:
    return shapes_of(trace(module, input_shape), input_shape)[-1]


def names(graph: Graph) -> list[str]:
    return [node.name for node in graph]


# --- the graph of a built architecture is the architecture's ----------------------------------------------------------


@st.composite
def blocks(draw: st.DrawFn) -> Block | Transition:
    if draw(st.integers(0, 5)) == 0:
        return Transition(draw(st.sampled_from(["max", "avg"])))
    kind = draw(st.sampled_from(["plain", "separable", "residual"]))
    kernel = draw(st.sampled_from([(1, 1), (3, 3), (5, 3), (1, 5)]))
    dilation = draw(st.integers(1, 2))
    is_bare = kind == "plain" and draw(st.booleans())
    return Block(
        width=draw(st.integers(1, 4)),
        kind=kind,
        kernel=kernel,
        stride=draw(st.integers(1, 2)),
        padding=same_padding(kernel, dilation) if kind == "residual" or draw(st.booleans()) else (0, 0),
        dilation=dilation,
        bare=is_bare,
        dropout=draw(st.sampled_from([0.0, 0.1])),
        loops=0 if is_bare or kind == "residual" else draw(st.integers(0, 3)),
    )


@st.composite
def architectures(draw: st.DrawFn) -> Architecture:
    style = Style(
        draw(st.sampled_from(["before", "after", "none"])),
        draw(st.sampled_from(["relu", "gelu", "hardswish"])),
        draw(st.booleans()),
    )
    head = Head(3, draw(st.sampled_from(["conv", "linear"])), "global")
    body = (Block(width=2, padding=(1, 1)), *draw(st.lists(blocks(), max_size=4)))
    architecture = Architecture(body, head, style, (draw(st.integers(1, 3)), 70, draw(st.integers(70, 80))))
    try:
        architecture.graph()
    except ArchitectureError:
        assume(False)  # a map vanished
    return architecture


@given(architectures())
def test_a_built_architecture_traces_to_its_own_graph(architecture: Architecture) -> None:
    expected = architecture.graph()
    module = build(architecture)
    traced = trace(module, architecture.input_shape)
    assert traced == expected
    assert unused_params(module, traced, architecture.input_shape) == 0


# --- literal goldens --------------------------------------------------------------------------------------------------


def test_resnet18_has_its_published_numbers() -> None:
    """Parameters: torchvision's model page; MACs: fvcore's 1.814 G; field 435 and jump 32: Araujo et al. 2019 write 18
    layers as 7 + 2·2 (pool) = 11, + 4·2·4 = 43, + 2·4 + 3·2·8 = 99, + 2·8 + 3·2·16 = 211, + 2·16 + 3·2·32 = 435."""
    from torchvision.models import resnet18

    with torch.device("meta"):
        module = resnet18()
    graph = trace(module, (3, 224, 224))
    cost = graph_cost(graph, (3, 224, 224))
    assert cost.params == 11_689_512
    assert cost.macs == 1_814_073_344
    last = names(graph).index("layer4.1.relu@2")
    (height, width) = fields_of(graph, (3, 224, 224))[last]
    assert (height.size, width.size, height.jump) == (435, 435, 32)
    assert names(graph)[:6] == ["conv1", "bn1", "relu", "maxpool", "layer1.0.conv1", "layer1.0.bn1"]
    assert names(graph)[-3:] == ["avgpool", "flatten", "fc"]


@pytest.mark.parametrize(
    ("model", "shape", "params"),
    # params: torchvision's documentation, "num_params" of the weights
    [("squeezenet1_1", (3, 64, 64), 1_235_496), ("mobilenet_v2", (3, 64, 64), 3_504_872)],
)
def test_torchvision_networks_with_branches_and_groups(model: str, shape: Shape, params: int) -> None:
    from torchvision.models import get_model

    assert graph_cost(trace(get_model(model), shape), shape).params == params


def test_vgg11_by_hand() -> None:
    """Field before the last pooling: 3×3 convolutions at jumps 1, 2, 4, 4, 8, 8, 16, 16 and 2×2 pools at 1, 2, 4, 8:
    1 + 2·(1 + 2 + 4 + 4 + 8 + 8 + 16 + 16) + (1 + 2 + 4 + 8) = 134; the fifth pool adds 16 → 150."""
    from torchvision.models import vgg11

    with torch.device("meta"):
        module = vgg11()
    graph = trace(module, (3, 224, 224))
    assert graph_cost(graph, (3, 224, 224)).params == 132_863_336
    fields = dict(zip(names(graph), fields_of(graph, (3, 224, 224)), strict=True))
    assert extent(fields["features.19"]) == (134, 134)
    assert extent(fields["features.20"]) == (150, 150)


def test_branches_that_do_not_align_have_a_hull_and_one_jump() -> None:
    """Stride 2 both: 3 wide padded by 1 starts at -1, 5 wide padded by 4 at its end starts at 0. Pixels -1 to 4 are
    6 wide; cell i sees from 2i - 1 to 2i + 4, as far as there is an input."""
    module = Apply(
        lambda self, x: self.narrow(x) + self.wide(F.pad(x, (0, 4, 0, 4))),
        narrow=nn.Conv2d(1, 2, 3, stride=2, padding=1),
        wide=nn.Conv2d(1, 2, 5, stride=2),
    )
    (axis, _) = fields_of(trace(module, (1, 9, 9)), (1, 9, 9))[-1]
    assert (axis.size, axis.jump, axis.start) == (6, 2, -1)
    assert axis.intervals == ((0, 4), (1, 6), (3, 8), (5, 8), (7, 8))


def test_rectangular_kernels_and_dilation() -> None:
    graph = trace(nn.Conv2d(1, 4, (3, 5), stride=(1, 2), padding=(0, 2), dilation=(2, 1)), (1, 20, 30))
    # 2·(3 - 1) + 1 = 5 high; (20 - 4) high, (30 + 4 - 5) // 2 + 1 = 15 wide
    assert graph[0].layer == Conv((3, 5), (1, 2), (0, 2), (2, 1), width=4, bias=True)
    assert shapes_of(graph, (1, 20, 30)) == [(4, 16, 15)]
    assert extent(fields_of(graph, (1, 20, 30))[0]) == (5, 5)


def test_ceil_mode_makes_a_cell_of_what_is_left() -> None:
    # (5 - 2) / 2 + 1 = 2.5 → 3 cells, the last of which sees one pixel
    graph = trace(nn.MaxPool2d(2, ceil_mode=True), (1, 5, 5))
    assert fields_of(graph, (1, 5, 5))[0][0].intervals == ((0, 1), (2, 3), (4, 4))


def test_same_padding_of_an_even_kernel_is_longer_at_the_end() -> None:
    # kernel 4: three cells of padding, one before and two after
    graph = trace(nn.Conv2d(1, 1, 4, padding="same"), (1, 6, 6))
    assert shapes_of(graph, (1, 6, 6)) == [(1, 6, 6)]
    assert fields_of(graph, (1, 6, 6))[0][0].intervals == ((0, 2), (0, 3), (1, 4), (2, 5), (3, 5), (4, 5))


@pytest.mark.parametrize(
    ("mode", "first", "last"),
    # kernel 1×4 padded by 2 on a row of 5: the first window holds cells -2 … 1, the last, of six, 3 … 6
    [
        ("zeros", (0, 1), (3, 4)),
        ("reflect", (0, 2), (2, 4)),
        ("replicate", (0, 1), (3, 4)),
        ("circular", (0, 4), (0, 4)),
    ],
)
def test_padding_modes_show_what_they_copy(mode: str, first: tuple[int, int], last: tuple[int, int]) -> None:
    graph = trace(nn.Conv1d(1, 1, 4, padding=2, padding_mode=mode), (1, 5))
    intervals = fields_of(graph, (1, 5))[0][0].intervals
    assert (len(intervals), intervals[0], intervals[-1]) == (6, first, last)


def test_one_and_three_axes() -> None:
    line = nn.Sequential(nn.Conv1d(2, 4, 5), nn.BatchNorm1d(4), nn.MaxPool1d(2), nn.AdaptiveAvgPool1d(1), nn.Flatten())
    assert outputs(line, (2, 20)) == (4,)
    volume = nn.Sequential(nn.Conv3d(1, 2, (1, 3, 5)), nn.BatchNorm3d(2), nn.AvgPool3d(2), nn.Dropout3d())
    graph = trace(volume, (1, 4, 8, 12))
    assert shapes_of(graph, (1, 4, 8, 12))[-1] == (2, 2, 3, 4)
    assert graph_cost(graph, (1, 4, 8, 12)).macs == 2 * (4 * 6 * 8) * 15
    assert extent(fields_of(graph, (1, 4, 8, 12))[-1]) == (2, 4, 6)


# --- the many ways to write the same thing ----------------------------------------------------------------------------

CONV = {"conv": nn.Conv2d(1, 4, 3)}


@pytest.mark.parametrize(
    "forward",
    [
        lambda self, x: F.relu(self.conv(x)).flatten(1),
        lambda self, x: torch.flatten(torch.relu(self.conv(x)), 1),
        lambda self, x: self.conv(x).relu_().view(x.size(0), -1),
        lambda self, x: F.relu(self.conv(x), inplace=True).reshape(-1, 4 * 6 * 6),
        lambda self, x: F.relu(self.conv(x)).view(x.shape[0], -1).contiguous(),
        lambda self, x: F.relu(F.conv2d(x, self.conv.weight, self.conv.bias)).flatten(start_dim=1),
    ],
)
def test_modules_functions_and_methods_say_the_same(forward) -> None:
    graph = trace(Apply(forward, **CONV), (1, 8, 8))
    shown = nn.Sequential(CONV["conv"], nn.ReLU(), nn.Flatten())
    assert [node.layer for node in graph] == [node.layer for node in trace(shown, (1, 8, 8))]


@pytest.mark.parametrize(
    "forward",
    [
        lambda self, x: F.adaptive_avg_pool2d(self.conv(x), 1).flatten(1),
        lambda self, x: self.conv(x).mean((2, 3)),
        lambda self, x: torch.mean(self.conv(x), dim=[-1, -2]),
        lambda self, x: self.conv(x).mean(dim=(-2, -1), keepdim=True).squeeze(),
    ],
)
def test_global_pooling_in_all_its_spellings(forward) -> None:
    graph = trace(Apply(forward, **CONV), (1, 8, 8))
    assert [node.layer for node in graph[1:]] == [AdaptivePool((1, 1)), Flatten()]


def test_functional_pools_take_torchs_positions() -> None:
    graph = trace(Apply(lambda self, x: F.max_pool2d(x, 3, 2, 1, 1, True)), (1, 8, 8))
    assert graph[0].layer == Pool((3, 3), (2, 2), (1, 1), (1, 1), True, "max")
    graph = trace(Apply(lambda self, x: F.avg_pool2d(x, x.shape[2:], ceil_mode=True)), (1, 8, 8))
    assert graph[0].layer == Pool((8, 8), (8, 8), (0, 0), (1, 1), True, "avg")


@pytest.mark.parametrize(
    "forward",
    [
        lambda self, x: torch.cat([self.conv(x), self.other(x)], 1),
        lambda self, x: torch.cat((self.conv(x), self.other(x)), dim=-3),
    ],
)
def test_concat_of_branches(forward) -> None:
    graph = trace(Apply(forward, other=nn.Conv2d(1, 2, 3), **CONV), (1, 8, 8))
    assert graph[-1].inputs == (0, 1)
    assert shapes_of(graph, (1, 8, 8))[-1] == (6, 6, 6)


def test_sums_in_place_reach_those_who_read_the_name_afterwards() -> None:
    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        y.add_(self.other(x))
        return F.relu(y)

    graph = trace(Apply(forward, other=nn.Conv2d(1, 4, 3), **CONV), (1, 8, 8))
    assert names(graph) == ["conv", "other", "add", "relu"]
    assert graph[2].inputs == (0, 1)
    assert graph[3].inputs == (2,)


def test_a_number_or_a_parameter_keeps_cells_to_themselves() -> None:
    module = Apply(lambda self, x: (self.conv(x) - 0.5) / 2 * self.scale, **CONV)
    module.scale = nn.Parameter(torch.ones(4, 1, 1))
    graph = trace(module, (1, 8, 8))
    assert [node.layer for node in graph[1:]] == [
        Elementwise("sub"),
        Elementwise("div"),
        Counted(Elementwise("mul"), 4),
    ]
    assert graph_cost(graph, (1, 8, 8)).params == sum(p.numel() for p in module.parameters())


class Written(nn.Module):
    """What is kept under another name is written over, by the operator of Python."""

    def __init__(self) -> None:
        super().__init__()
        self.narrow, self.wide = nn.Conv2d(1, 2, 3, padding=1), nn.Conv2d(2, 2, 7, padding=3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.narrow(x)
        kept = x
        x += self.wide(x)
        return kept


class Turned(nn.Module):
    """Two of four channels see 7 pixels, and change places with the others."""

    def __init__(self, turn: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.wide, self.turn = nn.Conv2d(2, 2, 7, padding=3), turn

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        a, b = x.chunk(2, 1)
        return self.turn(torch.cat([self.wide(a), b], 1)).chunk(2, 1)[1]


def test_what_is_written_over_by_an_operator_is_written_over() -> None:
    table = receptive_field(Written(), (1, 28, 28))
    assert (table.receptive_field, table.unused_params) == ((9, 9), 0)


@pytest.mark.parametrize("turn", [lambda x: x.roll(2, 1), lambda x: x.flip(1)])
def test_channels_that_change_places_take_their_fields_along(turn: Callable[[torch.Tensor], torch.Tensor]) -> None:
    assert receptive_field(Turned(turn), (4, 28, 28)).receptive_field == (7, 7)


# --- what moves, joins or mixes cells in other ways -------------------------------------------------------------------


def rows(module: nn.Module, shape: Shape, *, strict: bool = False) -> tuple[tuple[int, int] | None, ...]:
    """What the cells along the first axis of the output see."""
    return fields_of(trace(module, shape), shape, strict=strict)[-1][0].intervals


@pytest.mark.parametrize(
    ("module", "seen"),
    [
        # output j gets input i where 0 <= j + 1 - 2i <= 3
        (nn.ConvTranspose1d(1, 1, 4, 2, 1), ((0, 0), (0, 1), (0, 1), (1, 2), (1, 2), (2, 2))),
        (nn.Upsample(scale_factor=2), ((0, 0), (0, 0), (1, 1), (1, 1), (2, 2), (2, 2))),
        # at (j + 0.5) / 2 - 0.5: -0.25, 0.25, 0.75, 1.25, 1.75, 2.25; clamped to 0 … 2
        (
            Apply(lambda self, x: F.interpolate(x, 6, mode="linear")),
            ((0, 0), (0, 1), (0, 1), (1, 2), (1, 2), (2, 2)),
        ),
        # corners aligned: at 2 j / 4
        (
            Apply(lambda self, x: F.interpolate(x, 5, mode="linear", align_corners=True)),
            ((0, 0), (0, 1), (1, 1), (1, 2), (2, 2)),
        ),
        (Apply(lambda self, x: x[:, :, 1:]), ((1, 1), (2, 2))),
        (Apply(lambda self, x: x[..., ::2].relu()), ((0, 0), (2, 2))),
        (Apply(lambda self, x: torch.roll(x, 1, -1)), ((2, 2), (0, 0), (1, 1))),
        (Apply(lambda self, x: x.flip(2)), ((2, 2), (1, 1), (0, 0))),
        (Apply(lambda self, x: torch.cat([x, x.flip(-1)], 2)), ((0, 0), (1, 1), (2, 2), (2, 2), (1, 1), (0, 0))),
        (Apply(lambda self, x: F.softmax(x, -1)), ((0, 2), (0, 2), (0, 2))),
        (Apply(lambda self, x: x.sum(2, keepdim=True)), ((0, 2),)),
    ],
)
def test_cells_come_from_where_torch_takes_them(module: nn.Module, seen: tuple[tuple[int, int], ...]) -> None:
    assert rows(module, (1, 3)) == seen


def test_a_slice_keeps_the_grid() -> None:
    """Every second cell of a 3 × 3 convolution, from the second on: jump 2, first field from pixel 1."""
    module = Apply(lambda self, x: self.conv(x)[:, :, 1::2, :], **CONV)
    (axis, _) = fields_of(trace(module, (1, 9, 9)), (1, 9, 9))[-1]
    assert (axis.size, axis.jump, axis.start) == (3, 2, 1)


def test_pixels_shuffled_apart_and_together_are_where_they_were() -> None:
    apart = Apply(lambda self, x: F.pixel_unshuffle(x, 2))
    assert rows(apart, (1, 4, 4)) == ((0, 1), (2, 3))
    together = Apply(lambda self, x: F.pixel_shuffle(self.conv(x), 2), conv=nn.Conv2d(1, 4, 3, padding=1))
    assert rows(together, (1, 3, 3)) == ((0, 1), (0, 1), (0, 2), (0, 2), (1, 2), (1, 2))


def test_channels_that_part_keep_what_they_saw() -> None:
    """Half of the channels go through a convolution; then the halves change places, and the untouched one is taken."""

    def forward(self, x: Tensor) -> Tensor:
        left, right = x.chunk(2, 1)
        both = torch.cat([self.conv(left), right], 1)
        mixed = both.view(-1, 2, 2, 5, 5).transpose(1, 2).reshape(-1, 4, 5, 5)  # 0 2 1 3
        return mixed[:, 1::2] if self.untouched else mixed[:, ::2]

    module = Apply(forward, conv=nn.Conv2d(2, 2, 3, padding=1))
    module.untouched = True
    assert rows(module, (4, 5, 5)) == ((0, 0), (1, 1), (2, 2), (3, 3), (4, 4))
    module.untouched = False
    assert rows(module, (4, 5, 5)) == ((0, 1), (0, 2), (1, 3), (2, 4), (3, 4))


@pytest.mark.parametrize("mix", [lambda x: x.softmax(1), lambda x: F.local_response_norm(x, 8)])
def test_functions_over_channels_let_each_see_what_any_saw(mix) -> None:
    def forward(self, x: Tensor) -> Tensor:
        left, right = x.chunk(2, 1)
        return mix(torch.cat([self.conv(left), right], 1))[:, 2:]

    module = Apply(forward, conv=nn.Conv2d(2, 2, 3, padding=1))
    assert rows(module, (4, 5, 5)) == ((0, 1), (0, 2), (1, 3), (2, 4), (3, 4))


def test_maps_side_by_side_keep_their_fields() -> None:
    module = Apply(lambda self, x: torch.cat([self.conv(x), self.conv(x)], 2), conv=nn.Conv2d(1, 1, 3, padding=1))
    height, width = fields_of(trace(module, (1, 4, 4)), (1, 4, 4))[-1]
    assert height.intervals == ((0, 1), (0, 2), (1, 3), (2, 3)) * 2
    assert (height.extent, width.extent, width.jump) == (3, 3, 1)


def test_groups_of_channels_keep_what_they_saw() -> None:
    """Two channels through a convolution of 3, two as they were; then two of 3 × 3 from each, and half of these."""

    def forward(self, x: Tensor) -> Tensor:
        both = torch.cat([self.conv(x[:, :2]), x[:, 2:]], 1)
        return self.each(both)[:, self.half]

    module = Apply(forward, conv=nn.Conv2d(2, 2, 3, padding=1), each=nn.Conv2d(4, 8, 3, padding=1, groups=4))
    module.half = slice(4, None)
    assert rows(module, (4, 7, 7))[3] == (2, 4)
    module.half = slice(None, 4)
    assert rows(module, (4, 7, 7))[3] == (1, 5)


def test_pixels_shuffled_from_channels_that_differ_are_seen_all() -> None:
    """Too wide where channels saw different things, never too narrow: the second column is the convolution's."""

    def forward(self, x: Tensor) -> Tensor:
        wide = self.conv(x)
        return F.pixel_shuffle(torch.cat([x, wide, x, wide], 1), 2)

    module = Apply(forward, conv=nn.Conv2d(1, 1, 3, padding=1))
    assert rows(module, (1, 3, 3)) == ((0, 1), (0, 1), (0, 2), (0, 2), (1, 2), (1, 2))


def test_a_gate_is_told_and_followed_only_strictly() -> None:
    module = Apply(lambda self, x: self.conv(x) * self.conv(x).mean((2, 3), keepdim=True).sigmoid(), **CONV)
    graph = trace(module, (1, 6, 6))
    assert [type(node.layer).__name__ for node in graph][-1] == "Broadcast"
    assert rows(module, (1, 6, 6)) == ((0, 2), (1, 3), (2, 4), (3, 5))
    assert rows(module, (1, 6, 6), strict=True) == ((0, 5),) * 4


def test_statistics_over_channels_are_no_statistics_of_the_map() -> None:
    class Last(nn.Module):
        """As in ConvNeXt: channels last for a norm and a matrix product."""

        def __init__(self) -> None:
            super().__init__()
            self.norm, self.mix = nn.LayerNorm(4), nn.Linear(4, 6)

        def forward(self, x: Tensor) -> Tensor:
            return self.mix(self.norm(x.permute(0, 2, 3, 1))).permute(0, 3, 1, 2)

    graph = trace(nn.Sequential(CONV["conv"], Last()), (1, 8, 8))
    assert names(graph) == ["0", "1.norm", "1.mix"]
    assert shapes_of(graph, (1, 8, 8))[-1] == (6, 6, 6)
    assert graph_cost(graph, (1, 8, 8)).macs == 36 * 9 * 4 + 36 * 4 * 6
    strict, free = (fields_of(graph, (1, 8, 8), strict=each)[-1] for each in (True, False))
    assert [axis.intervals for axis in strict] == [axis.intervals for axis in free]
    over_map = trace(nn.GroupNorm(1, 4), (4, 3, 3))
    assert fields_of(over_map, (4, 3, 3), strict=True)[-1][0].intervals == ((0, 2),) * 3


def test_a_class_token_sees_nothing_before_attention_and_everything_after() -> None:
    class Tokens(nn.Module):
        """A vision transformer's beginning: patches of 2 × 2, a class token in front, one layer of attention."""

        def __init__(self) -> None:
            super().__init__()
            self.patch, self.token = nn.Conv2d(1, 4, 2, 2), nn.Parameter(torch.zeros(1, 1, 4))
            self.attention, self.head = nn.MultiheadAttention(4, 2, batch_first=True), nn.Linear(4, 3)

        def forward(self, x: Tensor) -> Tensor:
            cells = self.patch(x).flatten(2).transpose(1, 2)
            tokens = torch.cat([self.token.expand(x.shape[0], -1, -1), cells], 1)
            return self.head((tokens + self.attention(tokens, tokens, tokens)[0])[:, 0])

    shape = (1, 4, 6)
    graph = trace(Tokens(), shape)
    fields = dict(zip(names(graph), fields_of(graph, shape), strict=True))
    rows, columns = (axis.intervals for axis in fields["cat"])
    assert rows == (None, (0, 1), (0, 1), (0, 1), (2, 3), (2, 3), (2, 3))
    assert columns == (None, (0, 1), (2, 3), (4, 5), (0, 1), (2, 3), (4, 5))
    assert {axis.intervals for axis in fields["attention"]} == {((0, 3),) * 7, ((0, 5),) * 7}
    assert shapes_of(graph, shape)[-1] == (3,)
    # 6 patches of 4 values to 4 channels; 7 tokens: 4 projections of 4 × 4, and 7 × 7 scores and sums of 4; the head
    assert graph_cost(graph, shape).macs == 6 * 4 * 4 + 7 * 4 * 16 + 2 * 49 * 4 + 4 * 3
    assert graph_cost(graph, shape).params == sum(p.numel() for p in Tokens().parameters())


def test_attention_written_by_hand_in_windows() -> None:
    """Windows of 2 × 2 put beside each other as images, as in the authors' Swin; heads, scores, weighted sums."""

    class Windows(nn.Module):
        """With torch.einsum or with ``@``."""

        def __init__(self, einsum: bool) -> None:
            super().__init__()
            self.einsum, self.qkv, self.out = einsum, nn.Linear(4, 12), nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            windows = x.view(-1, 4, 2, 2, 3, 2).permute(0, 2, 4, 3, 5, 1).reshape(-1, 4, 4)
            q, k, v = self.qkv(windows).reshape(-1, 4, 3, 2, 2).permute(2, 0, 3, 1, 4)
            if self.einsum:
                scores = torch.einsum("b h i d, b h j d -> b h i j", q, k).softmax(-1)
                mixed = torch.einsum("bhij,bhjd->bhid", scores, v)
            else:
                mixed = (q @ k.transpose(-2, -1) * 0.5).softmax(-1) @ v
            mixed = self.out(mixed.transpose(1, 2).reshape(-1, 4, 4))
            return mixed.view(-1, 2, 3, 2, 2, 4).permute(0, 5, 1, 3, 2, 4).reshape(-1, 4, 4, 6)

    for einsum in (False, True):
        graph = trace(Windows(einsum), (4, 4, 6))
        high, wide = fields_of(graph, (4, 4, 6))[-1]
        assert high.intervals == ((0, 1), (0, 1), (2, 3), (2, 3))
        assert wide.intervals == ((0, 1), (0, 1), (2, 3), (2, 3), (4, 5), (4, 5))
        # 24 cells: three projections and one of 4 × 4 channels; each attends to 4 cells, twice 4 channels
        assert graph_cost(graph, (4, 4, 6)).macs == 24 * 4 * 16 + 2 * 24 * 4 * 4


def test_attention_written_with_torchs_function() -> None:
    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x.flatten(2).transpose(1, 2)).view(-1, 9, 3, 2, 4).permute(2, 0, 3, 1, 4).unbind(0)
        return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(-1, 9, 8)

    module = Apply(forward, qkv=nn.Linear(8, 24))
    assert {axis.intervals for axis in fields_of(trace(module, (8, 3, 3)), (8, 3, 3))[-1]} == {((0, 2),) * 3}

    def batch_first(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x.flatten(2).transpose(1, 2)).chunk(3, -1)
        q, k, v = (each.view(-1, 9, 2, 4).transpose(1, 2) for each in (q, k, v))
        return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(-1, 9, 8)

    module = Apply(batch_first, qkv=nn.Linear(8, 24))
    graph = trace(module, (8, 3, 3))
    assert {axis.intervals for axis in fields_of(graph, (8, 3, 3))[-1]} == {((0, 2),) * 3}
    assert graph_cost(graph, (8, 3, 3)).macs == 9 * 8 * 24 + 2 * 9 * 9 * 8


# --- parameters -------------------------------------------------------------------------------------------------------


def test_parameters_that_layers_share_count_once_and_macs_every_time() -> None:
    conv = nn.Conv2d(2, 2, 3, padding=1)
    graph = trace(nn.Sequential(conv, nn.ReLU(), conv), (2, 8, 8))
    cost = graph_cost(graph, (2, 8, 8))
    assert (cost.params, cost.macs) == (38, 2 * 36 * 64)
    assert names(graph) == ["0", "1", "0@2"]


def test_tied_weights_of_two_modules_count_once() -> None:
    first, second = nn.Conv2d(2, 2, 3, bias=False), nn.Conv2d(2, 2, 3)
    second.weight = first.weight
    graph = trace(nn.Sequential(first, second), (2, 8, 8))
    assert [node.layer.params((2, 8, 8)) for node in graph] == [36, 2]


def test_parameters_without_use_are_told_apart() -> None:
    module = Apply(lambda self, x: self.conv(x), spare=nn.Linear(3, 3), **CONV)
    graph = trace(module, (1, 8, 8))
    assert unused_params(module, graph, (1, 8, 8)) == 12


@pytest.mark.parametrize(
    ("norm", "params"),
    [
        (nn.BatchNorm2d(4, affine=False), 0),
        (nn.GroupNorm(2, 4), 8),
        (nn.InstanceNorm2d(4), 0),
        (nn.LayerNorm([4, 6, 6]), 2 * 144),
        (nn.PReLU(4), 4),
        (nn.BatchNorm2d(4, track_running_stats=False), 8),
    ],
)
def test_params_are_what_the_module_has(norm: nn.Module, params: int) -> None:
    graph = trace(nn.Sequential(CONV["conv"], norm), (1, 8, 8))
    assert graph_cost(graph, (1, 8, 8)).params == 40 + params


def test_norms_by_statistics_of_the_map_are_known_as_such() -> None:
    (node,) = trace(nn.GroupNorm(2, 4), (4, 5, 5))
    assert node.layer == Counted(Norm("group"), 8)


def test_weight_normalised_and_subclassed_layers_are_layers_of_torch() -> None:
    class Mine(nn.Conv2d):
        """Other weights, the same forward."""

    normalised = nn.utils.parametrizations.weight_norm(nn.Conv2d(1, 4, 3))
    graph = trace(nn.Sequential(normalised, Mine(4, 2, 3)), (1, 8, 8))
    assert names(graph) == ["0", "1"]
    assert graph_cost(graph, (1, 8, 8)).params == sum(p.numel() for p in normalised.parameters()) + 74


# --- nothing is left behind -------------------------------------------------------------------------------------------


def test_the_module_is_left_as_it_was() -> None:
    def forward(self, x: Tensor) -> Tensor:
        self.seen.add_(1)
        return self.drop(self.norm(self.conv(x))) + torch.ones(1)

    module = Apply(forward, norm=nn.BatchNorm2d(4), drop=nn.Dropout(0.5), **copy.deepcopy(CONV))
    module.register_buffer("seen", torch.zeros(1))
    module.train()
    module.norm.eval()
    state, attributes, modes = (
        copy.deepcopy(module.state_dict()),
        set(vars(module)),
        [m.training for m in module.modules()],
    )
    random = torch.get_rng_state()
    trace(module, (1, 8, 8))
    assert [m.training for m in module.modules()] == modes
    assert set(vars(module)) == attributes
    assert module.state_dict().keys() == state.keys()
    assert all(torch.equal(value, state[key]) for key, value in module.state_dict().items())
    assert torch.equal(torch.get_rng_state(), random)


# --- the oracle: where the input gradient is not zero -----------------------------------------------------------------


def gradient_support(module: nn.Module, input_shape: Shape, cell: tuple[int, ...]) -> list[tuple[int, int]]:
    """First and last pixel, per axis, that the output cell depends on: all weights positive, no activations."""
    for parameter in module.parameters():
        nn.init.constant_(parameter, 1.0)
    x = torch.zeros(1, *input_shape, requires_grad=True)
    module.eval()(x)[(0, slice(None), *cell)].sum().backward()
    seen = x.grad.abs().sum((0, 1)).nonzero()
    return [(int(axis.min()), int(axis.max())) for axis in seen.T]


ORACLES = {
    "strided, dilated": nn.Sequential(nn.Conv2d(1, 2, 3, 2, padding=1), nn.Conv2d(2, 2, (3, 2), dilation=2, padding=2)),
    "same, even": nn.Sequential(nn.Conv2d(1, 2, 4, padding="same", dilation=1), nn.AvgPool2d(3, 2, 1, ceil_mode=True)),
    "reflect, then circular": nn.Sequential(
        nn.Conv2d(1, 1, 5, padding=3, padding_mode="reflect"), nn.Conv2d(1, 1, 3, 2, 1, padding_mode="circular")
    ),
    "pads and crops": nn.Sequential(nn.ZeroPad2d((-1, 0, 1, 0)), nn.ReplicationPad2d((1, 2, 0, 0)), nn.AvgPool2d(2)),
    "bins of unequal size": nn.Sequential(nn.Conv2d(1, 1, 3), nn.AdaptiveAvgPool2d((3, 4)), nn.Conv2d(1, 1, 2)),
    "branches": Apply(
        lambda self, x: torch.cat([self.a(x) + self.b(x), self.c(x)], 1),
        a=nn.Conv2d(1, 1, 3, 2, 1),
        b=nn.AvgPool2d(2, ceil_mode=True),
        c=nn.Conv2d(1, 3, 7, 2, padding=3),
    ),
}


@pytest.mark.parametrize("name", ORACLES)
def test_intervals_are_the_support_of_the_input_gradient(name: str) -> None:
    module, shape = ORACLES[name], (1, 13, 15)
    graph = trace(module, shape)
    field, out = fields_of(graph, shape)[-1], shapes_of(graph, shape)[-1]
    cells = [(0, 0), (out[1] // 2, out[2] // 2), (out[1] - 1, out[2] - 1)]
    intervals = [[axis.intervals[index] for axis, index in zip(field, cell, strict=True)] for cell in cells]
    assert intervals == [gradient_support(module, shape, cell) for cell in cells]


# --- what cannot be traced says so in one line ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (Apply(lambda self, x: torch.fft.rfft2(x).real), "fft_rfft2: the operator fft_rfft2 is not known, "),
        (
            Apply(lambda self, x: x[1:]),
            "getitem: the operator getitem cuts a dimension that is not one axis of the map, ",
        ),
        (
            Apply(lambda self, x: self.mix(x), mix=nn.Linear(8, 3)),
            "mix: the operator nn.Linear is known over the channels only, ",
        ),
        (
            Apply(lambda self, x: F.relu(x.transpose(2, 3)) + x),
            "add: add: the axes of the map have changed places",
        ),
        (
            Apply(lambda self, x: x.sum() if x.sum() > 0 else x),
            "Apply: torch.fx cannot follow its forward: symbolically ",
        ),
        (
            Apply(lambda self, x: [y := self.conv(x), y.flatten(1).relu_(), y + 1][-1], **CONV),
            "relu: Tensor.relu_ writes over what conv reads, which cannot be followed",
        ),
        (Apply(lambda self, x: (x.relu(), x)), "Apply: forward must return one tensor, but returns a tuple"),
        (Apply(lambda self, x: torch.zeros(2, 3)), "Apply: the output of forward does not depend on its input"),
        (Apply(lambda self, x: x), "Apply has no layers: its output is its input"),
        (
            nn.Sequential(nn.MaxPool2d(2, return_indices=True)),
            "0: the operator nn.MaxPool2d gives several results, which ",
        ),
    ],
)
def test_what_is_not_known_is_named(module: nn.Module, message: str) -> None:
    with pytest.raises(TraceError) as error:
        trace(module, (1, 8, 8))
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)


def test_a_forward_that_fails_is_named_with_its_reason() -> None:
    with pytest.raises(ModelError) as error:
        trace(nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(5, 2)), (1, 8, 8))
    assert str(error.value).startswith("2: forward fails for an input of 1x8x8: ")
    assert str(error.value).endswith("mat1 and mat2 shapes cannot be multiplied (2x144 and 5x2)")


@pytest.mark.parametrize("kind", [RuntimeError, SystemExit])
def test_a_forward_that_raises_by_itself_is_named_with_its_reason(kind: type[BaseException]) -> None:
    def forward(self, x: Tensor) -> Tensor:
        raise kind("no weather today\nand none tomorrow")

    with pytest.raises(ModelError, match=r"^Apply: forward fails for an input of 1x8x8: no weather today$"):
        trace(Apply(forward), (1, 8, 8))


def test_a_second_input_is_asked_for_by_name() -> None:
    class Two(nn.Module):
        def forward(self, x: Tensor, mask: Tensor) -> Tensor:
            return x * mask

    with pytest.raises(ModelError, match=r"^Two: forward needs a second input, 'mask'$"):
        trace(Two(), (1, 8, 8))


def test_arguments_with_a_default_keep_it() -> None:
    class Optional(nn.Module):
        def forward(self, x: Tensor, negate: bool = False, scale: float | None = None) -> Tensor:
            return -x if negate or scale else x.relu()

    assert names(trace(Optional(), (1, 8, 8))) == ["relu"]


@pytest.mark.parametrize("layer", [nn.LPPool2d(2, 2), nn.GLU(1), nn.Unfold(2)])
def test_a_layer_of_torch_that_is_not_known_is_named(layer: nn.Module) -> None:
    with pytest.raises(TraceError, match=rf"^1: the operator nn\.{type(layer).__name__} is not known"):
        trace(nn.Sequential(nn.Conv2d(1, 8, 3), layer), (1, 28, 28))


def test_a_group_norm_of_a_vector_is_followed_strictly_too() -> None:
    module = nn.Sequential(nn.Conv2d(1, 8, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.GroupNorm(2, 8))
    graph = trace(module, (1, 9, 9))
    assert [extent(field) for field in fields_of(graph, (1, 9, 9), strict=True)][-1] == (9, 9)


def test_a_norm_that_learns_its_width_from_the_input_is_counted() -> None:
    lazy = nn.Sequential(nn.Conv2d(1, 8, 3), nn.LazyBatchNorm2d())
    assert graph_cost(trace(lazy, (1, 28, 28)), (1, 28, 28)).params == 80 + 16


def test_an_input_that_no_memory_holds_is_one_line() -> None:
    with pytest.raises(ModelError, match=r"^Sequential: forward fails for an input of 1x99999999x99999999: "):
        trace(nn.Sequential(nn.Conv2d(1, 8, 3)), (1, 99_999_999, 99_999_999))
