"""The receptive-field table: exact numbers from literal networks, the same with and without torch, readable as text."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import torch
from torch import nn

from budgetnet.architecture import Architecture
from budgetnet.build import build
from budgetnet.errors import ArchitectureError, ModelError
from budgetnet.notation import parse
from budgetnet.table import ReceptiveFieldTable
from budgetnet.tabulate import receptive_field

SMALL = "8 M 12* | gap 1x1:10"
# 3×3, 8 channels, on 28×28: 72 params, 26·26·72 = 48,672 MACs; pool; 3×3 to 12: 864 params, 11·11·864 = 104,544 MACs.
# Field 3 → 4 after the pool (jump 2) → 4 + 2·2 = 8; the head 1×1 to 10 with bias: 130 params, 120 MACs.
SMALL_TEXT = """\
8 M 12* · input 1×28×28
layer     type           k  s    output  jump  field  params     MACs
─────────────────────────────────────────────────────────────────────
stem.0    Conv           3  1   8×26×26     1      3      72   48,672
stem.1    BatchNorm             8×26×26     1      3      16
stem.2    ReLU                  8×26×26     1      3
stage1.0  MaxPool        2  2   8×13×13     2      4
stage1.1  Conv           3  1  12×11×11     2      8     864  104,544
head.0    GlobalAvgPool          12×1×1    22     28
head.1    Conv           1  1    10×1×1    22     28     130      120
head.2    Flatten                    10    22     28
─────────────────────────────────────────────────────────────────────
receptive field 8 after stage1.1, jump 2; does not cover the input 28×28
receptive field of the output 28
params 1,082 · MACs 153,336 · peak activations 6,760
without MACs: 1 BatchNorm · 1 ReLU · 1 MaxPool · 1 GlobalAvgPool
k kernel, s stride"""
# Peak: the pool's input and output, 5,408 + 1,352; norm and activation work in place.


def test_text_of_a_small_network() -> None:
    assert str(receptive_field(SMALL)) == SMALL_TEXT
    assert repr(receptive_field(SMALL)) == SMALL_TEXT


def test_a_usual_mnist_network_fits_eighty_columns() -> None:
    text = str(receptive_field("8 12 M c12 c12 14 16@0.1"))
    assert max(map(len, text.splitlines())) <= 80


def test_the_same_from_notation_architecture_and_module() -> None:
    architecture = parse("r8 s12/2 M 16 | gap fc:10")
    tables = [
        receptive_field(network, title="it")
        for network in (str(architecture), architecture, build(architecture), build(architecture).train())
    ]
    assert all(table == tables[0] for table in tables)


@pytest.mark.parametrize(
    ("notation", "field", "params"),
    [
        # Four unpadded 3×3 layers see 9; a pool at jump 1 adds 1 → 6 after two layers; each 3×3 at jump 2 adds 4.
        ("8 8", 5, 72 + 16 + 576 + 16 + 90),
        ("8 8 M 8", 10, 72 + 16 + 2 * (576 + 16) + 90),
    ],
)
def test_totals_by_hand(notation: str, field: int, params: int) -> None:
    table = receptive_field(notation)
    assert table.receptive_field == (field, field)
    assert table.params == params
    assert table.params == sum(p.numel() for p in build(parse(notation)).parameters())


def test_resnet18() -> None:
    from torchvision.models import resnet18

    with torch.device("meta"):
        module = resnet18()
    table = receptive_field(module, (3, 224, 224))
    assert (table.params, table.macs) == (11_689_512, 1_814_073_344)
    assert (table.receptive_field, table.jump, table.feature_layer) == ((435, 435), (32, 32), "layer4.1.relu@2")
    assert table.covers_input
    assert table.row("conv1").kernel == (7, 7)
    assert table.row("fc").macs == 512_000
    assert "params 11,689,512 · MACs 1,814,073,344 · peak activations" in str(table)


def test_axes_that_differ_are_written_apart() -> None:
    table = receptive_field(nn.Sequential(nn.Conv2d(1, 2, (3, 5), stride=(1, 2))), (1, 20, 30))
    assert table.rows[0].receptive_field == (3, 5)
    line = next(line for line in str(table).splitlines() if line.startswith("0"))
    assert line.split() == ["0", "Conv", "3×5", "1×2", "2×18×13", "1×2", "3×5", "32", "7,020"]


def test_branches_that_do_not_align_show_no_jump() -> None:
    class Branches(nn.Module):
        input_shape = (1, 8, 8)

        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(1, 1, 5)
            self.pool = nn.MaxPool2d(2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.conv(x) + self.pool(x)

    table = receptive_field(Branches())
    last = table.rows[-1]
    # pixels i to i + 4 through the convolution, 2i and 2i + 1 through the pool: 5 wide, but no common jump
    assert (last.type, last.jump, last.receptive_field) == ("Add", (None, None), (5, 5))
    assert "–" in str(table)


def test_the_last_feature_map_without_a_global_pooling() -> None:
    """Without a pooling or flattening, the output is the feature map; a flattened image has the field of the image."""
    assert receptive_field(nn.Conv2d(1, 2, 3)).feature_layer == "Conv2d"
    table = receptive_field(nn.Sequential(nn.Flatten(), nn.Linear(784, 10)))
    assert (table.feature_layer, table.receptive_field, table.covers_input) == ("the input", (1, 1), False)
    assert table.output_receptive_field == (28, 28)


def test_a_network_of_no_map_has_no_field() -> None:
    table = receptive_field(nn.Sequential(nn.Linear(12, 5), nn.ReLU(), nn.Linear(5, 2)), (12,))
    assert (table.params, table.macs, table.receptive_field) == (77, 70, ())
    assert "field" not in str(table)


def test_unused_params_are_in_the_total_and_told() -> None:
    class Spare(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(1, 2, 3, bias=False)
            self.spare = nn.Linear(10, 100)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.conv(x)

    table = receptive_field(Spare())
    assert (table.params, table.unused_params) == (1_118, 1_100)
    assert "1,100 of the params are never read by forward" in str(table)


def test_normalisation_over_the_map_is_told() -> None:
    table = receptive_field(nn.Sequential(nn.Conv2d(1, 4, 3), nn.GroupNorm(2, 4)))
    assert table.strictly_global == ("1",)
    assert table.rows[1].type == "GroupNorm"
    assert (
        "global, strictly, by gates or statistics of the map, which this leaves out (--strict follows them): 1"
        in str(table)
    )
    strict = receptive_field(nn.Sequential(nn.Conv2d(1, 4, 3), nn.GroupNorm(2, 4)), strict=True)
    assert (strict.rows[0].sees_all, strict.rows[1].sees_all) == (False, True)
    assert "which this follows: 1" in str(strict)


def test_dictionary_is_json_with_every_number() -> None:
    data = receptive_field(SMALL).to_dict()
    assert json.loads(json.dumps(data)) == data
    assert data["receptive_field"] == [8, 8]
    assert data["rows"][4] == {
        "name": "stage1.1",
        "type": "Conv",
        "kernel": [3, 3],
        "stride": [1, 1],
        "padding": [0, 0],
        "dilation": [1, 1],
        "groups": 1,
        "output": [12, 11, 11],
        "jump": [2, 2],
        "receptive_field": [8, 8],
        "start": [0, 0],
        "params": 864,
        "macs": 104_544,
        "sees_all": False,
    }


def test_html_escapes_what_it_shows() -> None:
    html = receptive_field(SMALL, title="<Net>")._repr_html_()
    assert html.startswith("<table><caption>&lt;Net&gt; · input 1×28×28</caption>")
    assert "<td>104,544</td>" in html
    assert html.count("<tr>") == 9


def test_rows_by_name() -> None:
    table = receptive_field("4")
    assert table.row("stem.0").params == 36
    with pytest.raises(ModelError, match=r"^4 has no layer 'stem'; it has stem\.0, stem\.1, stem\.2, head\.0, "):
        table.row("stem")


@pytest.mark.parametrize(
    ("network", "input_shape", "error", "message"),
    [
        ("8 x", None, ArchitectureError, "a piece is a width such as 12"),
        (parse("8 8 8"), (1, 4, 4), ArchitectureError, "leaves nothing of a map"),
        (nn.ReLU(), (1, 0, 4), ModelError, r"^ReLU: input_shape must be like \(1, 28, 28\), but is \(1, 0, 4\)$"),
        (3, None, ModelError, "^an Architecture, its notation or an nn.Module is needed, but got a int$"),
    ],
)
def test_errors(network: object, input_shape: tuple[int, ...] | None, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        receptive_field(network, input_shape)


def test_an_architecture_needs_no_torch() -> None:
    code = (
        "import sys; from budgetnet.tabulate import receptive_field;"
        "table = receptive_field('8 M c12'); str(table), table.to_dict(), table._repr_html_();"
        "assert 'torch' not in sys.modules, 'torch was imported'"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_tables_compare_by_value() -> None:
    architecture: Architecture = parse(SMALL)
    table = receptive_field(architecture)
    assert isinstance(table, ReceptiveFieldTable)
    assert table == receptive_field(SMALL)


class Branches(nn.Module):
    """Two branches, added."""

    def __init__(self, first: nn.Module, second: nn.Module) -> None:
        super().__init__()
        self.first, self.second = first, second

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.first(x) + self.second(x)


def test_a_strided_residual_has_the_jump_of_one_branch() -> None:
    """3 × 3 with stride 2 beside 1 × 1 with stride 2: both move by 2 pixels, centred on pixel 0; not 4."""
    block = Branches(nn.Conv2d(1, 4, 3, 2, 1), nn.Conv2d(1, 4, 1, 2))
    table = receptive_field(block)
    assert (table.rows[-1].jump, table.rows[-1].receptive_field, table.rows[-1].start) == ((2, 2), (3, 3), (-1, -1))
    assert (table.joins, table.misaligned) == (1, ())
    assert "branches align" in str(table)


def test_branches_with_other_centres_are_named() -> None:
    """3 × 3 with stride 2 and no padding is centred on pixel 1, 1 × 1 on pixel 0."""
    block = Branches(nn.Conv2d(1, 4, 3, 2), nn.Sequential(nn.Conv2d(1, 4, 1, 2), nn.ZeroPad2d((0, -1, 0, -1))))
    table = receptive_field(block)
    assert table.misaligned == ("add",)
    assert "branches that do not align: add" in str(table)
    assert receptive_field(nn.Conv2d(1, 1, 3)).joins == 0


def test_of_branches_that_were_resized_nothing_is_said() -> None:
    """Nearest neighbours twice as large beside the map 4 pixels aside: the centres behind the resize are uneven."""
    resized = nn.Sequential(nn.MaxPool2d(2), nn.Upsample(scale_factor=2))
    table = receptive_field(Branches(resized, nn.ZeroPad2d((4, -4, 4, -4))))
    assert "align" not in str(table)
