"""The measured field of a centre cell: literal for a linear network, inside what can be seen for every other."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from typer.testing import CliRunner

import budgetnet
from budgetnet.cli import app, main
from budgetnet.effective import EffectiveField, effective_field
from budgetnet.errors import ModelError
from budgetnet.generated import generated_from
from budgetnet.inspection import Inspection
from budgetnet.tabulate import receptive_field


def ones(module: nn.Module) -> nn.Module:
    for parameter in module.parameters():
        nn.init.ones_(parameter)
    return module


def test_two_box_filters_are_a_triangle() -> None:
    """Convolving (1 1 1) with (1 1 1) gives 1 2 3 2 1: of 9 ninths, the middle three hold 7."""
    module = ones(nn.Sequential(nn.Conv1d(1, 1, 3), nn.Conv1d(1, 1, 3)))
    field = effective_field(module, (1, 11), "1")
    assert field.field == ((3, 7),)
    assert field.strength == pytest.approx(np.array([0, 0, 0, 1, 2, 3, 2, 1, 0, 0, 0]) / 9)
    assert field.size(7 / 9 - 1e-9) == (3,)
    assert field.size(1.0 - 1e-9) == (5,)
    assert field.box(0.3) == ((5, 5),)
    assert field.centre == (5.0,)


def test_a_field_that_is_cut_off_keeps_its_centre() -> None:
    """The second cell of a kernel of 9, stride 4, padded by 4: pixels 0 to 8, of which a shorter input has 0 to 5."""
    module = ones(nn.Conv1d(1, 1, 9, 4, 4))
    field = effective_field(module, (1, 9), "Conv1d")
    assert (field.field, field.centre) == (((0, 8),), (4.0,))
    cut = effective_field(module, (1, 6), "Conv1d")
    assert (cut.field, cut.centre) == (((0, 5),), (4.0,))


def test_the_centre_of_a_map_in_another_order_is_the_same() -> None:
    class Last(nn.Module):
        """Channels last, as in ConvNeXt."""

        def __init__(self) -> None:
            super().__init__()
            self.conv, self.mix = nn.Conv2d(2, 3, 3), nn.Linear(3, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.mix(self.conv(x).permute(0, 2, 3, 1))

    last = ones(Last())
    plain = ones(nn.Sequential(nn.Conv2d(2, 3, 3), nn.Conv2d(3, 1, 1)))
    expected = effective_field(plain, (2, 9, 12), "1")
    found = effective_field(last, (2, 9, 12), "mix")
    assert found.field == expected.field == ((3, 5), (5, 7))
    assert found.strength == pytest.approx(expected.strength)


def test_tokens_of_attention_depend_on_everything() -> None:
    from torchvision.models import VisionTransformer

    module = VisionTransformer(32, 8, 1, 2, 16, 16, num_classes=3)
    nn.init.ones_(module.heads.head.weight)
    field = effective_field(module, (3, 32, 32), "encoder.layers.encoder_layer_0.self_attention")
    assert field.field == ((0, 31), (0, 31))
    assert (field.strength > 0).all()


def test_nothing_is_measured_where_nothing_depends() -> None:
    dead = nn.Sequential(nn.Conv2d(1, 1, 3), nn.ReLU())
    nn.init.constant_(dead[0].bias, -1e6)
    with pytest.raises(ModelError, match=r"^the centre of 1 depends on no pixel of the 32 images$"):
        effective_field(dead, (1, 8, 8), "1")
    with pytest.raises(ModelError, match=r"^Sequential has no layer 'x'; it has 0, 1$"):
        effective_field(dead, (1, 8, 8), "x")


def test_the_module_is_left_as_it_was() -> None:
    module = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Dropout(0.5)).train()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    effective_field(module, (1, 8, 8), "1")
    assert module.training
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    assert all(parameter.grad is None for parameter in module.parameters())


class Shuffled(nn.Module):
    """The mean over both axes is two steps of one operation."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(x).mean([2, 3])


def test_what_cannot_be_measured_is_said(tmp_path: Path) -> None:
    names = [row.name for row in receptive_field(Shuffled(), (1, 8, 8)).rows]
    inside = next(name for name in names if name.startswith("mean"))
    assert len(names) == 3, "a pool and a flatten"
    told = rf"^Shuffled does not hold what '{inside}', a step inside an operation, gives; it has conv, "
    with pytest.raises(ModelError, match=told):
        effective_field(Shuffled(), (1, 8, 8), inside)
    (tmp_path / "net.py").write_text(
        "from torch import nn\n"
        "class Net(nn.Sequential):\n"
        "    def __init__(self):\n"
        "        super().__init__(nn.Flatten(), nn.Linear(64, 10))\n"
    )
    found = Inspection.of(f"{tmp_path}/net.py:Net", (1, 8, 8))
    for ask in (found.measure, lambda: found.draw(tmp_path / "field.png")):
        with pytest.raises(ModelError, match=r"has no feature map; say which layer is meant with --layer$"):
            ask()


def test_a_network_that_changes_its_input_is_measured() -> None:
    changing, plain = (nn.Sequential(nn.ReLU(inplace=inplace), nn.Conv2d(1, 2, 3)) for inplace in (True, False))
    plain.load_state_dict(changing.state_dict())
    measured = [effective_field(each, (1, 8, 8), "1").strength for each in (changing, plain)]
    assert np.array_equal(*measured)


def test_the_shipped_model_is_measured_with_its_weights_on_mnist() -> None:
    found = Inspection.of("Model_1")
    measured = found.measure()
    assert measured.images == 64
    seen = found.table.layer(found.table.feature_layer).seen[1][1]
    assert measured.field == seen
    assert measured.strength.sum() == pytest.approx(1)
    assert all(1 < side <= 28 for side in measured.size())

    def again(pretrained: bool) -> np.ndarray:
        torch.manual_seed(0)
        model = budgetnet.load("Model_1", pretrained)
        return effective_field(model, (1, 28, 28), found.table.feature_layer, found._images(None)).strength

    assert measured.strength == pytest.approx(again(True))
    assert not np.allclose(measured.strength, again(False))


@pytest.mark.parametrize("name", ["field.png", "field.svg", "field.pdf"])
def test_pictures(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    found = Inspection.of("4 M 6")
    found.draw(path, measured=found.measure())
    assert path.stat().st_size > 5_000
    assert [file.name for file in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--plot", "field.gif"], "error: --plot must end in .png, .svg, .pdf, but is field.gif"),
        (["--layer", "x"], "error: 4 M 6 has no layer 'x'; it has stem.0, "),
        (
            ["--effective", "--data", "mnist", "--input", "1x32x32"],
            "error: mnist: images must be 1×32×32, but are 1×28×28",
        ),
    ],
)
def test_bad_input_is_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["budgetnet", "rf", "4 M 6", *arguments])
    with pytest.raises(SystemExit) as left:
        main()
    shown = capsys.readouterr()
    assert (left.value.code, shown.out, shown.err.count("\n")) == (2, "", 1)
    assert shown.err.startswith(message)
    assert list(tmp_path.iterdir()) == []


def test_json_of_one_layer_with_its_measured_field() -> None:
    result = CliRunner().invoke(app, ["rf", "4 M 6", "--layer", "stage1.0", "--effective", "--json"])
    told = json.loads(result.output)
    assert told["name"] == "stage1.0"
    assert told["seen"][0]["pixels"][0][0] == 0
    assert told["effective"]["layer"] == "stage1.0"


def test_strength_without_room_for_the_mass_is_the_whole_input() -> None:
    field = EffectiveField("x", ((0, 0),), (0.0,), np.full(4, 0.25), 1)
    assert field.box(2.0) == ((0, 3),)


# --- a frozen class is known without running it -----------------------------------------------------------------------

SHIPPED = Path(budgetnet.__file__).with_name("model.py")


def test_what_is_known_of_a_frozen_class_is_what_tracing_finds() -> None:
    architecture = generated_from(SHIPPED, "Model_1")
    assert architecture is not None
    known = receptive_field(architecture, title="Model_1")
    traced = receptive_field(budgetnet.load("Model_1"), title="Model_1")
    assert known == traced
    assert [[axis.intervals for axis in field] for field in known.fields] == [
        [axis.intervals for axis in field] for field in traced.fields
    ]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("nn.MaxPool2d(2)", "nn.AvgPool2d(2)"),
        ("from torch import Tensor, nn", "from torch import Tensor, nn\n\nnn.ReLU = nn.ELU"),
        ("from torch import Tensor, nn", "from mine import Tensor, nn"),
        ("class Model_1(nn.Module)", "class Model_1(Base)"),
    ],
)
def test_a_class_that_was_changed_is_run(tmp_path: Path, old: str, new: str) -> None:
    path = tmp_path / "model.py"
    text = SHIPPED.read_text(encoding="utf-8")
    (tmp_path / "Model_1.json").write_text(SHIPPED.with_name("Model_1.json").read_text(encoding="utf-8"))
    path.write_text(text, encoding="utf-8")
    assert generated_from(path, "Model_1") is not None
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")
    assert generated_from(path, "Model_1") is None
    path.write_text(text, encoding="utf-8")
    (tmp_path / "Model_1.json").write_text("{}")
    assert generated_from(path, "Model_1") is None


def test_rf_of_a_frozen_class_needs_no_torch() -> None:
    code = "from budgetnet.inspection import Inspection as I; I.of('Model_1'); import sys; exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_readmes_table_is_what_rf_prints() -> None:
    readme = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
    (block,) = (part for part in readme.split("```") if "stem.0     Conv" in part)
    printed = str(Inspection.of("Model_3").table).splitlines()
    shown = [line for line in block.strip().splitlines() if "[…" not in line]
    assert len(shown) > 15
    assert [line for line in shown if line not in printed] == []
