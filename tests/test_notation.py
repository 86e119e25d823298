"""The one-line notation: what it means, that it round trips, and what it says about what it cannot read."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from budgetnet.architecture import Architecture
from budgetnet.errors import ArchitectureError
from budgetnet.notation import parse, parse_pair, parse_shape, write
from budgetnet.pieces import Block, Head, Style, Transition
from tests.networks import PARAMS
from tests.strategies import architectures


@given(architectures())
def test_notation_round_trips(architecture):
    assert parse(write(architecture)) == architecture


@given(architectures())
def test_writing_what_was_parsed_changes_nothing(architecture):
    text = write(architecture)
    assert write(parse(text)) == text


@pytest.mark.parametrize("text", PARAMS)
def test_baselines_are_already_in_the_shortest_form(text):
    assert write(parse(text)) == text


@pytest.mark.parametrize(
    ("token", "piece"),
    [
        ("12", Block(12)),
        ("c12", Block(12, padding=(1, 1))),
        ("c5x5:12", Block(12, kernel=(5, 5), padding=(2, 2))),
        ("c12%2", Block(12, padding=(2, 2), dilation=2)),
        ("12p1x0", Block(12, padding=(1, 0))),
        ("1x1:10*", Block(10, kernel=(1, 1), bare=True)),
        ("3x5:8/2", Block(8, kernel=(3, 5), stride=2)),
        ("8g4@0.05", Block(8, groups=4, dropout=0.05)),
        ("s12", Block(12, "separable", padding=(1, 1))),
        ("vs12", Block(12, "separable")),
        ("vs2x2:12", Block(12, "separable", kernel=(2, 2))),
        ("s12p2", Block(12, "separable", padding=(2, 2))),
        ("r12/2", Block(12, "residual", padding=(1, 1), stride=2)),
        ("c12^3", Block(12, padding=(1, 1), loops=3)),
        ("s12^1/2@0.1", Block(12, "separable", padding=(1, 1), stride=2, loops=1, dropout=0.1)),
        ("M", Transition("max", 2)),
        ("A3", Transition("avg", 3)),
    ],
)
def test_pieces(token, piece):
    parsed = parse(f"{token} 8")
    assert parsed.body == (piece, Block(8))
    assert write(parsed) == f"{token} 8"


@pytest.mark.parametrize(
    ("settings", "style", "input_shape"),
    [
        ("", Style(), (1, 28, 28)),
        ("[bn-relu]", Style(), (1, 28, 28)),
        ("[relu-bn bias]", Style("after", "relu", bias=True), (1, 28, 28)),
        ("[3x32x48 silu]", Style("none", "silu"), (3, 32, 48)),
        ("[bias bn-leaky_relu]", Style("before", "leaky_relu", bias=True), (1, 28, 28)),
    ],
)
def test_settings(settings, style, input_shape):
    assert parse(f"{settings} 8") == Architecture((Block(8),), style=style, input_shape=input_shape)


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        ("gap 1x1:10", Head()),
        ("avg4 1x1:10 nobias", Head(pool=4, bias=False)),
        ("1x1:10 avg3", Head(pool=3, first="classifier")),
        ("1x1:7", Head(7, pool=None)),
        ("gap fc:100", Head(100, "linear")),
        ("fc:10", Head(kind="linear", pool=None)),
    ],
)
def test_heads(head, expected):
    assert parse(f"8 | {head}").head == expected


def test_the_default_head_and_settings_are_not_written():
    assert write(parse("[1x28x28 bn-relu] 8 M2 c3x3:8 v12 | gap 1x1:10")) == "8 M c8 12"


def test_an_architecture_prints_as_its_notation():
    assert str(Architecture((Block(8), Transition(), Block(12)))) == "8 M 12"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "a network needs at least one block, but got none"),
        ("M", "a network needs at least one block, but got none"),
        ("8 | | fc:10", "notation must read '[settings] pieces | head', but got '8 | | fc:10'"),
        ("8 [bias]", "notation must read '[settings] pieces | head', but got '8 [bias]'"),
        ("8 twelve", "a piece is a width such as 12, c12, s12, r12, 1x1:10*, or M, but got 'twelve'"),
        ("8 -4", "a piece is a width such as 12, c12, s12, r12, 1x1:10*, or M, but got '-4'"),
        ("8 1.5", "a piece is a width such as 12, c12, s12, r12, 1x1:10*, or M, but got '1.5'"),
        ("٨", "a piece is a width such as 12, c12, s12, r12, 1x1:10*, or M, but got '٨'"),
        ("0", "'0': block.width must be at least 1, but got width=0"),
        ("12/0", "'12/0': block.stride must be at least 1, but got stride=0"),
        ("12%0", "'12%0': block.dilation must be at least 1, but got dilation=0"),
        ("12g0", "'12g0': block.groups must be at least 1, but got groups=0"),
        ("0x3:8", "'0x3:8': block.kernel must be at least 1, but got kernel=0"),
        ("9999999", "'9999999': block.width must be at most 1,000,000, but got width=9999999"),
        ("8p2000", "'8p2000': block.padding must be at most 1,024, but got padding=2000"),
        ("12@1.5", "'12@1.5': block.dropout must be in [0, 1), but got dropout=1.5"),
        ("12@1", "'12@1': block.dropout must be in [0, 1), but got dropout=1.0"),
        ("8 M0", "'M0': transition.kernel must be at least 2, but got kernel=0"),
        ("8 M1", "'M1': transition.kernel must be at least 2, but got kernel=1"),
        ("c2x2:12", "'c2x2:12': padding 'same' needs odd kernels, but got kernel=2x2"),
        ("s4x3:12", "'s4x3:12': padding 'same' needs odd kernels, but got kernel=4x3"),
        ("c12p1", "'c12p1': c and p1 both say the padding"),
        ("s12*", "'s12*': only a plain block can be bare, but got kind=separable"),
        ("s12g2", "'s12g2': a separable block sets its own groups, but got groups=2"),
        ("vr12", "'vr12': a residual block needs padding 'same', or x and f(x) differ in size"),
        ("12^101", "'12^101': block.loops must be at most 100, but got loops=101"),
        ("12^2*", "'12^2*': a bare block has no loops, but got 2"),
        ("r12^1", "'r12^1': a residual block has no loops, but got 1"),
        ("[bn] 8", "a setting is CxHxW, bn-relu, relu-bn, relu or bias, but got 'bn'"),
        ("[relu-] 8", "a setting is CxHxW, bn-relu, relu-bn, relu or bias, but got 'relu-'"),
        ("[28x28] 8", "a setting is CxHxW, bn-relu, relu-bn, relu or bias, but got '28x28'"),
        ("[0x28x28] 8", "input_shape.channels must be at least 1, but got channels=0"),
        ("[1x28x99999999] 8", "input_shape.width must be at most 65,536, but got width=99999999"),
        ("[relu bn-relu] 8", "a setting is given once, but got 'relu bn-relu'"),
        ("8 |", "a head needs one classifier and at most one pooling, but got ''"),
        ("8 | gap", "a head needs one classifier and at most one pooling, but got 'gap'"),
        ("8 | gap gap fc:10", "a head needs one classifier and at most one pooling, but got 'gap gap fc:10'"),
        ("8 | max4 fc:10", "a head is made of gap, avg4, 1x1:10, fc:10 and nobias, but got 'max4'"),
        ("8 | avg0 fc:10", "head.pool must be at least 1, but got pool=0"),
        ("8 | fc:0", "head.classes must be at least 1, but got classes=0"),
        ("8 | fc:10 gap", "head.first 'classifier' needs a 1x1 convolution and a pooling after it"),
    ],
)
def test_what_cannot_be_read_is_named(text, message):
    with pytest.raises(ArchitectureError) as caught:
        parse(text)
    assert str(caught.value) == message


def test_a_number_of_five_thousand_digits_is_a_short_message():
    with pytest.raises(ArchitectureError) as caught:
        parse("8 " + "9" * 5000)
    assert str(caught.value).startswith("a piece is a width such as 12")
    assert len(str(caught.value)) < 200


@given(st.text("0123456789cvsrMA*:x/%gp@. |[]-bnrelu", max_size=20) | st.text(max_size=12))
def test_any_text_is_a_network_or_one_line_of_error(text):
    network, message = None, "none"
    try:
        network = parse(text)
    except ArchitectureError as error:
        message = str(error)
    assert len(message.splitlines()) == 1
    assert network is None or parse(write(network)) == network


def test_pairs_and_shapes():
    assert parse_pair("3") == (3, 3)
    assert parse_pair("3x5") == (3, 5)
    assert parse_shape("3x32x32") == (3, 32, 32)
    with pytest.raises(ArchitectureError, match="a shape is written like 1x28x28, but got '28'"):
        parse_shape("28")


def test_a_dropout_of_every_block_is_written_once():
    assert write(parse("8@0.05 M c12@0.05")) == "[@0.05] 8 M c12"
    assert parse("[@0.05 bias] 8 M c12@0") == parse("[bias] 8@0.05 M c12")
    assert write(parse("8@0.05")) == "8@0.05"
    for text in ("[@0.05 @0.1] 8", "[@] 8", "[@x] 8", "[@1.5] 8 8"):
        with pytest.raises(ArchitectureError, match=r"dropout"):
            parse(text)
