"""Winograd's convolution against torch's in float64, and where it runs and where it must not."""

from __future__ import annotations

import copy
import math
import subprocess
import sys
from contextlib import nullcontext

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from budgetnet import winograd
from budgetnet.fused import fused
from tests.test_fused import CPU, both, passes, random, trained

WIDE = {"in_channels": 32, "out_channels": 64, "kernel_size": 3}
sides = st.integers(1, 13)
paddings = st.tuples(st.integers(0, 3), st.integers(0, 3))


@pytest.fixture
def threads():
    """Sets how many threads torch has; afterwards as before."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


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
    if min(winograd.result_size(x, padding)) < 1:
        return
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


def test_threads_share_the_images_and_change_nothing(threads):
    found = []
    for count in (1, 2, 5):
        threads(count)
        x, w = random(3, 64, 9, 9).requires_grad_(), random(64, 64, 3, 3, seed=1).requires_grad_()
        y = winograd.convolution(x, w, None, (0, 0))
        y.sum().backward()
        found.append((y.detach(), x.grad, w.grad))
    for each in found[1:]:
        for got, wanted in zip(each, found[0], strict=True):
            near(got, wanted.double())


def test_an_error_in_a_thread_comes_out(threads, monkeypatch):
    threads(2)

    def broken(source, target):
        if len(source) and source[0] == 1:
            raise RuntimeError("in the second half")

    with pytest.raises(RuntimeError, match="second half"):
        winograd._in_threads(broken, np.array([0, 1]), np.array([0, 0]))


def test_the_first_layer_needs_no_gradient_of_the_image():
    x, layer = random(2, 3, 8, 8), nn.Conv2d(3, 4, 3)
    winograd.convolution(x, layer.weight, layer.bias, (0, 0)).sum().backward()
    exact = copy.deepcopy(layer).double()
    exact.zero_grad()
    exact(x.double()).sum().backward()
    near(layer.weight.grad, exact.weight.grad)
    assert x.grad is None


@pytest.mark.parametrize("sick", [math.nan, math.inf])
def test_what_is_sick_stays_sick(sick):
    x = random(2, 3, 8, 8)
    x[1, 2, 4, 4] = sick
    y = winograd.convolution(x, random(4, 3, 3, 3), None, (0, 0))
    assert y[0].isfinite().all()
    assert not y[1, :, 2:5, 2:5].isfinite().any()


# --- where it runs ----------------------------------------------------------------------------------------------------


def shapes_with(layer, x, results, **within):
    model = nn.Sequential(layer)
    with torch.autocast("cpu", torch.bfloat16, enabled=within.get("autocast", False)), fused(model, CPU):
        model(x)
    return results


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


def test_bfloat16_one_image_without_batch_and_hooks_are_left_to_torch(results):
    layer, x = nn.Conv2d(**WIDE), random(2, 32, 10, 10)
    model = nn.Sequential(layer)
    with torch.autocast("cpu", torch.bfloat16), fused(model, CPU):
        assert model(x).dtype == torch.bfloat16
    with fused(model, CPU):
        assert model(x[0]).shape == (64, 8, 8)
    seen = []
    layer.register_forward_hook(lambda *_: seen.append(1))
    with fused(model, CPU):
        model(x)
    assert (results, seen) == ([], [1])


def test_a_kernel_larger_than_the_image_fails_as_in_torch():
    model, x = nn.Sequential(nn.Conv2d(**WIDE)), random(1, 32, 2, 2)
    with pytest.raises(RuntimeError, match="Kernel size can't be greater"), fused(model, CPU):
        model(x)


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


def test_the_same_step_again_is_the_same_to_the_bit():
    x, layer = random(4, 32, 14, 14), nn.Conv2d(**WIDE)
    found = []
    for _ in range(2):
        layer.zero_grad()
        y = winograd.convolution(x, layer.weight, layer.bias, (0, 0))
        F.relu(y).sum().backward()
        found.append((y.detach(), layer.weight.grad.clone()))
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))


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


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's")
def test_a_large_map_is_not_faulted_in_anew():
    kept, as_is = (
        subprocess.run([sys.executable, "-c", FAULTS, how], capture_output=True, text=True, check=True).stdout.split()
        for how in ("kept", "as it is")
    )
    assert kept[0] == "True"
    assert int(kept[1]) < 100 < 10_000 < int(as_is[1])
