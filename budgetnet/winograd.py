"""Wide 3x3 convolutions on a CPU by Winograd's minimal filtering, F(4x4, 3x3): a quarter of the multiplications.

The map is cut into tiles of 6 x 6 cells that overlap by two. A linear transform of its columns, and then of its rows,
takes each tile, and each kernel, to 36 points a channel. There the convolution is a product of matrices over channels
at each point, and a transform back gives 4 x 4 cells of the result (Lavin and Gray, arXiv 1509.09308, section 4.3).
Gradients come back through the transposed transforms. float32 rounds more than in a direct sum: to about 1e-5 of the
largest result.

The compiled loops at the end take arrays (N, H, W, C) of cells, and (N, down, across, 36, C) of points, tile by tile.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from budgetnet.kernels import Array, compiled
from budgetnet.maps import array, cells

SIDE, TILE = 4, 6  # cells of the result, and of the map, that a tile has along each side
POINTS = TILE * TILE
# Channels on the narrower side and on the wider. With fewer, the transforms cost what the products save.
NARROW, WIDE = 32, 64
LEAST_FILLED = 0.6  # of the cells that tiles give, how many lie in the result
PART = 2**24  # bytes of points that are made at once: some stay in the cache

_LINE = np.array([[6, 0, 0], [-4, -4, -4], [-4, 4, -4], [1, 2, 4], [1, -2, 4], [0, 0, 24]]) / 24
_WEIGHTS_TO_POINTS = torch.from_numpy(np.kron(_LINE, _LINE)).float()  # (36, 9), of a kernel

Padding = tuple[int, int]
Grid = tuple[int, int]  # rows and columns of tiles


def pays(channels: int, kernels: int, size: tuple[int, int]) -> bool:
    """Whether a result (H, W) comes faster this way than from oneDNN; ``tests/benchmarks/training.py`` has the
    figures."""
    down, across = _grid(size)
    if min(size) < 1:
        return False
    filled = size[0] * size[1] / (down * across * SIDE * SIDE)
    return min(channels, kernels) >= NARROW and max(channels, kernels) >= WIDE and filled >= LEAST_FILLED


def convolution(x: Tensor, weight: Tensor, bias: Tensor | None, padding: Padding) -> Tensor:
    """``F.conv2d`` of a map (N, C, H, W) with a weight (K, C, 3, 3), both float32; the result is channels-last."""
    out: Tensor = _Convolution.apply(x, weight, bias, padding)
    return out


def result_size(x: Tensor, padding: Padding) -> tuple[int, int]:
    """Height and width of what a 3x3 convolution makes of a map (N, C, H, W)."""
    return x.shape[2] + 2 * padding[0] - 2, x.shape[3] + 2 * padding[1] - 2


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, padding: Padding) -> Tensor:
        size = (x.shape[0], weight.shape[0], *result_size(x, padding))
        y = torch.empty(size, dtype=torch.float32, memory_format=torch.channels_last)
        offset = np.zeros(weight.shape[0], np.float32) if bias is None else array(bias)
        kernels = _kernel_points(weight)
        grid = _grid(y.shape[2:])
        for source, result in _parts(grid, cells(x), cells(y)):
            points, products = _room(source, grid), _room(result, grid)
            to_points(source, points, *padding)
            torch.bmm(_by_point(points), kernels, out=_by_point(products))
            to_cells(products, result, offset)
        ctx.save_for_backward(x, weight)
        ctx.padding = padding
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        of_x, of_weight, of_bias, _ = ctx.needs_input_grad
        dx = torch.empty_like(x, memory_format=torch.channels_last)
        kernels = _kernel_points(weight).mT.contiguous()
        dkernels = torch.zeros(POINTS, *weight.shape[1::-1], dtype=torch.float32)
        grid = _grid(dy.shape[2:])
        for source, dsource, dresult in _parts(grid, cells(x), cells(dx), cells(dy)):
            points, dproducts = _room(source, grid), _room(dresult, grid)
            to_cells_back(dresult, dproducts)
            if of_weight:
                to_points(source, points, *ctx.padding)
                dkernels.baddbmm_(_by_point(points).mT, _by_point(dproducts))
            if of_x:
                torch.bmm(_by_point(dproducts), kernels, out=_by_point(points))
                to_points_back(points, dsource, *ctx.padding)
        dweight = _product(_WEIGHTS_TO_POINTS.T, dkernels.view(POINTS, -1))
        return (
            dx if of_x else None,
            dweight.view(3, 3, *dkernels.shape[1:]).permute(3, 2, 0, 1) if of_weight else None,
            dy.sum((0, 2, 3)) if of_bias else None,
            None,
        )


def _kernel_points(weight: Tensor) -> Tensor:
    """(36, C, K): at each point the matrix over channels that a weight (K, C, 3, 3) is there."""
    kernels, channels = weight.shape[:2]
    return _product(_WEIGHTS_TO_POINTS, weight.permute(2, 3, 1, 0).reshape(9, -1)).view(POINTS, channels, kernels)


def _product(first: Tensor, second: Tensor) -> Tensor:
    """Of two matrices, in float32 whatever autocast asks for."""
    with torch.autocast("cpu", enabled=False):
        return first @ second


def _grid(size: tuple[int, ...]) -> Grid:
    """Rows and columns of tiles that give a result (H, W)."""
    return -(-size[0] // SIDE), -(-size[1] // SIDE)


def _parts(grid: Grid, *maps: Array) -> Iterator[tuple[Array, ...]]:
    """The maps, a few images at a time: as many as have PART bytes of points."""
    channels = maps[0].shape[3] + maps[-1].shape[3]
    images = max(1, PART // (4 * POINTS * grid[0] * grid[1] * channels))
    for start in range(0, len(maps[0]), images):
        yield tuple(each[start : start + images] for each in maps)


def _room(part: Array, grid: Grid) -> Array:
    """For the points of all tiles of a few images; torch aligns it, on which the last bits of products may depend."""
    room: Array = array(torch.empty(part.shape[0], *grid, POINTS, part.shape[3], dtype=torch.float32))
    return room


def _by_point(points: Array) -> Tensor:
    """(36, tiles, C), a view."""
    return torch.from_numpy(points).view(-1, POINTS, points.shape[-1]).transpose(0, 1)


# --- lines of 6 cells or points, or 4 cells of the result, and all numbers beside them at once: (6 or 4, any length) --


@compiled
def _cells_to_points(a: Array, p: Array) -> None:
    two, four, five = np.float32(2), np.float32(4), np.float32(5)
    for i in range(a.shape[1]):
        even, odd = a[4, i] - four * a[2, i], a[3, i] - four * a[1, i]
        low, high = a[4, i] - a[2, i], two * (a[3, i] - a[1, i])
        p[0, i], p[5, i] = four * a[0, i] - five * a[2, i] + a[4, i], four * a[1, i] - five * a[3, i] + a[5, i]
        p[1, i], p[2, i] = even + odd, even - odd
        p[3, i], p[4, i] = low + high, low - high


@compiled
def _cells_to_points_back(p: Array, a: Array) -> None:
    """The transpose."""
    two, four, five = np.float32(2), np.float32(4), np.float32(5)
    for i in range(a.shape[1]):
        near, far = p[1, i] - p[2, i], two * (p[3, i] - p[4, i])
        nears, fars = p[1, i] + p[2, i], p[3, i] + p[4, i]
        a[0, i], a[1, i] = four * p[0, i], four * (p[5, i] - near) - far
        a[2, i], a[3, i] = -five * p[0, i] - four * nears - fars, near + far - five * p[5, i]
        a[4, i], a[5, i] = p[0, i] + nears + fars, p[5, i]


@compiled
def _points_to_result(p: Array, a: Array) -> None:
    two, four, eight = np.float32(2), np.float32(4), np.float32(8)
    for i in range(a.shape[1]):
        near, far = p[1, i] - p[2, i], p[3, i] - p[4, i]
        nears, fars = p[1, i] + p[2, i], p[3, i] + p[4, i]
        a[0, i], a[1, i] = p[0, i] + nears + fars, near + two * far
        a[2, i], a[3, i] = nears + four * fars, near + eight * far + p[5, i]


@compiled
def _points_to_result_back(a: Array, p: Array) -> None:
    """The transpose."""
    two, four, eight = np.float32(2), np.float32(4), np.float32(8)
    for i in range(a.shape[1]):
        even, odd = a[0, i] + a[2, i], a[1, i] + a[3, i]
        evens, odds = a[0, i] + four * a[2, i], two * a[1, i] + eight * a[3, i]
        p[0, i], p[5, i] = a[0, i], a[3, i]
        p[1, i], p[2, i] = even + odd, even - odd
        p[3, i], p[4, i] = evens + odds, evens - odds


# --- tiles ------------------------------------------------------------------------------------------------------------


@compiled
def _cut(x: Array, top: int, left: int, tile: Array) -> None:
    """Cells of one image (H, W, C) from a place on, which may lie outside; zeros where there are none."""
    for h in range(tile.shape[0]):
        for w in range(tile.shape[1]):
            if 0 <= top + h < x.shape[0] and 0 <= left + w < x.shape[1]:
                for c in range(x.shape[2]):
                    tile[h, w, c] = x[top + h, left + w, c]
            else:
                for c in range(x.shape[2]):
                    tile[h, w, c] = np.float32(0)


@compiled
def to_points(x: Array, points: Array, top: int, left: int) -> None:
    """The points of a map that is padded with so many zeros above and left of it."""
    images, down, across, _, channels = points.shape
    a, b = np.empty((TILE, TILE, channels), np.float32), np.empty((TILE, TILE, channels), np.float32)
    for n in range(images):
        for i in range(down):
            for j in range(across):
                _cut(x[n], i * SIDE - top, j * SIDE - left, a)
                _cells_to_points(a.reshape(TILE, -1), b.reshape(TILE, -1))
                for h in range(TILE):
                    _cells_to_points(b[h], points[n, i, j, TILE * h : TILE * h + TILE])


@compiled
def to_points_back(dpoints: Array, dx: Array, top: int, left: int) -> None:
    """The gradient of the map, of that of its points."""
    images, down, across, _, channels = dpoints.shape
    a, b = np.empty((TILE, TILE, channels), np.float32), np.empty((TILE, TILE, channels), np.float32)
    dx[:] = np.float32(0)
    for n in range(images):
        for i in range(down):
            for j in range(across):
                _cells_to_points_back(dpoints[n, i, j].reshape(TILE, -1), a.reshape(TILE, -1))
                for h in range(TILE):
                    y = i * SIDE + h - top
                    if not 0 <= y < dx.shape[1]:
                        continue
                    _cells_to_points_back(a[h], b[h])
                    for w in range(TILE):
                        z = j * SIDE + w - left
                        if 0 <= z < dx.shape[2]:
                            for c in range(channels):
                                dx[n, y, z, c] += b[h, w, c]


@compiled
def to_cells(products: Array, y: Array, bias: Array) -> None:
    """The result, of the products at its points and a bias (C,)."""
    images, down, across, _, channels = products.shape
    a, b = np.empty((SIDE, TILE, channels), np.float32), np.empty((SIDE, SIDE, channels), np.float32)
    for n in range(images):
        for i in range(down):
            for j in range(across):
                _points_to_result(products[n, i, j].reshape(TILE, -1), a.reshape(SIDE, -1))
                for h in range(min(SIDE, y.shape[1] - i * SIDE)):
                    _points_to_result(a[h], b[h])
                    for w in range(min(SIDE, y.shape[2] - j * SIDE)):
                        for c in range(channels):
                            y[n, i * SIDE + h, j * SIDE + w, c] = b[h, w, c] + bias[c]


@compiled
def to_cells_back(dy: Array, dproducts: Array) -> None:
    """The gradient of the products, of that of the result."""
    images, down, across, _, channels = dproducts.shape
    a, b = np.empty((SIDE, SIDE, channels), np.float32), np.empty((TILE, SIDE, channels), np.float32)
    for n in range(images):
        for i in range(down):
            for j in range(across):
                _cut(dy[n], i * SIDE, j * SIDE, a)
                _points_to_result_back(a.reshape(SIDE, -1), b.reshape(TILE, -1))
                for h in range(TILE):
                    _points_to_result_back(b[h], dproducts[n, i, j, TILE * h : TILE * h + TILE])
