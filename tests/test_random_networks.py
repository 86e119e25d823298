"""Receptive fields of random branched networks against the oracle: where the input gradient is not zero."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from budgetnet.errors import TraceError
from budgetnet.fields import fields_of
from budgetnet.graph import shapes_of
from budgetnet.trace import trace
from budgetnet.views import Interval

INPUT = (2, 13, 16)
Run = Callable[[nn.Module | None, list[Tensor]], Tensor]


@dataclass(frozen=True)
class Step:
    """An operation on earlier values: how it is run, and the module that it runs, if any."""

    name: str
    inputs: tuple[int, ...]
    run: Run
    module: nn.Module | None = None


class Drawn(nn.Module):
    """Steps one after the other; any may read any value before it. All weights are one."""

    def __init__(self, steps: list[Step]) -> None:
        super().__init__()
        self.steps = steps
        self.layers = nn.ModuleList([step.module or nn.Identity() for step in steps])
        for parameter in self.parameters():
            nn.init.ones_(parameter)

    def forward(self, x: Tensor) -> Tensor:
        values = [x]
        for step, layer in zip(self.steps, self.layers, strict=True):
            values.append(step.run(layer, [values[index] for index in step.inputs]))
        return values[-1]

    def __repr__(self) -> str:
        return " ".join(f"{i + 1}:{s.name}{list(s.inputs)}{s.module or ''}" for i, s in enumerate(self.steps))


# --- drawing ----------------------------------------------------------------------------------------------------------


def conv(draw: st.DrawFn, c: int, h: int, w: int) -> tuple[Run, nn.Module]:
    groups = draw(st.sampled_from([1, c]))
    kernel = (draw(st.integers(1, 3)), draw(st.integers(1, 4)))
    module = nn.Conv2d(
        c,
        groups * draw(st.integers(1, 2)),
        kernel,
        draw(st.integers(1, 2)),
        draw(st.sampled_from([0, 1])),
        draw(st.integers(1, 2)),
        groups,
        padding_mode=draw(st.sampled_from(["zeros", "reflect", "circular", "replicate"])),
    )
    return lambda layer, values: layer(values[0]), module  # type: ignore[misc]


def transposed(draw: st.DrawFn, c: int, h: int, w: int) -> tuple[Run, nn.Module]:
    stride = draw(st.integers(1, 3))
    kernel, cut = draw(st.sampled_from([(2, 0), (3, 1), (4, 1)]))
    more = draw(st.integers(0, stride - 1))
    return lambda layer, values: layer(values[0]), nn.ConvTranspose2d(c, 2, kernel, stride, cut, more)  # type: ignore[misc]


def pool(draw: st.DrawFn, c: int, h: int, w: int) -> tuple[Run, nn.Module]:
    kernel = draw(st.integers(2, 3))
    module = nn.AvgPool2d(kernel, draw(st.integers(1, 3)), draw(st.integers(0, 1)), ceil_mode=draw(st.booleans()))
    return lambda layer, values: layer(values[0]), module  # type: ignore[misc]


def adaptive(draw: st.DrawFn, c: int, h: int, w: int) -> tuple[Run, nn.Module]:
    module = nn.AdaptiveAvgPool2d((draw(st.integers(1, 6)), draw(st.integers(1, 6))))
    return lambda layer, values: layer(values[0]), module  # type: ignore[misc]


def pad(draw: st.DrawFn, c: int, h: int, w: int) -> Run:
    mode = draw(st.sampled_from(["constant", "reflect", "replicate", "circular"]))
    sides = draw(st.tuples(*[st.integers(0, 2)] * 4))
    return lambda _, values: F.pad(values[0], sides, mode)


def resize(draw: st.DrawFn, c: int, h: int, w: int) -> Run:
    mode = draw(st.sampled_from(["nearest", "nearest-exact", "bilinear", "area"]))
    if draw(st.booleans()):
        size = (draw(st.integers(1, 20)), draw(st.integers(1, 20)))
        return lambda _, values: F.interpolate(values[0], size, mode=mode)
    return lambda _, values: F.interpolate(values[0], scale_factor=(2.0, 1.5), mode=mode)


def crop(draw: st.DrawFn, c: int, h: int, w: int) -> Run:
    rows = slice(draw(st.integers(0, h - 1)), None, draw(st.integers(1, 2)))
    columns = slice(None, draw(st.integers(1, w)))
    return lambda _, values: values[0][:, :, rows, columns]


def channels(draw: st.DrawFn, c: int, h: int, w: int) -> Run:
    first = draw(st.integers(0, c - 1))
    if draw(st.booleans()):
        return lambda _, values: values[0][:, first:]
    return lambda _, values: values[0].chunk(2, 1)[0]


def shuffle(draw: st.DrawFn, c: int, h: int, w: int) -> Run:
    groups = draw(st.sampled_from([n for n in range(1, c + 1) if c % n == 0]))

    def run(_: Any, values: list[Tensor]) -> Tensor:
        return values[0].view(-1, groups, c // groups, h, w).transpose(1, 2).reshape(-1, c, h, w)

    return run


def unshuffle(draw: st.DrawFn, c: int, h: int, w: int) -> Run:
    return lambda _, values: F.pixel_unshuffle(values[0][:, :, : h // 2 * 2, : w // 2 * 2], 2)


def turn(draw: st.DrawFn, c: int, h: int, w: int) -> Run:
    if draw(st.booleans()):
        return lambda _, values: values[0].flip(2, -1)
    by = draw(st.integers(-3, 3))
    return lambda _, values: torch.roll(values[0], (by, 1), (-1, 2))


def gate(draw: st.DrawFn, c: int, h: int, w: int) -> Run:
    return lambda _, values: values[0] * values[0].mean((2, 3), keepdim=True)


def stripes(draw: st.DrawFn, c: int, h: int, w: int) -> Run:
    axis = draw(st.sampled_from([2, -1]))
    return lambda _, values: values[0] + values[0].mean(axis, keepdim=True)


def last(draw: st.DrawFn, c: int, h: int, w: int) -> tuple[Run, nn.Module]:
    return lambda layer, values: layer(values[0].permute(0, 2, 3, 1)).permute(0, 3, 1, 2), nn.Linear(c, 3)  # type: ignore[misc]


ALONE = [
    conv,
    conv,
    conv,
    transposed,
    pool,
    adaptive,
    pad,
    resize,
    crop,
    channels,
    shuffle,
    unshuffle,
    turn,
    gate,
    stripes,
    last,
]


@st.composite
def networks(draw: st.DrawFn) -> Drawn:
    steps: list[Step] = []
    values = [torch.ones(1, *INPUT)]
    for _ in range(draw(st.integers(1, 7))):
        step = _joined(draw, values) if draw(st.integers(0, 2)) == 0 else _single(draw, values)
        if step is None:
            continue
        try:
            made = step.run(step.module, [values[index] for index in step.inputs])
        except RuntimeError:  # torch refuses: a map vanishes, or the padding is wider than the map
            continue
        if 0 < made.numel() < 20_000:
            steps.append(step)
            values.append(made.detach())
    return Drawn(steps)


def _single(draw: st.DrawFn, values: list[Tensor]) -> Step:
    index = draw(st.integers(max(0, len(values) - 3), len(values) - 1))
    kind = draw(st.sampled_from(ALONE))
    made = kind(draw, *values[index].shape[1:])
    run, module = made if isinstance(made, tuple) else (made, None)
    return Step(kind.__name__, (index,), run, module)


def _joined(draw: st.DrawFn, values: list[Tensor]) -> Step | None:
    """Two maps of one size: side by side, or added or multiplied where their channels allow it."""
    pairs = [
        (a, b) for a in range(len(values)) for b in range(len(values)) if values[a].shape[2:] == values[b].shape[2:]
    ]
    first, second = draw(st.sampled_from(pairs))
    alike = 1 in (values[first].shape[1], values[second].shape[1]) or values[first].shape == values[second].shape
    runs: dict[str, Run] = {
        "cat": lambda _, values: torch.cat(values, 1),
        "below": lambda _, values: torch.cat(values, 2),
    }
    if alike:
        runs |= {"add": lambda _, values: values[0] + values[1], "mul": lambda _, values: values[0] * values[1]}
    name = draw(st.sampled_from(sorted(runs)))
    return Step(name, (first, second), runs[name])


# --- the oracle -------------------------------------------------------------------------------------------------------


def support(module: nn.Module, cell: tuple[int, ...]) -> list[Interval | None]:
    """First and last pixel, per axis, that the output cell depends on; None where it sees only padding."""
    x = torch.ones(1, *INPUT, dtype=torch.float64, requires_grad=True)
    output = module.double()(x)[(0, slice(None), *cell)].sum()
    if not output.requires_grad:
        return [None] * len(cell)
    (gradient,) = torch.autograd.grad(output, x)
    strength = gradient.abs().sum((0, 1))
    seen = (strength > 1e-12 * strength.max()).nonzero()
    return (
        [(int(axis.min()), int(axis.max())) if len(axis) else None for axis in seen.T]
        if len(seen)
        else [None] * len(cell)
    )


@settings(max_examples=150, deadline=None)
@given(networks())
def test_fields_of_random_networks_are_the_support_of_the_input_gradient(network: Drawn) -> None:
    """Equal – and never smaller where some cell sees only padding: what such a cell would have seen along the other
    axis then still counts where branches join."""
    try:
        graph = trace(network.float(), INPUT)
    except TraceError as error:
        assume("has no layers" not in str(error))
        raise
    fields, shapes = fields_of(graph, INPUT, strict=True), shapes_of(graph, INPUT)
    exact = not any(None in axis.intervals for field in fields for axis in field)
    height, width = shapes[-1][1:]
    for cell in {(0, 0), (height // 2, width // 2), (height - 1, width - 1)}:
        seen = [axis.intervals[index] for axis, index in zip(fields[-1], cell, strict=True)]
        expected = support(network, cell)
        if exact:
            assert seen == expected, (network, cell)
        elif expected[0] is not None:
            assert all(map(holds, seen, expected)), (network, cell, seen, expected)


def holds(outer: Interval | None, inner: Interval | None) -> bool:
    return outer is not None and inner is not None and outer[0] <= inner[0] and inner[1] <= outer[1]
