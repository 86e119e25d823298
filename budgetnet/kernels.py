"""Compiled loops of the CPU path over channels-last maps: ReLU, BatchNorm, ReLU and dropout in one go, or BatchNorm and
SiLU; max pooling.

numba compiles them on first use and keeps the machine code beside this file or in the user's cache directory. What
calls each other stays in one file: numba looks at no other for changes, nor at the options of ``compiled``, and would
run old code. Short vectors go through loops, too: what numba makes of an expression of arrays takes seconds to compile.

A map is an array (rows, length) in which channel ``i % channels`` stands at column ``i``: a row is several cells, so
that the inner loops run over long contiguous stretches even where a cell has ten channels. Its numbers are float32, or
bfloat16 given as uint16; arithmetic is float32, sums over the map end in float64. NaN comes out wherever it goes in and
is not dropped.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numba
import numpy as np
from numba import types
from numba.extending import overload
from numpy.typing import NDArray

Array = NDArray[Any]
NONE: Any = np.int64(0)  # a 0 that numba compiles no version of its own for
Function = TypeVar("Function", bound=Callable[..., Any])


def compiled(function: Function) -> Function:
    """The function as machine code, made on first use and kept. What it calls must be in its own file."""
    options: dict[str, Any] = {"nogil": True, "error_model": "numpy", "fastmath": {"contract"}}
    try:
        return numba.njit(function, cache=True, **options)  # type: ignore[no-any-return]
    except RuntimeError:  # no directory to keep machine code in: compile in every process
        return numba.njit(function, **options)  # type: ignore[no-any-return]


def kept_in() -> str | None:
    """The folder of the machine code; None where every process compiles."""
    found: str | None = norm_forward.stats.cache_path  # type: ignore[attr-defined]
    return found


# --- numbers ----------------------------------------------------------------------------------------------------------


def _number(cell: Any) -> Any:
    """The float32 in a cell of a map."""


def _cell(number: Any, like: Array) -> Any:
    """A float32 as a cell of the map ``like``; bfloat16 rounds to nearest, ties to even."""


@overload(_number, strict=False)
def _number_of(cell: Any) -> Any:
    if cell == types.uint16:
        return lambda cell: np.uint32(np.uint32(cell) << np.uint32(16)).view(np.float32)
    return lambda cell: cell


@overload(_cell, strict=False)
def _cell_of(number: Any, like: Any) -> Any:
    if like.dtype != types.uint16:
        return lambda number, like: np.float32(number)

    def rounded(number: Any, like: Any) -> Any:
        bits = np.float32(number).view(np.uint32)
        return np.uint16((bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16))

    return rounded


@compiled
def _mixed(x: Any) -> Any:
    """Chris Wellons' lowbias32 hash of 32 bits, without its last shift, which the highest bits do not need."""
    x = np.uint32(x ^ (x >> np.uint32(16)))
    x = np.uint32(x * np.uint32(0x7FEB352D))
    x = np.uint32(x ^ (x >> np.uint32(15)))
    return np.uint32(x * np.uint32(0x846CA68B))


@compiled
def _key(seed: int, row: int) -> Any:
    return _mixed(np.uint32(_mixed(np.uint32(row)) + np.uint32(seed)))


@compiled
def _survives(key: Any, column: Any, dropped: int) -> Any:
    """Whether dropout leaves the cell of a row with this key, in a column with this number of its lane."""
    return _mixed(np.uint32(key + column)) >= np.uint32(dropped)


@compiled
def _gain(dropped: int) -> float:
    """What makes up for the cells that are dropped."""
    return 1 / (1 - dropped / 2.0**32)


@compiled
def _lane(length: int) -> Array:
    """What sets the columns of a row apart: multiples of 2³² over the golden ratio."""
    lane = np.empty(length, np.uint32)
    for i in range(length):
        lane[i] = np.uint32(i) * np.uint32(0x9E3779B9)
    return lane


@compiled
def _tiled(values: Array, length: int) -> Array:
    tiled = np.empty(length, np.float32)
    for i in range(length):
        tiled[i] = values[i % values.size]
    return tiled


@compiled
def _folded(row: Array, channels: int) -> Array:
    """Sums of the columns of each channel."""
    sums = np.zeros(channels, np.float64)
    for i in range(row.size):
        sums[i % channels] += row[i]
    return sums


# --- ReLU, BatchNorm, ReLU, dropout -----------------------------------------------------------------------------------


@compiled
def _middle(row: Array, floor: Any, channels: int) -> Array:
    """The mean of each channel in one row, 0 where that is not finite."""
    values = np.empty(row.size, np.float32)
    for i in range(row.size):
        v = _number(row[i])
        values[i] = floor if v < floor else v
    means = _folded(values, channels)
    for c in range(channels):
        middle = means[c] / (row.size // channels)
        means[c] = middle if np.isfinite(middle) else 0.0
    return means


@compiled
def norm_forward(
    x: Array, y: Array, weight: Array, bias: Array, running_mean: Array, running_var: Array,
    momentum: float, epsilon: float, before: float, after: float, dropped: int, seed: int,
) -> tuple[Array, Array]:  # fmt: skip
    """``y = dropout(max(batch_norm(max(x, before)), after))`` in training mode; (mean, 1 / standard deviation), (C,).

    ``before`` and ``after`` are 0 for a ReLU and -inf for none; ``dropped`` is 2³² times the probability. The running
    statistics are drawn along as torch does it, with the unbiased variance.
    """
    mean, inverse = _statistics(x, running_mean, running_var, momentum, epsilon, before)
    _norm_apply(x, y, mean, inverse, weight, bias, before, after, dropped, seed)
    return mean, inverse


@compiled
def _statistics(
    x: Array, running_mean: Array, running_var: Array, momentum: float, epsilon: float, before: float
) -> tuple[Array, Array]:
    """(mean, 1 / standard deviation) of ``max(x, before)``, (C,); the running statistics are drawn along."""
    rows, length = x.shape
    channels = running_mean.size
    count = rows * length // channels
    floor = np.float32(before)
    pivot = _tiled(_middle(x[0], floor, channels), length)  # sums about a number near the mean do not cancel
    sums, squares = np.zeros(length, np.float32), np.zeros(length, np.float32)
    for r in range(rows):
        for i in range(length):
            v = _number(x[r, i])
            v = (floor if v < floor else v) - pivot[i]
            sums[i] += v
            squares[i] += v * v
    mean, inverse = _folded(sums, channels), _folded(squares, channels)
    for c in range(channels):
        offset = mean[c] / count
        variance = inverse[c] / count - offset * offset
        variance = 0.0 if variance < 0.0 else variance
        mean[c] = offset + pivot[c]
        inverse[c] = 1 / np.sqrt(variance + epsilon)
        running_mean[c] += momentum * (mean[c] - running_mean[c])
        running_var[c] += momentum * (variance * count / (count - 1) - running_var[c])
    return mean, inverse


@compiled
def _norm_apply(
    x: Array, y: Array, mean: Array, inverse: Array, weight: Array, bias: Array,
    before: float, after: float, dropped: int, seed: int,
) -> None:  # fmt: skip
    rows, length = x.shape
    low, high = np.float32(before), np.float32(after)
    scale, shift = _line(mean, inverse, weight, bias, dropped, length)
    lane = _lane(length)
    for r in range(rows):
        if dropped == 0:
            for i in range(length):
                v = _number(x[r, i])
                v = (low if v < low else v) * scale[i] + shift[i]
                y[r, i] = _cell(high if v < high else v, y)
        else:
            key = _key(seed, r)
            for i in range(length):
                v = _number(x[r, i])
                v = (low if v < low else v) * scale[i] + shift[i]
                v = high if v < high else v
                y[r, i] = _cell(v if _survives(key, lane[i], dropped) else np.float32(0), y)


@compiled
def _line(mean: Array, inverse: Array, weight: Array, bias: Array, dropped: int, length: int) -> tuple[Array, Array]:
    """Scale and shift of every column, with the factor that makes up for dropout."""
    kept = _gain(dropped)
    scale, shift = np.empty(length, np.float32), np.empty(length, np.float32)
    for i in range(length):
        c = i % weight.size
        slope = weight[c] * inverse[c] * kept
        scale[i], shift[i] = slope, bias[c] * kept - mean[c] * slope
    return scale, shift


@compiled
def norm_backward(
    x: Array, dy: Array, dx: Array, weight: Array, bias: Array, mean: Array, inverse: Array,
    before: float, after: float, dropped: int, seed: int,
) -> tuple[Array, Array]:  # fmt: skip
    """Fill ``dx`` and return the gradients of weight and bias, (C,); arguments as norm_forward got and gave them."""
    rows, length = x.shape
    low, high = np.float32(before), np.float32(after)
    scale, shift = _line(mean, inverse, weight, bias, dropped, length)
    middle = _tiled(mean, length)
    lane = _lane(length)
    sums, products = np.zeros(length, np.float32), np.zeros(length, np.float32)
    for r in range(rows):  # dx holds, for now, the gradient behind dropout and ReLU
        if dropped == 0:
            for i in range(length):
                v = _number(x[r, i])
                v = low if v < low else v
                d = _number(dy[r, i]) if v * scale[i] + shift[i] > high else np.float32(0)
                dx[r, i] = _cell(d, dx)
                sums[i] += d
                products[i] += d * (v - middle[i])
        else:
            key = _key(seed, r)
            for i in range(length):
                v = _number(x[r, i])
                v = low if v < low else v
                alive = _survives(key, lane[i], dropped)
                d = _number(dy[r, i]) if (v * scale[i] + shift[i] > high) & alive else np.float32(0)
                dx[r, i] = _cell(d, dx)
                sums[i] += d
                products[i] += d * (v - middle[i])
    return _through_norm(x, dx, weight, mean, inverse, before, _gain(dropped), sums, products)


@compiled
def _through_norm(
    x: Array, dx: Array, weight: Array, mean: Array, inverse: Array,
    before: float, kept: float, sums: Array, products: Array,
) -> tuple[Array, Array]:  # fmt: skip
    """From the gradient behind the norm, in ``dx``, and its sums over columns, alone and times ``x - mean``."""
    rows, length = x.shape
    channels = weight.size
    count = rows * length // channels
    low = np.float32(before)
    bias_gradient, weight_gradient = np.empty(channels, np.float32), np.empty(channels, np.float32)
    slopes, alongs, rests = np.empty(channels), np.empty(channels), np.empty(channels)
    totals, scaled = _folded(sums, channels), _folded(products, channels)
    for k in range(channels):
        to_bias, to_weight = totals[k] * kept, scaled[k] * inverse[k] * kept
        slope = weight[k] * inverse[k]
        along = -slope * inverse[k] * to_weight / count
        slopes[k], alongs[k], rests[k] = slope * kept, along, -slope * to_bias / count - along * mean[k]
        bias_gradient[k], weight_gradient[k] = to_bias, to_weight
    a, b, c = _tiled(slopes, length), _tiled(alongs, length), _tiled(rests, length)
    for r in range(rows):
        for i in range(length):
            v = _number(x[r, i])
            g = a[i] * _number(dx[r, i]) + b[i] * v + c[i]
            dx[r, i] = _cell(g if v > low else np.float32(0), dx)
    return weight_gradient, bias_gradient


@compiled
def norm_eval(
    x: Array, y: Array, weight: Array, bias: Array, running_mean: Array, running_var: Array,
    epsilon: float, before: float, after: float,
) -> None:  # fmt: skip
    """``y = max(batch_norm(max(x, before)), after)`` with the running statistics."""
    mean, inverse = _kept(running_mean, running_var, epsilon)
    _norm_apply(x, y, mean, inverse, weight, bias, before, after, NONE, NONE)


@compiled
def _kept(running_mean: Array, running_var: Array, epsilon: float) -> tuple[Array, Array]:
    """(mean, 1 / standard deviation) from the running statistics, (C,)."""
    mean, inverse = np.empty(running_mean.size), np.empty(running_mean.size)
    for c in range(running_mean.size):
        mean[c], inverse[c] = running_mean[c], 1 / np.sqrt(running_var[c] + epsilon)
    return mean, inverse


# --- BatchNorm, SiLU: float32 only ------------------------------------------------------------------------------------


@numba.njit(inline="always")
def _sigmoid(v: Any) -> Any:
    """To a few units in the last place, down to 5e-6 of it far below 0 (where it is 1e-30).

    2^t by Taylor's polynomial about the nearest integer, which becomes the exponent.
    """
    t = v * np.float32(-1.4426950408889634)
    t = np.float32(-126) if t < np.float32(-126) else t
    t = np.float32(128) if t > np.float32(128) else t  # 2^128 is infinite, as is exp of so much
    shifted = np.float32(t + np.float32(12582912))  # 1.5 · 2²³: its last bits are the integer
    f = t - (shifted - np.float32(12582912))
    p = np.float32(1.5403530e-4)
    p = p * f + np.float32(1.3333558e-3)
    p = p * f + np.float32(9.6181291e-3)
    p = p * f + np.float32(5.5504109e-2)
    p = p * f + np.float32(2.4022651e-1)
    p = p * f + np.float32(6.9314718e-1)
    p = np.float32(p * f + np.float32(1))
    power = np.uint32(p.view(np.uint32) + np.uint32(shifted.view(np.uint32) << np.uint32(23))).view(np.float32)
    return np.float32(1) / (np.float32(1) + power)


@compiled
def norm_silu_forward(
    x: Array, y: Array, weight: Array, bias: Array, running_mean: Array, running_var: Array,
    momentum: float, epsilon: float,
) -> tuple[Array, Array]:  # fmt: skip
    """``y = silu(batch_norm(x))`` in training mode; otherwise as norm_forward."""
    mean, inverse = _statistics(x, running_mean, running_var, momentum, epsilon, -np.inf)
    _silu_apply(x, y, mean, inverse, weight, bias)
    return mean, inverse


@compiled
def _silu_apply(x: Array, y: Array, mean: Array, inverse: Array, weight: Array, bias: Array) -> None:
    rows, length = x.shape
    scale, shift = _line(mean, inverse, weight, bias, NONE, length)
    for r in range(rows):
        for i in range(length):
            v = x[r, i] * scale[i] + shift[i]
            y[r, i] = v * _sigmoid(v)


@compiled
def norm_silu_backward(
    x: Array, dy: Array, dx: Array, weight: Array, bias: Array, mean: Array, inverse: Array
) -> tuple[Array, Array]:
    """Fill ``dx`` and return the gradients of weight and bias, (C,); arguments as in norm_silu_forward."""
    rows, length = x.shape
    scale, shift = _line(mean, inverse, weight, bias, NONE, length)
    middle = _tiled(mean, length)
    sums, products = np.zeros(length, np.float32), np.zeros(length, np.float32)
    for r in range(rows):  # dx holds, for now, the gradient behind SiLU
        for i in range(length):
            v = x[r, i]
            normed = v * scale[i] + shift[i]
            s = _sigmoid(normed)
            d = dy[r, i] * s * (np.float32(1) + normed * (np.float32(1) - s))
            dx[r, i] = d
            sums[i] += d
            products[i] += d * (v - middle[i])
    return _through_norm(x, dx, weight, mean, inverse, -np.inf, 1.0, sums, products)


@compiled
def norm_silu_eval(
    x: Array, y: Array, weight: Array, bias: Array, running_mean: Array, running_var: Array, epsilon: float
) -> None:
    """``y = silu(batch_norm(x))`` with the running statistics."""
    mean, inverse = _kept(running_mean, running_var, epsilon)
    _silu_apply(x, y, mean, inverse, weight, bias)


@compiled
def silu(x: Array) -> None:
    """``x = silu(x)``. Given the place of the result besides, as the same array, the compiler would use no vectors."""
    rows, length = x.shape
    for r in range(rows):
        for i in range(length):
            x[r, i] = x[r, i] * _sigmoid(x[r, i])


# --- dropout alone, max pooling ---------------------------------------------------------------------------------------


@compiled
def dropout(x: Array, y: Array, dropped: int, seed: int) -> None:
    """Inverted dropout with probability ``dropped / 2³²``; the same seed drops the same cells again."""
    rows, length = x.shape
    kept = np.float32(_gain(dropped))
    lane = _lane(length)
    for r in range(rows):
        key = _key(seed, r)
        for i in range(length):
            alive = _survives(key, lane[i], dropped)
            y[r, i] = _cell(_number(x[r, i]) * kept if alive else np.float32(0), y)


@numba.njit(inline="always")
def _beats(cell: Any, best: Any) -> Any:
    """Whether a cell is the maximum from here on; NaN always is, as in torch."""
    return (cell > best) | (cell != cell)


@numba.njit(inline="always")
def _maxima(x: Array, y: Array, size: int) -> None:
    images, height, width, channels = y.shape
    for n in range(images):
        for h in range(height):
            for w in range(width):
                for c in range(channels):
                    best = x[n, h * size, w * size, c]
                    for i in range(size):
                        for j in range(size):
                            cell = x[n, h * size + i, w * size + j, c]
                            best = cell if _beats(_number(cell), _number(best)) else best
                    y[n, h, w, c] = best


@numba.njit(inline="always")
def _handed_back(x: Array, y: Array, dy: Array, dx: Array, size: int) -> None:
    images, height, width, channels = y.shape
    nothing = dy.dtype.type(0)
    for n in range(images):
        for h in range(height):
            for w in range(width):
                for c in range(channels):
                    rest = dy[n, h, w, c]
                    for i in range(size):
                        for j in range(size):
                            cell = x[n, h * size + i, w * size + j, c]
                            hit = (cell == y[n, h, w, c]) | (cell != cell)
                            dx[n, h * size + i, w * size + j, c] = rest if hit else nothing
                            rest = nothing if hit else rest


@compiled
def max_pool_forward(x: Array, y: Array, size: int) -> None:
    """Maxima over windows of ``size`` × ``size`` side by side; x (N, H, W, C), y (N, H // size, W // size, C)."""
    if size == 2:  # a constant that the compiler unrolls the loops for: four times as fast
        _maxima(x, y, 2)
    else:
        _maxima(x, y, size)


@compiled
def max_pool_backward(x: Array, y: Array, dy: Array, dx: Array, size: int) -> None:
    """Hand the gradient to the first cell of each window that is its maximum, or NaN."""
    if y.shape[1] * size != x.shape[1] or y.shape[2] * size != x.shape[2]:
        dx[:] = 0  # rows and columns that no window has
    if size == 2:
        _handed_back(x, y, dy, dx, 2)
    else:
        _handed_back(x, y, dy, dx, size)
