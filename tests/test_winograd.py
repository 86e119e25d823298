"""Winograd's convolution against torch's in float64, and where it runs and where it must not."""

from __future__ import annotations

import copy
import math
import platform
import subprocess
import sys
from contextlib import nullcontext

import pytest
import torch
import torch.nn.functional as F
import torch.nn.utils.prune
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import nn

from budgetnet import winograd
from budgetnet.fused import fused
from tests.test_fused import CPU, both, passes, random, trained

WIDE = {"in_channels": 32, "out_channels": 64, "kernel_size": 3}
sides = st.integers(1, 13)
paddings = st.tuples(st.integers(0, 3), st.integers(0, 3))


@pytest.fixture
def results(monkeypatch):
    """The shapes that ``winograd.convolution`` gave, in order."""
    found, compute = [], winograd.convolution

    def spy(*arguments):
        y = compute(*arguments)
        found.append(tuple(y.shape))
        return y

    monkeypatch.setattr(winograd, "convolution", spy)
    return found


def near(got, wanted):
    """Within 2e-5 of the largest number: the transforms cancel digits of float32."""
    torch.testing.assert_close(got.double(), wanted, rtol=0, atol=2e-5 * float(wanted.abs().amax().clamp(min=1e-3)))


# --- the numbers ------------------------------------------------------------------------------------------------------


@given(
    st.tuples(st.integers(1, 5), st.integers(1, 9), sides, sides),
    st.integers(1, 9),
    paddings,
    st.booleans(),
    st.integers(0, 2**31 - 1),
)
@settings(deadline=None, max_examples=60)
def test_it_is_torchs_convolution_there_and_back(shape, kernels, padding, with_bias, seed):
    x = random(*shape, seed=seed)
    assume(min(winograd.result_size(x, padding)) > 0)
    layer = nn.Conv2d(shape[1], kernels, 3, padding=padding, bias=with_bias)
    exact = copy.deepcopy(layer).double()
    dy = random(*exact(x.double()).shape, seed=seed + 1)
    want, want_dx, want_gradients, _ = passes(exact, x.double(), dy.double())
    x.requires_grad_()
    y = winograd.convolution(x, layer.weight, layer.bias, padding)
    y.backward(dy)
    assert y.is_contiguous(memory_format=torch.channels_last)
    for got, wanted in zip(
        (y.detach(), x.grad, *(p.grad for p in layer.parameters())), (want, want_dx, *want_gradients), strict=True
    ):
        near(got, wanted)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_whatever_lies_how_in_memory_and_in_however_many_parts(layout, monkeypatch):
    x, dy = (random(7, 4, 10, 6, seed=s).contiguous(memory_format=layout) for s in (0, 1))
    weight = random(4, 4, 3, 3, seed=2).contiguous(memory_format=layout)
    found = []
    for part in (1, 4 * winograd.POINTS * 6 * 8 * 3, 2**24):  # one image at a time, three, all
        monkeypatch.setattr(winograd, "PART", part)
        a, w = x.clone().requires_grad_(), weight.clone().requires_grad_()
        y = winograd.convolution(a, w, None, (1, 1))
        y.backward(dy)
        found.append((y.detach(), a.grad, w.grad))
    for each in found[:2]:
        for got, wanted in zip(each, found[2], strict=True):
            near(got, wanted.double())


@pytest.mark.parametrize(("channels", "kernels"), [(32, 64), (512, 64), (64, 256)])
def test_many_channels_far_from_zero_round_to_a_few_times_1e_5(channels, kernels):
    x, weight = random(2, channels, 10, 9) + 1, random(kernels, channels, 3, 3, seed=1) / channels
    dy = random(2, kernels, 8, 9, seed=2) + 1
    found = []
    for number, compute in ((torch.float32, winograd.convolution), (torch.float64, exact_convolution)):
        a, w = (each.to(number, copy=True).requires_grad_() for each in (x, weight))
        y = compute(a, w, None, (0, 1))
        y.backward(dy.to(number))
        found.append((y.detach(), a.grad, w.grad))
    for got, wanted in zip(*found, strict=True):
        near(got, wanted)


def exact_convolution(x, weight, bias, padding):
    return F.conv2d(x, weight, bias, padding=padding)


@pytest.mark.parametrize("frozen", [("x",), ("weight",), ("bias",), ("x", "weight"), ("weight", "bias"), ("x", "bias")])
def test_only_what_needs_a_gradient_gets_one_and_costs_anything(frozen, monkeypatch):
    given = {"x": random(2, 3, 8, 8), "weight": random(4, 3, 3, 3, seed=1), "bias": random(4, seed=2)}
    wanted = {name: value.double().requires_grad_(name not in frozen) for name, value in given.items()}
    for name, value in given.items():
        value.requires_grad_(name not in frozen)
    y = winograd.convolution(*given.values(), (0, 0))
    ran = []
    for loop in ("to_points", "to_points_back"):
        compute = getattr(winograd, loop)
        monkeypatch.setattr(winograd, loop, lambda *a, loop=loop, compute=compute: (ran.append(loop), compute(*a)))
    y.sum().backward()  # its gradient is one number, expanded
    exact_convolution(*wanted.values(), (0, 0)).sum().backward()
    for name, value in given.items():
        assert (value.grad is None) == (name in frozen)
        if name not in frozen:
            near(value.grad, wanted[name].grad)
    assert ran == [*["to_points"] * ("weight" not in frozen), *["to_points_back"] * ("x" not in frozen)]


def test_a_graph_that_is_kept_gives_the_same_again_but_no_second_derivative():
    x, weight = random(1, 2, 8, 8).requires_grad_(), random(4, 2, 3, 3, seed=1).requires_grad_()
    y = (winograd.convolution(x, weight, None, (0, 0)) ** 2).sum()
    first, again = (torch.autograd.grad(y, (x, weight), retain_graph=True) for _ in range(2))
    assert all(torch.equal(one, other) for one, other in zip(first, again, strict=True))
    (slope,) = torch.autograd.grad(y, x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        slope.sum().backward()


def test_a_weight_that_changed_in_between_is_an_error_as_in_torch():
    x, weight = random(1, 2, 8, 8).requires_grad_(), random(4, 2, 3, 3, seed=1).requires_grad_()
    y = winograd.convolution(x, weight, None, (0, 0)).sum()
    with torch.no_grad():
        weight.mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.backward()


def test_no_images_give_no_results():
    x, weight = random(0, 2, 8, 8).requires_grad_(), random(4, 2, 3, 3).requires_grad_()
    y = winograd.convolution(x, weight, None, (0, 0))
    y.sum().backward()
    assert y.shape == (0, 4, 6, 6)
    assert (x.grad.shape, weight.grad.abs().max()) == (x.shape, 0)


def test_a_step_backwards_under_autocast_stays_in_float32():
    x, weight = random(1, 2, 8, 8).requires_grad_(), random(4, 2, 3, 3, seed=1).requires_grad_()
    y = winograd.convolution(x, weight, None, (0, 0)).sum()
    (plain,) = torch.autograd.grad(y, weight, retain_graph=True)
    with torch.autocast("cpu", torch.bfloat16):
        (under,) = torch.autograd.grad(y, weight)
    assert torch.equal(plain, under)


@pytest.mark.parametrize("sick", [math.nan, math.inf])
def test_what_is_sick_stays_sick(sick):
    x = random(2, 3, 8, 8)
    x[1, 2, 4, 4] = sick
    y = winograd.convolution(x, random(4, 3, 3, 3), None, (0, 0))
    assert y[0].isfinite().all()
    assert not y[1, :, 2:5, 2:5].isfinite().any()


# --- where it runs ----------------------------------------------------------------------------------------------------


def test_a_wide_layer_runs_by_it_with_the_numbers_of_torch(results):
    model, x = nn.Sequential(nn.Conv2d(**WIDE, padding=(1, 0))), random(2, 32, 6, 8)
    both(model, x, random(2, 64, 6, 6, seed=1))
    assert results == []  # 6 x 6 cells fill too little of their tiles
    ours, theirs = both(model, x := random(2, 32, 8, 10), random(2, 64, 8, 8, seed=1))
    assert results == [(2, 64, 8, 8)]
    for mine, other in zip((*ours[:2], *ours[2]), (*theirs[:2], *theirs[2]), strict=True):
        near(mine, other.double())


@pytest.mark.parametrize(
    "other",
    [
        {"out_channels": 63},
        {"in_channels": 31, "out_channels": 64},
        {"kernel_size": 5, "padding": 1},
        {"kernel_size": (3, 1), "padding": (1, 0)},
        {"stride": 2},
        {"dilation": 2, "padding": 1},
        {"groups": 2},
        {"padding": 1, "padding_mode": "reflect"},
        {"padding": "same"},
        {"dtype": torch.float64},
    ],
    ids=str,
)
def test_other_layers_are_torchs_to_the_bit(other, results):
    layer = nn.Conv2d(**{**WIDE, **other})
    x = random(2, layer.in_channels, 10, 10, dtype=layer.weight.dtype)
    ours, theirs = both(nn.Sequential(layer), x, random(*layer(x).shape, dtype=x.dtype))
    assert results == []
    assert all(torch.equal(mine, other) for mine, other in zip(ours[:2], theirs[:2], strict=True))


def test_a_network_that_is_only_asked_answers_as_torch_does_to_the_bit(results):
    layer, x = nn.Conv2d(**WIDE), random(2, 32, 10, 10)
    with torch.no_grad(), fused(model := nn.Sequential(layer), CPU):
        y = model(x)
    assert results == []
    assert torch.equal(y, layer(x).detach())


def test_bfloat16_and_one_image_without_batch_are_left_to_torch(results):
    layer, x = nn.Conv2d(**WIDE), random(2, 32, 10, 10)
    model = nn.Sequential(layer)
    with torch.autocast("cpu", torch.bfloat16), fused(model, CPU):
        assert model(x).dtype == torch.bfloat16
    with fused(model, CPU):
        assert model(x[0]).shape == (64, 8, 8)
    layer.bias.data = layer.bias.data.double()
    with pytest.raises(RuntimeError, match="bias"), fused(model, CPU):
        model(x)
    assert results == []


@pytest.mark.parametrize("kind", ["forward", "forward_pre", "full_backward", "full_backward_pre"])
def test_hooks_are_called(kind, results):
    layer, x = nn.Conv2d(**WIDE), random(2, 32, 10, 10).requires_grad_()
    seen = []
    getattr(layer, f"register_{kind}_hook")(lambda *_: seen.append(kind))
    with fused(model := nn.Sequential(layer), CPU):
        model(x).sum().backward()
    assert (results, seen) == ([], [kind])


def test_pruned_weights_and_a_forward_of_somebodys_own_are_respected(results):
    x = random(2, 32, 10, 10)
    pruned, other = nn.Conv2d(**WIDE), nn.Conv2d(**WIDE)
    nn.utils.prune.l1_unstructured(pruned, "weight", 0.5)
    other.forward = lambda x: x
    for _ in range(2):  # the second time with a graph of its own
        with fused(model := nn.Sequential(pruned), CPU):
            model(x).sum().backward()
    with fused(model := nn.Sequential(other), CPU):
        assert model(x) is x
    assert (results, float(pruned.weight_orig.grad[pruned.weight_mask == 0].abs().max())) == ([], 0)


@pytest.mark.parametrize("size", [(1, 1), (2, 2), (1, 9), (9, 2)])
def test_a_kernel_larger_than_the_image_fails_as_in_torch(size):
    model, x = nn.Sequential(nn.Conv2d(**WIDE)), random(1, 32, *size)
    with pytest.raises(RuntimeError, match="Kernel size can't be greater"), fused(model, CPU):
        model(x)


def test_other_channels_than_the_layers_fail_as_in_torch():
    model, x = nn.Sequential(nn.Conv2d(**WIDE)), random(1, 33, 10, 10)
    with pytest.raises(RuntimeError, match=r"expected input.* to have 32 channels"), fused(model, CPU):
        model(x)


@pytest.mark.parametrize(
    ("size", "pays"),
    [
        ((4, 4), True),
        ((5, 5), False),
        ((6, 6), False),
        ((7, 7), True),
        ((13, 13), True),
        ((4, 1), False),
        ((0, 4), False),
    ],
)
def test_it_pays_where_results_fill_their_tiles(size, pays):
    assert winograd.pays(64, 32, size) == winograd.pays(32, 64, size) == pays
    assert not winograd.pays(63, 63, size)


def wide_network():
    torch.manual_seed(0)
    layers = [nn.Conv2d(1, 32, 3), nn.ReLU(), nn.BatchNorm2d(32), nn.MaxPool2d(2), nn.Conv2d(32, 64, 3, padding=1)]
    return nn.Sequential(*layers, nn.BatchNorm2d(64), nn.SiLU(), nn.Conv2d(64, 10, 13), nn.Flatten())


def test_a_wide_network_trains_as_without(results):
    ours = wide_network()
    trained(ours, lambda: fused(ours, CPU))
    assert results == 3 * [(16, 64, 13, 13)]
    theirs = trained(wide_network(), nullcontext)
    start = wide_network().state_dict()
    for name, value in ours.state_dict().items():
        torch.testing.assert_close(value, theirs.state_dict()[name], rtol=1e-3, atol=1e-3)
        assert not torch.equal(value, start[name])


STEP = """
import hashlib
import sys
import torch
from budgetnet import winograd
from budgetnet.machine import set_up

set_up(2)
kept = [bytes(int(size)) for size in sys.argv[1:]]  # so that memory lies otherwise
torch.manual_seed(0)
x, weight = torch.randn(4, 32, 14, 14), torch.randn(64, 32, 3, 3).requires_grad_()
y = winograd.convolution(x, weight, None, (0, 0))
y.sum().backward()
print(*(hashlib.sha256(each.detach().numpy().tobytes()).hexdigest() for each in (y, weight.grad)))
"""


def test_the_same_step_in_another_process_is_the_same_to_the_bit():
    found = {
        subprocess.run([sys.executable, "-c", STEP, *kept], capture_output=True, text=True, check=True).stdout
        for kept in ((), ("16", "100", "12345"))
    }
    assert len(found) == 1


# --- memory that is kept ----------------------------------------------------------------------------------------------

FAULTS = """
import resource
import sys
from budgetnet.machine import keep_freed_memory

kept = sys.argv[1] == "kept" and keep_freed_memory()
for _ in range(3):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    b"x" * 2**26  # 64 MB, above what glibc would keep by its largest threshold
print(kept, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's")
def test_a_large_map_is_not_faulted_in_anew():
    kept, as_is = (
        subprocess.run([sys.executable, "-c", FAULTS, how], capture_output=True, text=True, check=True).stdout.split()
        for how in ("kept", "as it is")
    )
    assert kept[0] == "True"
    assert int(kept[1]) < 4 < int(as_is[1])  # a page may be huge
