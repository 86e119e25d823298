"""The CPU path against torch's own layers, its dropout against what chance allows, and what it must leave alone."""

from __future__ import annotations

import copy
import math
import subprocess
import sys
from contextlib import nullcontext

import numpy as np
import pytest
import scipy.stats
import torch
import torch.nn.functional as F
import torch.nn.utils.prune
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import nn

from budgetnet import kernels
from budgetnet.fused import fused
from tests.test_train import network

CPU, META = torch.device("cpu"), torch.device("meta")
NORMS = ("norm_forward", "norm_backward", "norm_eval", "norm_silu_forward", "norm_silu_backward", "norm_silu_eval")
KERNELS = (*NORMS, "silu", "dropout", "max_pool_forward", "max_pool_backward")
BIG = (64, 16, 28, 28)  # 802,816 cells, enough to count
SICK = [math.nan, math.inf, -math.inf]
EXACT = {"rtol": 0, "atol": 0, "equal_nan": True}

every_dtype = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
AFTER = {0: [], 1: [nn.ReLU()], "silu": [nn.SiLU()]}
RELUS = [(0, 0), (0, 1), (1, 0), (1, 1)]
every_relu = pytest.mark.parametrize(("before", "after"), RELUS)
every_norm = pytest.mark.parametrize(("before", "after"), [*RELUS, (0, "silu")])
every_kernel = pytest.mark.parametrize(  # SiLU has one in float32 only
    ("before", "after", "dtype"),
    [*((*relus, dtype) for relus in RELUS for dtype in (torch.float32, torch.bfloat16)), (0, "silu", torch.float32)],
)
layouts = st.sampled_from(["contiguous", "channels_last", "sliced"])
seeds = st.integers(0, 2**31 - 1)


def shapes(at_least=1):
    """(N, C, H, W) with at least so many cells."""
    sides = st.integers(1, 5), st.integers(1, 24), st.integers(1, 9), st.integers(1, 9)
    return st.tuples(*sides).filter(lambda shape: shape[0] * shape[2] * shape[3] >= at_least)


@pytest.fixture
def called(monkeypatch):
    """The names of the kernels that ran, in order."""
    names = []

    def spy(name, kernel):
        return lambda *arguments: (names.append(name), kernel(*arguments))[1]

    for name in KERNELS:
        monkeypatch.setattr(kernels, name, spy(name, getattr(kernels, name)))
    return names


def random(*shape, seed=0, dtype=torch.float32):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def laid_out(x, layout):
    """The same numbers, otherwise in memory; "sliced" is every second column of a wider map."""
    if layout == "sliced":
        return x.repeat_interleave(2, dim=3)[..., ::2]
    return x.contiguous(memory_format=getattr(torch, f"{layout}_format" if layout == "contiguous" else layout))


def norm_layers(before, channels, after, *rest, seed=0, **options):
    """(ReLU) BatchNorm2d (ReLU or SiLU) … with random weights, some of them negative, and random running statistics."""
    norm = nn.BatchNorm2d(channels, **options)
    with torch.no_grad():
        for i, values in enumerate((norm.weight, norm.bias, norm.running_mean, norm.running_var)):
            values.copy_(random(channels, seed=seed + i))
        norm.running_var.abs_().add_(0.1)
    return nn.Sequential(*[nn.ReLU()] * before, norm, *AFTER[after], *rest)


def passes(model, x, dy, within=nullcontext):
    """(output, gradient of the input, gradients of the parameters, buffers) of one pass there and back."""
    model.zero_grad()
    x = x.detach().requires_grad_()
    with within():
        y = model(x)
        y.backward(dy)
    return y.detach(), x.grad, [p.grad for p in model.parameters()], [b.clone() for b in model.buffers()]


def both(model, x, dy):
    """The passes of a model fused, and of a copy that is not."""
    plain = copy.deepcopy(model)
    return passes(model, x, dy, lambda: fused(model, CPU)), passes(plain, x, dy)


def assert_identical(results):
    ours, theirs = results
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, other, **EXACT)


def assert_near(got, wanted, scale):
    """Within 1e-5 of the scale, and for bfloat16 within one rounding step of the value besides."""
    assert got.shape == wanted.shape
    step = 2**-8 if got.dtype == torch.bfloat16 else 0
    excess = (got.double() - wanted).abs() - step * wanted.abs() - 1e-5 * scale
    assert excess.max() <= 0, f"{excess.max().item():.2g} too far"


def fuse(model, x):
    with fused(model, CPU):
        return model(x)


# ReLU, BatchNorm, ReLU


def assert_norm_is_torchs(before, after, x, dy, *, mask=None, rest=(), seed=0, **options):
    """Both passes against torch's layers in float64, whose output is multiplied by the mask."""
    mask = torch.ones(x.shape) if mask is None else mask
    model = norm_layers(before, x.shape[1], after, *rest, seed=seed, **options)
    oracle = copy.deepcopy(model[: 1 + before + len(AFTER[after])]).double()
    norm = copy.deepcopy(oracle[before])
    v = x.double().relu() if before else x.double()
    mean, inverse = v.mean((0, 2, 3)), (v.var((0, 2, 3), correction=0) + norm.eps).rsqrt()
    away = mean - norm.running_mean
    hard = 1 + mean.abs() * inverse + (away * inverse) ** 2  # what float32 can lose by cancellation, (C,)
    with torch.no_grad():
        line = norm(v)
    slope = norm.weight.detach().abs()
    highest = line.abs().amax((0, 2, 3)) + slope
    if after:  # float32 and float64 may differ about the sign of almost nothing
        dy = dy * (line.abs() > 1e-5 * (hard * highest).view(-1, 1, 1))

    want_y, want_dx, want_gradients, want_buffers = passes(oracle, x.double(), dy.double() * mask)
    torch.manual_seed(seed)
    y, dx, (weight, bias), (running_mean, running_var, batches) = passes(model, x, dy, lambda: fused(model, CPU))

    assert (y.dtype, dx.dtype, weight.dtype, bias.dtype) == (x.dtype, x.dtype, torch.float32, torch.float32)
    strength, width = dy.abs().amax((0, 2, 3)) * mask.max(), (v.amax((0, 2, 3)) - v.amin((0, 2, 3))) * inverse
    total = strength * dy.numel() / x.shape[1]
    assert_near(y, want_y * mask, (hard * highest * mask.max()).view(-1, 1, 1))
    assert_near(dx, want_dx, (hard * strength * slope * inverse).view(-1, 1, 1))
    assert_near(weight, want_gradients[0], hard * total * (1 + width))
    assert_near(bias, want_gradients[1], total)
    assert_near(running_mean, want_buffers[0], mean.abs() + away.abs())
    assert_near(running_var, want_buffers[1], want_buffers[1].abs() + inverse**-2 + away**2)
    assert batches == 1


@every_kernel
@given(
    shape=shapes(2),
    layout=layouts,
    back=layouts,
    seed=seeds,
    eps=st.sampled_from([1e-5, 1e-3, 0.1]),
    momentum=st.sampled_from([0.0, 0.01, 0.1, 0.7, 1.0]),
    zeros=st.booleans(),
)
@example(shape=(2, 10, 28, 28), layout="contiguous", back="channels_last", seed=0, eps=1e-5, momentum=0.1, zeros=False)
@example(shape=(2, 1030, 2, 1), layout="contiguous", back="contiguous", seed=0, eps=1e-5, momentum=0.1, zeros=True)
@example(shape=(3, 1, 1, 1), layout="contiguous", back="contiguous", seed=0, eps=1e-5, momentum=0.1, zeros=False)
@example(shape=(1, 1, 1, 2), layout="contiguous", back="contiguous", seed=0, eps=1e-5, momentum=0.1, zeros=False)
def test_norm_is_torchs(before, after, dtype, shape, layout, back, seed, eps, momentum, zeros):
    """The examples are a usual map, one whose cells are longer than a row of the kernels, and the least there are."""
    channels = shape[1]
    spread = 0.5 + random(1, channels, 1, 1, seed=seed + 1).abs()
    x = random(*shape, seed=seed) * spread + random(1, channels, 1, 1, seed=seed + 2)
    x = x.relu() if zeros else x  # where a ReLU, to torch, has no slope
    x, dy = laid_out(x.to(dtype), layout), laid_out(random(*shape, seed=seed + 3, dtype=dtype), back)
    assert_norm_is_torchs(before, after, x, dy, seed=seed, eps=eps, momentum=momentum)


@every_norm
def test_a_mean_far_from_zero_costs_little_once_the_running_mean_has_followed(before, after):
    """Mean 100, standard deviation 1: float32 has seven digits, of which the mean takes two."""
    model = norm_layers(before, 6, after, momentum=0.1)
    for seed in range(100):  # 0.9^100 = 3e-5 of the way is left
        fuse(model, 100 + random(16, 6, 14, 14, seed=seed))
    x, dy = 100 + random(16, 6, 14, 14, seed=100), random(16, 6, 14, 14, seed=101)
    oracle, line = copy.deepcopy(model).double(), copy.deepcopy(model[: 1 + before]).double()(x.double())
    dy = dy * (line.abs() > 0.01) if after else dy
    want_y, want_dx, want_gradients, want_buffers = passes(oracle, x.double(), dy.double())
    y, dx, gradients, buffers = passes(model, x, dy, lambda: fused(model, CPU))
    for got, want in ((y, want_y), (dx, want_dx), *zip(gradients, want_gradients, strict=True)):
        torch.testing.assert_close(got.double(), want, rtol=0, atol=1e-4 * float(want.abs().max()))
    for got, want in zip(buffers, want_buffers, strict=True):
        torch.testing.assert_close(got.double(), want.double(), rtol=1e-5, atol=0)


@every_norm
@pytest.mark.parametrize("mean", [1e2, 1e4, -1e4])
def test_a_mean_far_from_zero_costs_little_in_the_first_batch(before, after, mean):
    """Rounding of the input alone, 2⁻²⁴ of the mean, is what is allowed."""
    model, x = norm_layers(before, 3, after), random(32, 3, 12, 12) + mean
    expected = copy.deepcopy(model).double()(x.double())
    torch.testing.assert_close(fuse(model, x).double(), expected, rtol=0, atol=4 * abs(mean) * 2**-24 + 1e-5)


def test_many_steps_leave_torchs_running_statistics_and_count():
    model = norm_layers(1, 5, 0, momentum=0.3)
    plain = copy.deepcopy(model)
    for seed in range(10):
        x = 2 + random(4, 5, 7, 3, seed=seed)
        fuse(model, x)
        plain(x)
    torch.testing.assert_close(list(model.buffers()), list(plain.buffers()), rtol=1e-5, atol=1e-6)
    assert model[1].num_batches_tracked == 10


def test_training_mode_without_gradients_still_updates_the_statistics():
    model = norm_layers(0, 4, 1)
    plain, x = copy.deepcopy(model), random(3, 4, 5, 5)
    with torch.no_grad():
        torch.testing.assert_close(fuse(model, x), plain(x), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(list(model.buffers()), list(plain.buffers()), rtol=1e-5, atol=1e-6)


def test_a_running_variance_is_never_negative():
    """A constant channel has the variance 0, of which rounding may make a little less."""
    model = nn.Sequential(nn.BatchNorm2d(2, momentum=1.0))
    x = torch.full((32, 2, 20, 20), 100.37)
    fuse(model, x)
    assert model[0].running_var.min() >= 0
    with torch.no_grad():
        assert model.eval()(x).isfinite().all()


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("channels", [3, 4])
def test_a_map_with_other_channels_than_the_norm_is_an_error(channels, training):
    model = nn.Sequential(nn.BatchNorm2d(8)).train(training)
    x = random(2, channels, 4, 4)
    for run in (model, lambda x: fuse(model, x)):
        with torch.no_grad(), pytest.raises((RuntimeError, ValueError), match=r"running_mean|channels"):
            run(x)


# Eval mode


@every_kernel
@given(shape=shapes(), layout=layouts, seed=seeds, eps=st.sampled_from([1e-5, 0.1]))
@example(shape=(1, 1, 1, 1), layout="contiguous", seed=0, eps=1e-5)
@example(shape=(2, 10, 28, 28), layout="contiguous", seed=0, eps=1e-5)
def test_eval_mode_is_torchs(before, after, dtype, shape, layout, seed, eps):
    model = norm_layers(before, shape[1], after, nn.Dropout(0.5), seed=seed, eps=eps).eval()
    x = laid_out(random(*shape, seed=seed, dtype=dtype), layout)
    state = copy.deepcopy(model.state_dict())
    want = copy.deepcopy(model).double()(x.double()).detach()
    norm = model[before]
    slope = (norm.weight.abs() * (norm.running_var + eps).rsqrt()).detach()
    scale = slope * (x.double().abs().max() + norm.running_mean.abs()) + norm.bias.detach().abs()
    for context in (torch.inference_mode, torch.no_grad):
        with context():
            y = fuse(model, x)
        assert y.dtype == dtype
        assert_near(y, want, scale.view(-1, 1, 1))
    torch.testing.assert_close(model.state_dict(), state, **EXACT)


@given(shape=shapes(), layout=layouts, seed=seeds)
def test_silu_behind_a_convolution_is_torchs(shape, layout, seed):
    model = nn.Sequential(nn.Conv2d(shape[1], 6, 1), nn.SiLU())
    x = laid_out(40 * random(*shape, seed=seed), layout)
    with torch.no_grad():
        before = model[0](x)
        y, want = fuse(model, x), F.silu(before.double())
    assert_near(y, want, want.abs().clamp(min=1e-30))
    assert torch.equal(model[0](x), before)


def test_silu_is_torchs_from_end_to_end_of_float32():
    x = torch.cat([torch.linspace(-110, 110, 4099), torch.tensor([*SICK, 0.0, -0.0, 3e38, -3e38])])
    y = x.clone()
    kernels.silu(y.view(2, -1).numpy())
    want = F.silu(x.double())
    for healthy, most in (((x.abs() < 8) & (x != 0), 6e-7), (want.isfinite() & (want.abs() > 1e-35), 5e-6)):
        assert (y - want).div(want)[healthy].abs().max() < most
    assert y[want.abs() <= 1e-35].abs().max() < 1e-34
    torch.testing.assert_close(y[~want.isfinite()], F.silu(x)[~want.isfinite()], **EXACT)


def test_silu_in_bfloat16_is_torchs(called):
    model = nn.Sequential(nn.BatchNorm2d(4), nn.SiLU(), nn.Conv2d(4, 4, 1), nn.SiLU())
    x = random(3, 4, 5, 5, dtype=torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        y = fuse(model, x)
        want = model(x)
    torch.testing.assert_close(y, want, rtol=2**-6, atol=2**-6)
    assert called == ["norm_forward"]


def test_silu_takes_the_place_of_its_map_only_where_nobody_needs_it(called):
    x, dy = (laid_out(random(3, 6, 5, 5, seed=seed), "channels_last") for seed in (0, 1))
    conv = nn.Conv2d(6, 6, 1)
    assert_identical(both(nn.Sequential(conv, nn.SiLU()), x, dy))  # with gradients it is torch's
    kept, before = [], x.clone()
    hooked = nn.Conv2d(6, 6, 1)
    hooked.register_forward_hook(lambda layer, inputs, output: kept.append(output))
    with torch.no_grad():
        for layers in ([nn.SiLU()], [nn.Identity(), nn.SiLU()], [conv, nn.Identity(), nn.SiLU()]):
            fuse(nn.Sequential(*layers), x)
        fuse(nn.Sequential(hooked, nn.SiLU()), x)
        assert torch.equal(kept[0], hooked(x))
        assert torch.equal(x, before)
        assert "silu" not in called
        torch.testing.assert_close(fuse(nn.Sequential(conv, nn.SiLU()), x), F.silu(conv(x)), rtol=1e-5, atol=1e-6)
    assert called == ["silu"]


def test_the_kernels_of_norm_and_silu_ran(called):
    model, x = norm_layers(0, 6, "silu"), random(3, 6, 5, 5)
    passes(model, x, x, lambda: fused(model, CPU))
    assert called == ["norm_silu_forward", "norm_silu_backward"]
    with torch.no_grad():
        fuse(model.eval(), x)
    assert called[2:] == ["norm_silu_eval"]


def test_bfloat16_is_rounded_to_nearest_and_ties_to_even():
    """Half a step of 2^-7 added to each number in [1, 2): torch's own rounding of the exact sum."""
    norm = nn.BatchNorm2d(1, eps=0.0).eval()
    x = (1 + torch.arange(128) / 128).view(1, 1, 8, 16)
    for shift in (2**-8, 2**-8 - 2**-20, 2**-8 + 2**-20):
        nn.init.constant_(norm.bias, shift)
        with torch.no_grad():
            assert torch.equal(fuse(nn.Sequential(norm), x.bfloat16()), (x + shift).bfloat16())


@every_kernel
def test_eval_mode_with_gradients_is_torch_itself(before, after, dtype, called):
    model = norm_layers(before, 6, after, nn.Dropout(0.5)).eval()
    x, dy = random(3, 6, 5, 4, dtype=dtype), random(3, 6, 5, 4, seed=9, dtype=dtype)
    ours, theirs = both(model, x, dy)
    assert_identical((ours, theirs))
    assert ours[1].abs().max() > 0
    assert not called


@pytest.mark.parametrize("frozen", [1, 3])
def test_a_norm_and_a_dropout_in_different_modes_are_left_to_torch(frozen, called):
    model = nn.Sequential(nn.ReLU(), nn.BatchNorm2d(6), nn.ReLU(), nn.Dropout(0.5))
    model[frozen].eval()
    x, dy = random(3, 6, 5, 4), random(3, 6, 5, 4, seed=9)
    torch.manual_seed(0)
    ours = passes(model, x, dy, lambda: fused(model, CPU))
    torch.manual_seed(0)
    model[1].reset_running_stats()
    assert_identical((ours, passes(model, x, dy)))
    assert not called


# Max pooling


@every_dtype
@pytest.mark.parametrize("size", [2, 3])
@given(
    shape=shapes(),
    layout=layouts,
    back=layouts,
    seed=seeds,
    kind=st.sampled_from(["normal", "after ReLU", "small integers", "infinite"]),
)
@example(shape=(1, 1, 1, 1), layout="contiguous", back="contiguous", seed=0, kind="normal")
@example(shape=(2, 3, 6, 5), layout="contiguous", back="channels_last", seed=0, kind="infinite")
def test_max_pooling_is_exactly_torchs(size, dtype, shape, layout, back, seed, kind):
    n, channels, height, width = shape
    x = random(n, channels, height + size - 1, width + size - 1, seed=seed)
    if kind == "after ReLU":
        x = (x - 0.5).relu()
    elif kind == "small integers":
        x = x.round()
    elif kind == "infinite":
        x = torch.where(x.abs() > 0.5, x * math.inf, x)
    dy = random(n, channels, *(side // size for side in x.shape[2:]), seed=seed + 1, dtype=dtype)
    model = nn.Sequential(nn.MaxPool2d(size))
    assert_identical(both(model, laid_out(x.to(dtype), layout), laid_out(dy, back)))


@every_dtype
@pytest.mark.parametrize("size", [2, 3])
def test_the_kernels_of_the_pool_ran(size, dtype, called):
    both(nn.Sequential(nn.MaxPool2d(size)), random(1, 2, 7, 8, dtype=dtype), random(1, 2, 7 // size, 8 // size))
    assert called == ["max_pool_forward", "max_pool_backward"]


@every_dtype
@pytest.mark.parametrize("zeros", [(0.0, -0.0, -1.0, 0.0), (-0.0, 0.0, 0.0, -1.0), (-1.0, -0.0, -0.0, 0.0)])
def test_zeros_of_either_sign_tie(zeros, dtype):
    x = torch.tensor(zeros, dtype=dtype).view(1, 1, 2, 2)
    assert_identical(both(nn.Sequential(nn.MaxPool2d(2)), x, torch.ones(1, 1, 1, 1, dtype=dtype)))


@every_dtype
@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize("place", range(4))
def test_a_nan_comes_out_of_the_pool_wherever_it_stands_in_the_window(place, size, dtype):
    x = random(2, 3, 2 * size, 2 * size, dtype=dtype)
    x[0, 1, place // 2, place % 2] = math.nan
    y, plain = (fuse(nn.Sequential(nn.MaxPool2d(size)), x), F.max_pool2d(x, size))
    assert plain.isnan().sum() == 1
    torch.testing.assert_close(y, plain, **EXACT)


@every_dtype
def test_a_nan_in_the_pool_gets_the_gradient_of_its_window(dtype):
    x = torch.tensor([1, 2, 3, math.nan], dtype=dtype).view(1, 1, 2, 2)
    assert_identical(both(nn.Sequential(nn.MaxPool2d(2)), x, torch.ones(1, 1, 1, 1, dtype=dtype)))


def test_what_follows_a_pool_may_overwrite_its_output():
    model = nn.Sequential(nn.Conv2d(1, 3, 3), nn.MaxPool2d(2), nn.ReLU(inplace=True))
    assert_identical(both(model, random(2, 1, 8, 8), random(2, 3, 3, 3, seed=1)))


def test_what_follows_a_norm_or_dropout_may_overwrite_its_output():
    for rest in ([nn.Hardtanh(-1, 1, inplace=True)], [nn.Dropout(1e-12), nn.ReLU(inplace=True)]):
        model = norm_layers(1, 4, 0, *rest)
        x, dy = random(2, 4, 6, 5), random(2, 4, 6, 5, seed=7)
        ours, theirs = both(model, x, dy)
        for mine, other in zip(ours, theirs, strict=True):
            torch.testing.assert_close(mine, other, rtol=1e-4, atol=1e-5)


# NaN and infinity in the norm


@every_kernel
def test_nan_and_infinities_spread_in_training_as_in_torch(before, after, dtype):
    model = norm_layers(before, 5, after)
    x, dy = random(3, 5, 4, 4, dtype=dtype), random(3, 5, 4, 4, seed=1, dtype=dtype)
    x[0, :3, 1, 2] = torch.tensor(SICK, dtype=dtype)  # channels 3 and 4 stay healthy
    ours, theirs = both(model, x, dy)
    assert theirs[0][:, :2].isnan().all()
    tolerance = {"rtol": 2**-7 if dtype == torch.bfloat16 else 1e-5, "atol": 1e-5, "equal_nan": True}
    torch.testing.assert_close(ours[0], theirs[0], **tolerance)
    torch.testing.assert_close(ours[2][0].isnan(), theirs[2][0].isnan())
    torch.testing.assert_close(ours[3], theirs[3], rtol=1e-4, atol=1e-5, equal_nan=True)


@every_kernel
def test_nan_and_infinities_spread_in_eval_mode_as_in_torch(before, after, dtype):
    model = norm_layers(before, 6, after).eval()
    with torch.no_grad():
        model[before].weight[3:] = torch.tensor([-1.0, 0.0, 1.0])
    x = random(3, 6, 4, 4, dtype=dtype)
    for i, value in enumerate(SICK):
        x[i, :, 1, i] = value
    with torch.no_grad():
        y, plain = fuse(model, x), model(x)
    assert plain.isnan().any()
    assert plain.isinf().any()
    tolerance = {"rtol": 2**-7 if dtype == torch.bfloat16 else 1e-5, "atol": 1e-5, "equal_nan": True}
    torch.testing.assert_close(y, plain, **tolerance)


def test_every_nan_of_bfloat16_stays_one():
    bits = torch.arange(0x7F81, 0x8000, dtype=torch.int32)
    x = torch.cat([bits, bits + 0x8000]).to(torch.uint16).view(torch.bfloat16).view(1, 1, 2, 127)
    assert x.isnan().all()
    with torch.no_grad():
        assert fuse(norm_layers(0, 1, 0).eval(), x).isnan().all()
        assert fuse(norm_layers(1, 1, 1).eval(), x).isnan().all()


# Dropout


def dropper(kind, p, channels=BIG[1]):
    """Layers that give 1 / (1 - p) or 0 for any input: what remains is the mask. Alone, dropout wants ones."""
    norm = nn.BatchNorm2d(channels)
    nn.init.zeros_(norm.weight)
    nn.init.ones_(norm.bias)
    before = {"alone": (), "norm": (norm,), "relu": (nn.ReLU(), norm, nn.ReLU())}[kind]
    return nn.Sequential(*before, nn.Dropout(p))


def kept(kind, p, *, shape=BIG, seed=0, dtype=torch.float32, calls=1):
    """What dropout multiplied the cells of each of several calls by, (N, C, H, W)."""
    model, ones = dropper(kind, p, shape[1]), torch.ones(shape, dtype=dtype)
    torch.manual_seed(seed)
    with torch.no_grad(), fused(model, CPU):
        masks = [model(ones) for _ in range(calls)]
    return masks[0] if calls == 1 else masks


every_dropper = pytest.mark.parametrize("kind", ["alone", "norm", "relu"])
every_p = pytest.mark.parametrize("p", [0.01, 0.05, 0.5, 0.9])


@every_dtype
@every_p
@every_dropper
def test_dropout_drops_p_of_the_cells_and_scales_the_others(kind, p, dtype):
    factors = kept(kind, p, dtype=dtype)
    dropped = (factors == 0).sum().item()
    assert abs(dropped - p * factors.numel()) < 4 * math.sqrt(factors.numel() * p * (1 - p))
    wanted = torch.tensor(1 / (1 - p), dtype=dtype)
    torch.testing.assert_close(factors[factors != 0], wanted.expand(factors.numel() - dropped), rtol=1e-6, atol=0)


@pytest.mark.parametrize(
    ("kind", "names"), [("alone", ["dropout", "dropout"]), ("relu", ["norm_forward", "norm_backward"])]
)
def test_the_kernels_of_dropout_ran(kind, names, called):
    model = dropper(kind, 0.5)
    passes(model, random(2, 16, 4, 4), torch.ones(2, 16, 4, 4), lambda: fused(model, CPU))
    assert called == names


def excess(a, b, p):
    """By how many standard deviations a and b, dropped with probability p each, are dropped together unlike p²."""
    a, b = a.double() - p, b.double() - p
    return ((a * b).sum() / (p * (1 - p) * math.sqrt(a.numel()))).item()


@every_p
@every_dropper
def test_dropped_cells_are_independent(kind, p):
    first, second = ((mask == 0) for mask in kept(kind, p, calls=2))
    flat = first.permute(0, 2, 3, 1).flatten()
    pairs = {
        "beside": (first[..., 1:], first[..., :-1]),
        "below": (first[..., 1:, :], first[..., :-1, :]),
        "diagonal": (first[..., 1:, 1:], first[..., :-1, :-1]),
        "next channel": (first[:, 1:], first[:, :-1]),
        "next image": (first[1:], first[:-1]),
        "after four images": (first[4:], first[:-4]),
        "next call": (first, second),
        "next call and image": (first[1:], second[:-1]),
    }
    for lag in (1, 2, 3, 5, 7, 16, 17, 32, 64, 448, 896, 897, 1024, 12544, 25088, 65536):  # 896: a row of the kernels
        pairs[f"lag {lag}"] = flat[lag:], flat[:-lag]
    far = {name: round(excess(a, b, p), 2) for name, (a, b) in pairs.items() if abs(excess(a, b, p)) > 4}
    assert not far


def test_independence_can_fail():
    """The measure sees a hundredth of the cells that follow their neighbour."""
    chance = torch.rand(BIG, generator=torch.Generator().manual_seed(0))
    mask = chance < 0.5
    assert abs(excess(mask[..., 1:], mask[..., :-1], 0.5)) < 4
    followed = torch.where(chance.roll(1, 0)[..., 1:] < 0.01, mask[..., :-1], mask[..., 1:])
    assert excess(followed, mask[..., :-1], 0.5) > 4


@every_p
@every_dropper
def test_no_column_row_channel_or_image_is_dropped_more_than_the_others(kind, p):
    """Pearson's statistic of the counts; two-sided, for counts can also be too even."""
    cells = (kept(kind, p, seed=1) == 0).permute(0, 2, 3, 1).double()
    lines = cells.reshape(-1, 896)  # a row of the kernels: 56 cells of 16 channels, the most that 1,024 columns hold
    shares = {
        "column": lines.mean(0),
        "row": lines.mean(1),
        "channel": cells.mean((0, 1, 2)),
        "image": cells.mean((1, 2, 3)),
        "height": cells.mean((0, 2, 3)),
        "width": cells.mean((0, 1, 3)),
        "place": cells.mean(0).flatten(),
    }
    for name, share in shares.items():
        each = cells.numel() / share.numel()
        statistic = (((share - p) ** 2).sum() * each / (p * (1 - p))).item()
        likely = scipy.stats.chi2.cdf(statistic, share.numel())
        assert 1e-4 < likely < 1 - 1e-4, f"{name}: {statistic:.0f} of {share.numel()}"


def test_neighbouring_seeds_are_independent_also_a_row_apart():
    masks = [np.empty((1000, 896), np.float32) for _ in range(2)]
    for seed, mask in enumerate(masks):
        kernels.dropout(np.ones_like(mask), mask, 2**31, seed)
    first, second = (torch.from_numpy(mask) == 0 for mask in masks)
    for a, b in ((first, second), (first[1:], second[:-1]), (first[:-1], second[1:]), (first[:, 1:], second[:, :-1])):
        assert abs(excess(a, b, 0.5)) < 4


@every_dropper
def test_the_seed_of_torch_decides_what_is_dropped(kind):
    one, again, other = (kept(kind, 0.5, shape=(4, 16, 9, 7), seed=seed) for seed in (1, 1, 2))
    assert torch.equal(one, again)
    assert 0.4 < (one == other).double().mean() < 0.6
    first, second = kept(kind, 0.5, shape=(4, 16, 9, 7), seed=1, calls=2)
    assert torch.equal(first, one)
    assert 0.4 < (first == second).double().mean() < 0.6


@every_dtype
@given(shape=shapes(2), layout=layouts, back=layouts, seed=seeds)
@settings(max_examples=20)
def test_dropout_alone_multiplies_value_and_gradient_by_the_mask(dtype, shape, layout, back, seed):
    x = laid_out(random(*shape, seed=seed, dtype=dtype).relu(), layout)  # many zeros: a kept zero has a gradient too
    dy = laid_out(random(*shape, seed=seed + 1, dtype=dtype), back)
    mask = kept("alone", 0.3, shape=shape, seed=seed).double()
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Dropout(0.3))
    y, dx, _, _ = passes(model, x, dy, lambda: fused(model, CPU))
    assert (y.dtype, dx.dtype) == (dtype, dtype)
    assert not y[mask == 0].any()
    assert not dx[mask == 0].any()
    assert_near(y, x.double() * mask, 1.0)
    assert_near(dx, dy.double() * mask, 1.0)


@every_dtype
@every_relu
@given(shape=shapes(2), p=st.sampled_from([0.05, 0.5]), seed=seeds)
@settings(max_examples=20)
@example(shape=(2, 10, 28, 28), p=0.1, seed=0)
def test_norm_with_dropout_is_torchs_norm_times_the_mask(before, after, dtype, shape, p, seed):
    x, dy = random(*shape, seed=seed, dtype=dtype), random(*shape, seed=seed + 1, dtype=dtype)
    mask = kept("norm", p, shape=shape, seed=seed).double()
    assert_norm_is_torchs(before, after, x, dy, mask=mask, rest=[nn.Dropout(p)], seed=seed)


@every_dtype
def test_a_kept_cell_that_is_zero_still_has_a_gradient(dtype):
    """With weight 0 and bias 0 all outputs are 0; only the mask, no look at the output, tells what was dropped."""
    shape = 4, 3, 8, 8
    model = nn.Sequential(nn.BatchNorm2d(3), nn.Dropout(0.5))
    nn.init.zeros_(model[0].weight)
    x, dy = random(*shape, dtype=dtype), random(*shape, seed=1, dtype=dtype)
    mask = kept("norm", 0.5, shape=shape, seed=3).double()
    torch.manual_seed(3)
    y, dx, (weight, bias), _ = passes(model, x, dy, lambda: fused(model, CPU))
    assert not y.any()
    assert not dx.any()
    cells = F.batch_norm(x.double(), None, None, training=True)
    torch.testing.assert_close(bias.double(), (dy * mask).sum((0, 2, 3)), rtol=0, atol=1e-4)
    torch.testing.assert_close(weight.double(), (dy * mask * cells).sum((0, 2, 3)), rtol=0, atol=1e-4)
    assert bias.abs().min() > 0.1


@every_dtype
def test_dropout_that_drops_nothing_gives_its_input_back(dtype, called):
    x = random(2, 3, 4, 5, dtype=dtype)
    assert torch.equal(fuse(nn.Sequential(nn.Dropout(0.0)), x), x)
    assert torch.equal(fuse(nn.Sequential(nn.Dropout(0.5)).eval(), x), x)
    assert not called


@every_dtype
@pytest.mark.parametrize("value", SICK)
def test_cells_that_dropout_keeps_stay_nan_and_infinite(value, dtype):
    """Torch multiplies by 0 what it drops, and so has NaN there too; the kernels write 0."""
    shape = 3, 2, 8, 8
    mask = kept("alone", 0.5, shape=shape) > 0
    for layers in (
        [nn.Dropout(0.5)],
        [nn.BatchNorm2d(2), nn.Dropout(0.5)],
        [nn.BatchNorm2d(2), nn.ReLU(), nn.Dropout(0.5)],
    ):
        x = random(*shape, dtype=dtype)
        x[:, 0] = value
        torch.manual_seed(0)
        y = fuse(nn.Sequential(*layers), x)
        wanted = torch.full((int(mask[:, 0].sum()),), value if len(layers) == 1 else math.nan, dtype=dtype)
        torch.testing.assert_close(y[:, 0][mask[:, 0]], wanted, **EXACT)
        assert y[:, 1].isfinite().all()
        assert not y[~mask].any()


def test_dropout_of_everything_is_left_to_torch(called):
    x, dy = random(2, 3, 4, 5), random(2, 3, 4, 5, seed=1)
    assert_identical(both(nn.Sequential(nn.Dropout(1.0)), x, dy))
    assert not called
    y, dx, _, _ = both(norm_layers(0, 3, 1, nn.Dropout(1.0)), x, dy)[0]
    assert not y.any()
    assert not dx.any()


def test_dropout_of_vectors_is_left_to_torch(called):
    y = fuse(nn.Sequential(nn.Dropout(0.5)), torch.ones(1000, 10))
    assert set(y.unique().tolist()) == {0.0, 2.0}
    assert not called


# What is patched, and that it is undone


MET = {
    "relu before": (nn.ReLU(), nn.BatchNorm2d(4)),
    "norm": (nn.BatchNorm2d(4), nn.ReLU()),
    "relu": (nn.BatchNorm2d(4), nn.ReLU()),
    "silu": (nn.BatchNorm2d(4), nn.SiLU()),
    "dropout": (nn.BatchNorm2d(4), nn.Dropout(0.5)),
    "dropout alone": (nn.Dropout(0.5),),
    "pool": (nn.MaxPool2d(2),),
    "strided": (nn.Conv2d(4, 4, 1, stride=2),),
    "grouped": (nn.Conv2d(4, 8, 3, groups=2),),
}


@pytest.mark.parametrize("place", [0, 1])
@pytest.mark.parametrize("layers", MET.values(), ids=MET)
def test_a_layer_with_hooks_or_a_forward_of_its_own_is_called(layers, place):
    layers, x, seen = copy.deepcopy(layers), random(2, 4, 6, 6), []
    layer = layers[min(place, len(layers) - 1)]
    handle = layer.register_forward_hook(lambda *_: seen.append("hook"))
    fuse(nn.Sequential(*layers), x)
    handle.remove()
    fuse(nn.Sequential(*layers), x)
    layer.forward = lambda x: (seen.append("forward"), x)[1]
    fuse(nn.Sequential(*layers), x)
    assert seen == ["hook", "forward"]


def test_a_strided_convolution_trains_with_its_pruned_weights():
    layer, x = nn.Conv2d(4, 4, 1, stride=2), random(2, 4, 6, 6)
    nn.utils.prune.l1_unstructured(layer, "weight", 0.5)
    with torch.no_grad():
        layer.weight_orig.mul_(2)  # as a step of training does, which the mask's hook carries over
    assert torch.equal(fuse(nn.Sequential(layer), x), layer(x))


def patched(model):
    return [name for name, module in model.named_modules() if "forward" in vars(module)]


def test_within_every_plain_sequential_is_patched_and_afterwards_none():
    model = nn.ModuleDict({"a": nn.Sequential(nn.Sequential(nn.BatchNorm2d(3)), nn.ReLU()), "b": nn.Conv2d(1, 1, 1)})
    with fused(model, CPU):
        assert patched(model) == ["a", "a.0"]
    assert patched(model) == []
    assert model.a.forward.__func__ is nn.Sequential.forward


def test_after_an_exception_nothing_stays_patched():
    model = network()
    with pytest.raises(RuntimeError, match="channels"), fused(model, CPU):
        model(random(2, 3, 28, 28))  # an image in colour
    assert patched(model) == []


def test_one_context_inside_another_is_no_error():
    model = network()
    with fused(model, CPU):
        with fused(model, CPU):
            pass
        assert patched(model) == [""], "the outer one is still open"
    assert patched(model) == []


def test_elsewhere_than_on_a_cpu_nothing_is_patched():
    model = network()
    with fused(model, META):
        assert patched(model) == []
    assert patched(model) == []


def test_parameters_and_state_keep_their_names_within():
    model = network(dropout=0.1)
    keys, names = list(model.state_dict()), [name for name, _ in model.named_modules()]
    with fused(model, CPU):
        assert list(model.state_dict()) == keys
        assert [name for name, _ in model.named_modules()] == names


def close_passes(model, x, dy):
    """Ours and torch's passes, which must be close."""
    ours, theirs = both(model, x, dy)
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-4, atol=1e-4)


def test_a_relu_shared_inside_and_outside_a_sequential_stays_a_relu(called):
    class Shared(nn.Module):
        def __init__(self):
            super().__init__()
            self.relu = nn.ReLU()
            layers = nn.BatchNorm2d(4), self.relu, nn.Conv2d(4, 4, 1), self.relu, self.relu, nn.BatchNorm2d(4)
            self.layers = nn.Sequential(self.relu, *layers, self.relu)

        def forward(self, x):
            return self.relu(self.layers(x - 0.5) - 0.5) + self.relu(x)

    close_passes(Shared(), random(3, 4, 5, 6), random(3, 4, 5, 6, seed=1))
    assert called == ["norm_forward", "norm_forward", "norm_backward", "norm_backward"]


def test_a_sequential_used_twice_is_fused_in_both_places(called):
    block = norm_layers(0, 4, 1)
    close_passes(nn.Sequential(block, nn.Conv2d(4, 4, 1), block), random(3, 4, 5, 6), random(3, 4, 5, 6, seed=1))
    assert called.count("norm_forward") == called.count("norm_backward") == 2


def test_nested_sequentials_are_fused_each_by_itself(called):
    inner = nn.Sequential(nn.Conv2d(4, 6, 3), nn.BatchNorm2d(6))
    model = nn.Sequential(nn.ReLU(), inner, nn.ReLU(), nn.Sequential(nn.MaxPool2d(2), nn.Dropout(0.0)))
    close_passes(model, random(3, 4, 8, 8), random(3, 6, 3, 3, seed=1))
    assert called == ["norm_forward", "max_pool_forward", "max_pool_backward", "norm_backward"]


def test_a_subclass_of_sequential_is_fused_unless_it_has_a_forward_of_its_own(called):
    class Twice(nn.Sequential):
        def forward(self, x):
            return super().forward(x) + x

    class Named(nn.Sequential):
        pass

    layers = nn.BatchNorm2d(4), nn.ReLU()
    model = nn.Sequential(Twice(*layers))
    with fused(model, CPU):
        assert patched(model) == [""]
    assert_identical(both(model, random(3, 4, 5, 6), random(3, 4, 5, 6, seed=1)))
    assert not called
    close_passes(Named(*layers), random(3, 4, 5, 6), random(3, 4, 5, 6, seed=1))
    assert called


# What is left to torch


def own_relu():
    class Steep(nn.ReLU):
        def forward(self, x):
            return super().forward(2 * x)

    return nn.Sequential(Steep(), nn.Conv2d(4, 4, 1), Steep())


@pytest.mark.parametrize(
    "layers",
    [
        [nn.BatchNorm2d(4, affine=False), nn.ReLU()],
        [nn.ReLU(), nn.BatchNorm2d(4, track_running_stats=False)],
        [nn.BatchNorm2d(4, momentum=None), nn.ReLU()],
        [nn.InstanceNorm2d(4, affine=True), nn.ReLU()],
        [nn.MaxPool2d(2, stride=1)],
        [nn.MaxPool2d(3, stride=2)],
        [nn.MaxPool2d(2, padding=1)],
        [nn.MaxPool2d(3, ceil_mode=True)],
        [nn.MaxPool2d(2, dilation=2)],
        [nn.MaxPool2d((2, 3))],
        [own_relu()],
    ],
    ids=lambda layers: " ".join(type(layer).__name__ for layer in layers),
)
@every_dtype
def test_other_layers_are_left_to_torch(layers, dtype, called):
    model = copy.deepcopy(nn.Sequential(*layers))
    model.requires_grad_(dtype == torch.float32)
    x = random(3, 4, 7, 8, dtype=dtype)
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
        dy = random(*copy.deepcopy(model)(x).shape, seed=1, dtype=dtype)
        assert_identical(both(model, x, dy))
    assert not called


def test_a_pool_that_returns_indices_is_left_to_torch(called):
    x, pool = random(2, 3, 4, 6), nn.MaxPool2d(2, return_indices=True)
    for ours, theirs in zip(fuse(nn.Sequential(pool), x), pool(x), strict=True):
        assert torch.equal(ours, theirs)
    assert not called


def test_a_pool_larger_than_its_map_is_torchs_error():
    for shape in ((1, 2, 2, 5), (1, 2, 5, 2)):
        with pytest.raises(RuntimeError, match="Output size is too small"):
            fuse(nn.Sequential(nn.MaxPool2d(3)), random(*shape))


def test_a_norm_of_one_cell_is_torchs_error():
    with pytest.raises(ValueError, match="Expected more than 1 value per channel"):
        fuse(nn.Sequential(nn.BatchNorm2d(4)), random(1, 4, 1, 1))


def test_an_empty_batch_is_left_to_torch(called):
    model = nn.Sequential(nn.MaxPool2d(2), nn.Dropout(0.5))
    assert fuse(model, torch.empty(0, 3, 4, 4)).shape == (0, 3, 2, 2)
    assert not called


def test_float64_is_left_to_torch(called):
    model = norm_layers(1, 4, 1, nn.MaxPool2d(2)).double()
    assert_identical(both(model, random(3, 4, 5, 6).double(), random(3, 4, 2, 3, seed=1).double()))
    with torch.inference_mode():
        assert fuse(model.eval(), random(3, 4, 5, 6).double()).dtype == torch.float64
    assert not called


def test_a_model_in_bfloat16_gives_what_torch_gives():
    """Weights in bfloat16: norms and convolutions are torch's, whatever runs the pool."""
    grouped = nn.Conv2d(4, 8, 3, stride=2, groups=4)
    for layers in ([nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2)], [grouped]):
        model = nn.Sequential(*layers).bfloat16()
        x = random(3, 4, 9, 7, dtype=torch.bfloat16)
        dy = torch.ones_like(copy.deepcopy(model)(x))
        for mine, other in zip(*both(model, x, dy), strict=True):
            torch.testing.assert_close(mine, other, rtol=2**-6, atol=2**-6)


def test_vectors_and_unbatched_maps_are_left_to_torch(called):
    vectors = nn.Sequential(nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 3))
    assert_identical(both(vectors, random(5, 6), random(5, 3, seed=1)))
    assert_identical(both(nn.Sequential(nn.ReLU(), nn.MaxPool2d(2)), random(3, 4, 6), random(3, 2, 3, seed=1)))
    assert not called


# Grouped convolutions


def grouped_convolutions():
    return [
        nn.Conv2d(8, 8, 3, stride=2, padding=1, groups=8, bias=False),
        nn.Conv2d(8, 16, 3, groups=8),
        nn.Conv2d(8, 8, 5, groups=8, padding="same"),
        nn.Conv2d(8, 8, 3, groups=2, dilation=2),
    ]


@pytest.mark.parametrize("index", range(4))
@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
def test_slow_grouped_convolutions_stay_in_float32_under_autocast(index, layout):
    """The output is that of float32, rounded once; torch's bfloat16 would round the weights too."""
    layer = grouped_convolutions()[index]
    model, x = nn.Sequential(layer), laid_out(random(3, 8, 11, 9, dtype=torch.bfloat16), layout)
    exact = copy.deepcopy(model)
    dy = random(*exact(x.float()).shape, seed=1, dtype=torch.bfloat16)
    want_y, want_dx, want_gradients, _ = passes(exact, x.float(), dy.float())
    with torch.autocast("cpu", torch.bfloat16):
        y, dx, gradients, _ = passes(model, x, dy, lambda: fused(model, CPU))
    assert (y.dtype, dx.dtype) == (torch.bfloat16, torch.bfloat16)
    assert_near(y, want_y, 1.0)
    assert_near(dx, want_dx, 1.0)
    for got, want in zip(gradients, want_gradients, strict=True):
        assert got.dtype == torch.float32
        assert_near(got, want, 10.0)
        assert got.abs().max() > 0.1


@pytest.mark.parametrize("index", range(4))
@pytest.mark.parametrize("number", [torch.float32, torch.float64])
def test_without_autocast_a_grouped_convolution_is_torchs_to_the_bit(index, number):
    model, x = nn.Sequential(grouped_convolutions()[index], nn.Sigmoid()).to(number), random(3, 8, 11, 9, dtype=number)
    ours, theirs = both(model, x, random(*copy.deepcopy(model)(x).shape, seed=1, dtype=number))
    assert ours[0].dtype == number
    assert_identical((ours, theirs))


@pytest.mark.parametrize("index", range(4))
def test_under_autocast_the_first_layer_makes_bfloat16_of_float32_as_in_torch(index):
    layer, x = grouped_convolutions()[index], random(3, 8, 11, 9)
    with torch.autocast("cpu", torch.bfloat16):
        y, plain = fuse(nn.Sequential(layer), x), layer(x)
    assert y.dtype == plain.dtype == torch.bfloat16
    torch.testing.assert_close(y, plain, rtol=2**-6, atol=2**-6)


def test_a_depthwise_block_under_autocast_is_near_float32():
    torch.manual_seed(0)
    norms = nn.BatchNorm2d(8), nn.BatchNorm2d(8)
    depthwise = nn.Conv2d(8, 8, 3, stride=2, groups=8, bias=False)
    model = nn.Sequential(nn.Conv2d(1, 8, 3), norms[0], nn.ReLU(), depthwise, norms[1])
    exact, x = copy.deepcopy(model), random(8, 1, 14, 14)
    want = exact(x)
    (want**2 / 2).sum().backward()
    with torch.autocast("cpu", torch.bfloat16), fused(model, CPU):
        y = model(x)
    assert y.dtype == torch.bfloat16
    (y.float() ** 2 / 2).sum().backward()
    torch.testing.assert_close(y.float(), want, rtol=0.05, atol=0.05)
    assert all(p.grad is not None and p.grad.dtype == torch.float32 for p in model.parameters())
    assert F.cosine_similarity(model[4].weight.grad, exact[4].weight.grad, 0) > 0.999


# A network


def trained(model, within, autocast=False):
    """The model after three steps of SGD, and whether every parameter had a gradient in all of them."""
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    for step in range(3):
        x, labels = random(16, 1, 28, 28, seed=step), torch.arange(16) % 10
        optimizer.zero_grad()
        with within(), torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            F.cross_entropy(model(x).float(), labels).backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
        optimizer.step()
    return model


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_a_network_trains_as_without(layout, called):
    ours = network().to(memory_format=layout)
    trained(ours, lambda: fused(ours, CPU))
    theirs = trained(network(), nullcontext)
    assert called.count("norm_forward") == called.count("norm_backward") == 9
    assert called.count("max_pool_forward") == called.count("max_pool_backward") == 3
    start = network().state_dict()
    for name, value in ours.state_dict().items():
        torch.testing.assert_close(value, theirs.state_dict()[name], rtol=1e-4, atol=1e-4)
        assert not torch.equal(value, start[name])


def test_a_network_with_dropout_trains_reproducibly_in_bfloat16():
    models = [network(dropout=0.2) for _ in range(3)]
    for model, seed in zip(models, (1, 1, 2), strict=True):
        torch.manual_seed(seed)
        trained(model, lambda model=model: fused(model, CPU), autocast=True)
    first, again, other = (torch.cat([p.flatten() for p in model.parameters()]) for model in models)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_without_a_directory_for_machine_code_the_kernels_compile_all_the_same(monkeypatch):
    compile_ = kernels.numba.njit

    def njit(function, cache=False, **options):
        if cache:
            raise RuntimeError("cannot cache function: no locator available")
        return compile_(function, **options)

    monkeypatch.setattr(kernels.numba, "njit", njit)
    assert kernels.compiled(lambda x: 2 * x)(21) == 42


# --- strided 1x1 convolutions, in which oneDNN crashes: in a process of their own -------------------------------------

POINTS = """
import copy
import torch
from torch import nn
from budgetnet.fused import fused

device = torch.device("cpu")
for channels in range(1, 17):
    for stride, groups in ((2, 1), ((1, 2), 1), (3, 1), (2, channels)):
        layer = nn.Conv2d(channels, 8 * groups, 1, stride, groups=groups)
        wide = copy.deepcopy(layer).double()
        x = torch.randn(64, channels, 26, 26 if groups == 1 else 25)
        dy = torch.randn_like(layer(x))
        results = []
        for each, map in ((nn.Sequential(layer).to(memory_format=torch.channels_last), x), (wide, x.double())):
            map = map.contiguous(memory_format=torch.channels_last if map is x else torch.contiguous_format)
            map.requires_grad_()
            for _ in range(3):  # writing past its memory may go well once
                with fused(each, device):
                    y = each(map)
                each.zero_grad()
                map.grad = None
                y.backward(dy.to(y.dtype))
            results.append([y, map.grad, *(parameter.grad for parameter in each.parameters())])
        for ours, theirs in zip(*results, strict=True):
            torch.testing.assert_close(ours.double(), theirs, rtol=1e-4, atol=1e-4 * float(theirs.detach().abs().max()))
print("all alike")
"""


def test_strided_points_are_torchs_and_do_not_crash():
    done = subprocess.run([sys.executable, "-c", POINTS], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "all alike\n", "")


def test_grouped_strided_points_of_bfloat16_are_computed_in_float32():
    layer = nn.Conv2d(8, 16, 1, stride=2, groups=4)
    x = random(4, 8, 9, 9, dtype=torch.bfloat16).contiguous(memory_format=torch.channels_last)
    with torch.autocast("cpu"), fused(chain := nn.Sequential(layer), CPU):
        y = chain(x)
    assert torch.equal(y, layer(x.float()).bfloat16())
