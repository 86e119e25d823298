"""All classification models of torchvision: traced, and counted as torch and fvcore count them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
import torchvision
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from torchvision.models import get_model, list_models, regnet

from budgetnet.layers import Shape
from budgetnet.table import ReceptiveFieldTable
from budgetnet.tabulate import receptive_field

MODELS = list_models(module=torchvision.models)
PRODUCTS = {"conv", "linear", "addmm", "matmul", "bmm", "einsum", "baddbmm"}  # fvcore's operators that are MACs
FAMILIES = (
    *("alexnet", "convnext_tiny", "densenet121", "efficientnet_b0", "efficientnet_v2_s", "googlenet", "inception_v3"),
    *("maxvit_t", "mnasnet0_5", "mobilenet_v2", "mobilenet_v3_small", "regnet_x_400mf", "regnet_y_400mf", "resnet18"),
    *("resnext50_32x4d", "shufflenet_v2_x0_5", "squeezenet1_1", "swin_t", "swin_v2_t", "vgg11", "vit_b_32"),
)
WIDTHS = regnet.BlockParams.from_init_params


def made(name: str, device: str) -> tuple[nn.Module, Shape]:
    """A model without useful weights, and the shape of its images."""
    options = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
    with torch.device(device), pytest.MonkeyPatch.context() as patch:
        for setter in vars(nn.init):
            if setter.endswith("_") and not setter.startswith("_"):  # no number of the weights is counted
                patch.setattr(nn.init, setter, lambda tensor, *_, **__: tensor)
        model = get_model(name, weights=None, **options)
    side = 299 if name == "inception_v3" else 224
    return model.eval(), (3, side, side)


def on_meta(name: str) -> tuple[nn.Module, Shape]:
    """Without memory and without computing."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(regnet.BlockParams, "from_init_params", widths_on_cpu)
        return made(name, "meta")


def widths_on_cpu(*arguments: Any, **options: Any) -> regnet.BlockParams:
    """RegNet reads its widths from a tensor, which has no numbers on the meta device."""
    with torch.device("cpu"):
        return WIDTHS(*arguments, **options)


@pytest.fixture
def attention_in_parts() -> Iterator[None]:
    """torch's fast path of attention is one operator, which no counter looks into."""
    torch.backends.mha.set_fastpath_enabled(False)
    yield
    torch.backends.mha.set_fastpath_enabled(True)


def flops(model: nn.Module, shape: Shape) -> int:
    """Of convolutions and products."""
    device = next(model.parameters()).device
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.zeros(1, *shape, device=device))
    return int(counter.get_total_flops())


@pytest.mark.slow
@pytest.mark.usefixtures("attention_in_parts")
def test_params_and_macs_of_every_model_are_torchs() -> None:
    """MACs: half of what torch.utils.flop_counter says, for it counts two a MAC, and convolution and products alone."""
    assert len(MODELS) >= 80
    for name in MODELS:
        model, shape = on_meta(name)
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.forward = lambda x: x  # type: ignore[method-assign]  # on meta they would cost the most time
        table = receptive_field(model, shape)
        assert table.params == sum(p.numel() for p in model.parameters()), name
        assert 2 * (table.macs + position_biases(model)) == flops(model, shape), name


def position_biases(model: nn.Module) -> int:
    """MACs that do not depend on the image: Swin V2 computes its position biases by a small network, every time."""
    total = 0
    for module in model.modules():
        if hasattr(module, "cpb_mlp"):
            pairs = module.relative_coords_table.numel() // 2
            total += pairs * sum(layer.weight.numel() for layer in module.cpb_mlp if isinstance(layer, nn.Linear))
    return total


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.usefixtures("attention_in_parts")
@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::torch.jit.TracerWarning")
def test_macs_of_each_family_are_fvcores(name: str) -> None:
    """But for scaled_dot_product_attention, which fvcore does not count, and says so, and for torch.einsum, whose count
    it reads from a text of numpy's that has four digits."""
    from fvcore.nn import FlopCountAnalysis

    model, shape = made(name, "cpu")
    table = receptive_field(model, shape)
    analysis = FlopCountAnalysis(model, torch.zeros(1, *shape))
    analysis.unsupported_ops_warnings(False)
    analysis.uncalled_modules_warnings(False)
    theirs = {operator: count for operator, count in analysis.by_operator().items() if operator in PRODUCTS}
    rounded = theirs.pop("einsum", 0)
    ours = sum(row.macs for row in table.rows if row.type != "einsum") + position_biases(model)
    assert rounded == pytest.approx(sum(row.macs for row in table.rows if row.type == "einsum"), rel=1e-3)
    if name == "vit_b_32":
        assert analysis.unsupported_ops()["aten::scaled_dot_product_attention"] == 12
        ours -= 12 * 2 * 50 * 50 * 768  # twelve layers, 50 tokens of 768: what is left are the projections
    assert ours == sum(theirs.values())


def table(name: str) -> ReceptiveFieldTable:
    return receptive_field(*on_meta(name))


@pytest.mark.parametrize(
    ("name", "size", "covers"),
    [
        # Araujo, Norris and Sim (Distill 2019), "The receptive field of common networks"
        ("alexnet", 195, False),
        ("vgg16", 212, False),
        ("inception_v3", 1311, True),
        ("mobilenet_v2", 491, True),
        # 483 there is of the first version, whose strides are in the 1 × 1; torchvision's are in the 3 × 3: 7, pool 11,
        # + 3·2·4 = 35, + 2·4 + 3·2·8 = 91, + 2·8 + 5·2·16 = 267, + 2·16 + 2·2·32 = 427
        ("resnet50", 427, True),
    ],
)
def test_fields_of_known_networks(name: str, size: int, covers: bool) -> None:
    found = table(name)
    assert found.receptive_field == (size, size)
    assert found.jump == (32, 32)
    assert found.covers_input == covers


@pytest.mark.parametrize("name", ["vit_b_32", "swin_t", "maxvit_t"])
def test_attention_sees_everything_in_the_end(name: str) -> None:
    found = table(name)
    assert found.row_sees_all(found.feature_layer)
    assert "receptive field global after" in str(found)


def test_a_window_of_attention_sees_its_window() -> None:
    """Swin-T at 224: patches of 4 pixels, windows of 7 × 7 patches; the second layer's are shifted by 3."""
    found = table("swin_t")
    first = found.layer("features.1.0.attn")
    assert dict(first.seen)[(28, 28)] == ((112, 139), (112, 139))
    shifted = [row.name for row in found.rows if row.type == "window attention"][1]
    ((corner, seen), *_) = found.layer(shifted).seen
    assert (corner, seen) == ((0, 0), ((0, 27), (0, 27)))


def test_gates_are_left_out_unless_asked_for() -> None:
    free, strict = table("mobilenet_v3_small"), receptive_field(*on_meta("mobilenet_v3_small"), strict=True)
    assert len(free.strictly_global) == 9
    assert not free.row_sees_all("features.1.block.1")
    assert strict.row_sees_all("features.1.block.1")
