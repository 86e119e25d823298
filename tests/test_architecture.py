"""Architectures as data: their rooms, their shapes, JSON there and back, and what is refused."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from budgetnet.architecture import Architecture
from budgetnet.errors import ArchitectureError
from budgetnet.expansion import expand, piece_shape
from budgetnet.graph import bare, shapes_of
from budgetnet.layers import Activation, AdaptivePool, Again, BatchNorm, Conv, Dropout, Flatten, Linear, Pool, Residual
from budgetnet.notation import parse
from budgetnet.pieces import Block, Head, Style, Transition, same_padding
from tests.strategies import architectures, blocks

RELU = Activation("relu")


def one_line(error: BaseException) -> str:
    assert len(str(error).splitlines()) == 1
    return str(error)


# --- rooms and layers -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("notation", "rooms"),
    [
        ("8", ["stem", "head"]),
        ("8 12 14", ["stem", "stage1", "head"]),
        ("8 M 12 14", ["stem", "stage1", "head"]),
        ("8 12 M 14 1x1:8* M 16", ["stem", "stage1", "stage2", "stage3", "head"]),
        ("8 12 12/2 14", ["stem", "stage1", "stage2", "head"]),
        ("8/2 12", ["stem", "stage1", "head"]),
        ("M 8 12", ["stem", "stage1", "head"]),
    ],
)
def test_a_pooling_or_a_stride_opens_the_next_stage(notation, rooms):
    assert [name for name, _ in parse(notation).sections()] == rooms


def test_a_plain_network_layer_by_layer():
    sections = dict(parse("8 M c12@0.1").sections())
    assert sections == {
        "stem": (Conv(width=8), BatchNorm(), RELU),
        "stage1": (
            Pool((2, 2), stride=(2, 2)),
            Conv(padding=(1, 1), width=12),
            BatchNorm(),
            RELU,
            Dropout(0.1),
        ),
        "head": (AdaptivePool((1, 1)), Conv((1, 1), width=10, bias=True), Flatten()),
    }


@pytest.mark.parametrize(
    ("style", "layers"),
    [
        ("", (Conv(width=8), BatchNorm(), RELU)),
        ("[relu-bn]", (Conv(width=8), RELU, BatchNorm())),
        ("[relu bias]", (Conv(width=8, bias=True), RELU)),
    ],
)
def test_the_style_orders_norm_and_activation(style, layers):
    assert parse(f"{style} 8").sections()[0] == ("stem", layers)


def test_a_separable_block_is_depthwise_then_pointwise():
    stage = parse("8 s12/2").sections()[1][1]
    assert stage == (
        Conv(padding=(1, 1), stride=(2, 2), width=8, groups=8),
        *(BatchNorm(), RELU),
        Conv((1, 1), width=12),
        *(BatchNorm(), RELU),
    )


def test_a_loop_applies_one_convolution_again_with_a_norm_of_its_own_each_time():
    first, again = Conv(width=8, bias=False), Conv(width=8, bias=False)
    assert parse("4 M 8^3").sections()[1][1] == (
        Pool((2, 2), stride=(2, 2)),
        *(first, BatchNorm(), RELU),
        *(again, BatchNorm(), RELU),
        *(Again(3), BatchNorm(), RELU),
        *(Again(3), BatchNorm(), RELU),
    )
    names = [node.name for node in parse("4 M 8^3").graph() if isinstance(bare(node.layer), Conv)]
    assert names == ["stem.0", "stage1.1", "stage1.4", "stage1.4@2", "stage1.4@3", "head.1"]


def test_a_separable_loop_repeats_both_of_its_convolutions():
    sections = parse("6 s8^2").sections()
    assert [type(part).__name__ for part in sections[1][1] if not isinstance(part, BatchNorm | Activation)] == [
        *("Conv", "Conv", "Conv", "Conv", "Again", "Again"),
    ]
    assert [part.back for part in sections[1][1] if isinstance(part, Again)] == [6, 6]


def test_loops_are_written_only_where_there_are_any():
    """Frozen models are older than loops, and keep the record that they were frozen with."""
    plain, looped = parse("8 c8").to_dict(), parse("8 c8^2").to_dict()
    assert all("loops" not in piece for piece in plain["body"])
    assert [piece.get("loops") for piece in looped["body"]] == [None, 2]


def test_a_residual_block_of_equal_width_adds_its_input():
    body = (Conv(padding=(1, 1), width=8), BatchNorm(), RELU, Conv(padding=(1, 1), width=8), BatchNorm())
    assert parse("8 r8").sections()[1][1] == (Residual(body), RELU)


def test_a_residual_block_of_another_width_or_stride_has_a_1x1_shortcut():
    for text, stride, width in (("8 r12", 1, 12), ("8 r8/2", 2, 8)):
        residual = parse(text).sections()[1][1][0]
        assert isinstance(residual, Residual)
        assert residual.shortcut == (Conv((1, 1), stride=(stride, stride), width=width), BatchNorm())


def test_a_linear_head_flattens_first():
    assert parse("8 | avg4 fc:10").sections()[-1][1] == (
        Pool((4, 4), stride=(4, 4), kind="avg"),
        Flatten(),
        Linear(10),
    )


def test_graph_names_are_paths():
    names = [node.name for node in parse("8 M r12").graph()]
    assert names == [
        *("stem.0", "stem.1", "stem.2", "stage1.0"),
        *(f"stage1.1.body.{index}" for index in range(5)),
        *("stage1.1.shortcut.0", "stage1.1.shortcut.1", "stage1.1", "stage1.2"),
        *("head.0", "head.1", "head.2"),
    ]


@given(architectures())
def test_the_walk_and_the_graph_agree_on_shapes(architecture):
    shapes = shapes_of(architecture.features(), architecture.input_shape)
    assert shapes[-1] == architecture.feature_shape()
    assert shapes_of(architecture.graph(), architecture.input_shape)[-1] == (architecture.head.classes,)


@given(architectures())
def test_features_are_the_graph_without_its_head(architecture):
    graph = architecture.graph()
    kept = [node for node in graph if not node.name.startswith("head.")]
    assert architecture.features() == tuple(kept) == graph[: len(kept)]


@given(architectures(), st.data())
def test_with_widths_changes_widths_alone(architecture, data):
    same = architecture.with_widths(architecture.widths)
    assert same == architecture
    assert hash(same) == hash(architecture)
    widths = tuple(data.draw(st.integers(1, 9)) * block.groups for block in architecture.blocks)
    other = architecture.with_widths(widths)
    assert other.widths == widths
    assert other.with_widths(architecture.widths) == architecture
    assert [piece for piece in other.body if isinstance(piece, Transition)] == [
        piece for piece in architecture.body if isinstance(piece, Transition)
    ]


@pytest.mark.parametrize("widths", [[8], [8, 9, 10], [8, 0], [8, "9"], [8, 9.0], [True, 9]])
def test_with_widths_refuses_what_is_not_a_width_for_each_block(widths):
    with pytest.raises(ArchitectureError) as caught:
        parse("8 M 12").with_widths(widths)
    assert "width" in one_line(caught.value)


@given(blocks())
def test_any_drawn_block_fits_a_large_map_or_its_groups_do_not(block):
    shape = (block.groups, 40, 40)
    assert piece_shape(block, Style(), shape)[0] == block.width
    assert expand(block, Style(), shape) == expand(block, Style(), shape)


@pytest.mark.parametrize(
    ("kernel", "dilation", "padding"),
    [((1, 1), 1, (0, 0)), ((3, 3), 1, (1, 1)), ((3, 5), 1, (1, 2)), ((3, 3), 3, (3, 3)), ((5, 7), 2, (4, 6))],
)
def test_same_padding_keeps_the_size(kernel, dilation, padding):
    assert same_padding(kernel, dilation) == padding
    block = Block(4, kernel=kernel, padding=padding, dilation=dilation)
    assert piece_shape(block, Style(), (3, 20, 17)) == (4, 20, 17)


# --- networks that cannot be ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("notation", "message"),
    [
        ("28 M20 8", "stage1: convolution 3 × 3 leaves nothing of a map of 1 × 1 cells"),
        ("8 8 8 M 8 8 8 M 8 8", "stage3: convolution 3 × 3 leaves nothing of a map of 2 × 2 cells"),
        ("8 M9 M9 8", "stage2: max pooling 9 × 9 leaves nothing of a map of 2 × 2 cells"),
        ("29x1:8", "stem: convolution 29 × 1 leaves nothing of a map of 28 × 28 cells"),
        ("8%14", "stem: convolution 3 × 3 leaves nothing of a map of 28 × 28 cells"),
        ("10 8g3", "stage1: groups must divide both widths, but got groups=3 for 10 → 8 channels"),
        ("9 8g3", "stage1: groups must divide both widths, but got groups=3 for 9 → 8 channels"),
        ("8 r12g8", "stage1: groups must divide both widths, but got groups=8 for 8 → 12 channels"),
        ("8 | 1x1:10", "the head must leave one cell per class, but leaves a map of 26 × 26"),
        ("8 | avg4 1x1:10", "the head must leave one cell per class, but leaves a map of 6 × 6"),
        ("8 | 1x1:10 avg13", "the head must leave one cell per class, but leaves a map of 2 × 2"),
        ("8 | avg27 1x1:10", "head: avg pooling 27 × 27 leaves nothing of a map of 26 × 26 cells"),
        ("8 | avg27 fc:10", "head: avg pooling 27 × 27 leaves nothing of a map of 26 × 26 cells"),
    ],
)
def test_what_cannot_be_built_is_refused_by_name(notation, message):
    architecture = parse(notation)
    with pytest.raises(ArchitectureError) as caught:
        architecture.sections()
    assert one_line(caught.value) == message


# --- JSON -------------------------------------------------------------------------------------------------------------


@given(architectures())
def test_json_round_trips(architecture):
    assert Architecture.from_dict(json.loads(json.dumps(architecture.to_dict()))) == architecture


def test_json_may_leave_defaults_out():
    assert Architecture.from_dict({"body": [{"type": "block", "width": 8}]}) == Architecture((Block(8),))


BLOCK = {"type": "block", "width": 8}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([], "architecture must be a mapping, but got []"),
        ({}, "architecture.body is missing"),
        ({"body": [], "had": {}}, "architecture has no field 'had'; it has body, head, style, input_shape"),
        ({"body": 5}, "body must be a list, but got 5"),
        ({"body": "8 12"}, "body must be a list, but got '8 12'"),
        ({"body": {"type": "block"}}, "body must be a list, but got {'type': 'block'}"),
        ({"body": []}, "a network needs at least one block, but got none"),
        ({"body": [8]}, "body[0] must be a mapping, but got 8"),
        ({"body": [{"width": 8}]}, "body[0].type must be one of block, transition, but got None"),
        ({"body": [{"type": ["block"]}]}, "body[0].type must be one of block, transition, but got ['block']"),
        ({"body": [BLOCK, {"type": "block"}]}, "body[1].width is missing"),
        ({"body": [{**BLOCK, "wdith": 8}]}, "body[0] has no field 'wdith'"),
        ({"body": [{**BLOCK, "width": "12"}]}, "body[0]: block.width must be a whole number, but got '12'"),
        ({"body": [{**BLOCK, "width": 12.5}]}, "body[0]: block.width must be a whole number, but got 12.5"),
        ({"body": [{**BLOCK, "width": 12.0}]}, "body[0]: block.width must be a whole number, but got 12.0"),
        ({"body": [{**BLOCK, "width": True}]}, "body[0]: block.width must be a whole number, but got True"),
        ({"body": [{**BLOCK, "width": None}]}, "body[0]: block.width must be a whole number, but got None"),
        ({"body": [{**BLOCK, "width": [8]}]}, "body[0]: block.width must be a whole number, but got (8,)"),
        ({"body": [{**BLOCK, "width": 10**30}]}, "body[0]: block.width must be at most 1,000,000, but got"),
        ({"body": [{**BLOCK, "width": -3}]}, "body[0]: block.width must be at least 1, but got width=-3"),
        (
            {"body": [{**BLOCK, "kind": "dense"}]},
            "block.kind must be one of plain, separable, residual, but got 'dense'",
        ),
        ({"body": [{**BLOCK, "kind": {}}]}, "block.kind must be one of plain, separable, residual, but got {}"),
        ({"body": [{**BLOCK, "kernel": 3}]}, "block.kernel must be two whole numbers, height and width, but got 3"),
        (
            {"body": [{**BLOCK, "kernel": [3]}]},
            "block.kernel must be two whole numbers, height and width, but got (3,)",
        ),
        ({"body": [{**BLOCK, "kernel": [3, 3, 3]}]}, "block.kernel must be two whole numbers"),
        ({"body": [{**BLOCK, "kernel": "33"}]}, "block.kernel must be two whole numbers"),
        ({"body": [{**BLOCK, "kernel": [3.0, 3]}]}, "block.kernel must be a whole number, but got 3.0"),
        ({"body": [{**BLOCK, "kernel": [[3], 3]}]}, "block.kernel must be a whole number, but got [3]"),
        ({"body": [{**BLOCK, "padding": [0, -1]}]}, "block.padding must be at least 0, but got padding=-1"),
        ({"body": [{**BLOCK, "stride": 1.5}]}, "block.stride must be a whole number, but got 1.5"),
        ({"body": [{**BLOCK, "bare": "no"}]}, "block.bare must be true or false, but got 'no'"),
        ({"body": [{**BLOCK, "bare": 1}]}, "block.bare must be true or false, but got 1"),
        ({"body": [{**BLOCK, "dropout": "0.1"}]}, "block.dropout must be in [0, 1), but got dropout='0.1'"),
        ({"body": [{**BLOCK, "dropout": True}]}, "block.dropout must be in [0, 1), but got dropout=True"),
        ({"body": [{**BLOCK, "dropout": float("nan")}]}, "block.dropout must be in [0, 1), but got dropout=nan"),
        ({"body": [{"type": "transition", "kernel": 2.0}]}, "transition.kernel must be a whole number, but got 2.0"),
        ({"body": [{"type": "transition", "kind": "min"}]}, "transition.kind must be one of max, avg, but got 'min'"),
        ({"body": [BLOCK], "head": None}, "head must be a mapping, but got None"),
        ({"body": [BLOCK], "head": {"classes": "10"}}, "head: head.classes must be a whole number, but got '10'"),
        (
            {"body": [BLOCK], "head": {"pool": True}},
            "head.pool must be 'global', a kernel size or null, but got pool=True",
        ),
        (
            {"body": [BLOCK], "head": {"pool": [4]}},
            "head.pool must be 'global', a kernel size or null, but got pool=(4,)",
        ),
        ({"body": [BLOCK], "head": {"bias": 0}}, "head.bias must be true or false, but got 0"),
        ({"body": [BLOCK], "style": ["relu"]}, "style must be a mapping, but got ['relu']"),
        ({"body": [BLOCK], "style": {"bias": "yes"}}, "style.bias must be true or false, but got 'yes'"),
        ({"body": [BLOCK], "style": {"norm": {}}}, "style.norm must be one of before, after, none, but got {}"),
        ({"body": [BLOCK], "style": {"activation": "relu7"}}, "style.activation must be one of relu, leaky_relu"),
        ({"body": [BLOCK], "input_shape": 28}, "input_shape must be a list, but got 28"),
        ({"body": [BLOCK], "input_shape": "1x28x28"}, "input_shape must be a list, but got '1x28x28'"),
        ({"body": [BLOCK], "input_shape": [28, 28]}, "input_shape must be (channels, height, width), but got (28, 28)"),
        ({"body": [BLOCK], "input_shape": [1, 28, "28"]}, "input_shape.width must be a whole number, but got '28'"),
        ({"body": [BLOCK], "input_shape": [1, 0, 28]}, "input_shape.height must be at least 1, but got height=0"),
    ],
)
def test_json_that_is_no_network_is_refused_by_place_and_value(data, message):
    with pytest.raises(ArchitectureError) as caught:
        Architecture.from_dict(data)
    assert message in one_line(caught.value)


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 12) | st.floats() | st.sampled_from(["max", "plain", "block", "8"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["type", "width", "kernel"]), inner),
    max_leaves=4,
)


@given(architectures(), st.data())
def test_json_with_any_value_replaced_is_a_network_or_one_line_of_error(architecture, data):
    plain = json.loads(json.dumps(architecture.to_dict()))
    record = data.draw(st.sampled_from([plain, plain["head"], plain["style"], *plain["body"]]))
    record[data.draw(st.sampled_from(sorted(record)))] = data.draw(JUNK)
    try:
        Architecture.from_dict(plain).sections()
    except ArchitectureError as error:
        one_line(error)


def test_records_refuse_what_no_block_has():
    with pytest.raises(ArchitectureError, match="only a plain block can be bare"):
        Block(8, "residual", padding=(1, 1), bare=True)
    with pytest.raises(ArchitectureError, match="a residual block needs padding 'same'"):
        Block(8, "residual")
    with pytest.raises(ArchitectureError, match=r"head.first 'classifier' needs a 1x1 convolution"):
        Head(kind="linear", first="classifier")
    with pytest.raises(ArchitectureError, match="a network needs at least one block"):
        Architecture(())
