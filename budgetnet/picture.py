"""A picture that somebody brings, made like the training images: its size, its channels, dark or light ground."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, floor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from budgetnet.errors import DataError
from budgetnet.images import opaque, open_image, upright
from budgetnet.layers import Shape

SIDE, DIGIT = 28, 20  # MNIST's digits were scaled to fit a box of 20 × 20 pixels, then centred by mass in 28 × 28
BILINEAR = 2  # PIL's Resampling.BILINEAR
INK = 0.25  # of the brightest pixel: what counts as part of a digit
MIXED = (0.3, 0.7)  # the mean of training images that have no one ground, such as photographs
COARSE = 64  # cells a side in which a digit is looked for

Grey = np.ndarray[Any, np.dtype[np.float32]]


@dataclass(frozen=True)
class Picture:
    """Pixels, uint8 (C, H, W), and what was done to the file to get them."""

    pixels: Tensor
    notes: tuple[str, ...]


def read_picture(
    path: Path, shape: Shape, mean: tuple[float, ...], *, digit: bool = False, invert: bool = True
) -> Picture:
    """The file as ``shape`` (C, H, W).

    invert: of one channel, make it light on dark where the training set's ``mean`` is dark, or the other way round;
    as it is where the mean is neither.
    digit: prepared as MNIST was, unless it has its size already: cropped to the ink, scaled to 20 pixels, centred.
    Raises DataError when the file is no picture.
    """
    channels, height, width = shape
    if channels not in (1, 3):
        raise DataError(f"{path}: a picture has 1 or 3 channels, but the network wants {channels}")
    with open_image(path) as file:
        image, page = opaque(upright(file))
        image = image.convert("L" if channels == 1 else "RGB")
    notes = [f"laid on {page}"] if page else []
    size = f"{image.height} × {image.width} pixels"
    if channels == 3:
        if (image.height, image.width) != (height, width):
            image = image.resize((width, height), resample=BILINEAR)
            notes.append(f"resized from {size}")
        return Picture(torch.from_numpy(np.array(image).transpose(2, 0, 1).copy()), tuple(notes))
    pixels = np.asarray(image, dtype=np.float32) / np.float32(255)
    if invert and not MIXED[0] <= mean[0] <= MIXED[1] and _light(pixels) != (mean[0] > 0.5):
        pixels = 1 - pixels
        notes.append(f"inverted: the training images are {'dark on light' if mean[0] > 0.5 else 'light on dark'}")
    if pixels.shape != (height, width):
        pixels = _like_mnist(pixels, height, width) if digit else _resized(pixels, height, width)
        notes.append(f"{'cropped to its ink and centred, as MNIST was,' if digit else 'resized'} from {size}")
    return Picture(torch.from_numpy(np.rint(pixels.clip(0, 1) * 255).astype(np.uint8))[None], tuple(notes))


def _light(pixels: Grey) -> bool:
    """Whether the ground of a picture is its light part; a blank one is judged by its own brightness."""
    low, high = float(pixels.min()), float(pixels.max())
    return _ground(pixels) > ((low + high) / 2 if high > low else 0.5)


def _ground(pixels: Grey) -> float:
    """Median of the outermost pixels."""
    return float(np.median(np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])))


def _resized(pixels: Grey, height: int, width: int) -> Grey:
    """Bilinear, averaging where it shrinks, as a folder of training images is resized."""
    from PIL import Image

    return np.asarray(Image.fromarray(pixels).resize((width, height), resample=BILINEAR))


def _like_mnist(pixels: Grey, height: int, width: int) -> Grey:
    """Light ink on dark as MNIST was made: the ink fills a box of 20 in 28, its centre of mass is in the middle."""
    ink = np.clip(pixels - _ground(pixels), 0, None)
    top = float(ink.max())
    if top == 0:
        return _resized(pixels, height, width)
    box = _box(ink)
    cut = ink[box] / top
    scale = DIGIT / SIDE * min(height, width) / max(cut.shape)
    small = _resized(cut, *(max(1, round(side * scale)) for side in cut.shape))
    placed = np.zeros((height, width), np.float32)
    first, left = (_place(small.sum(axis=1 - axis), side) for axis, side in enumerate((height, width)))
    placed[first : first + small.shape[0], left : left + small.shape[1]] = small
    return placed


def _box(ink: Grey) -> tuple[slice, slice]:
    """Where the ink is. Looked for in a coarse copy, so that a speck or noise is no part of it."""
    step = max(1, max(ink.shape) // COARSE)
    coarse = _resized(ink, *(max(1, side // step) for side in ink.shape))
    rows, columns = _extent(coarse)
    down, across = ink.shape[0] / coarse.shape[0], ink.shape[1] / coarse.shape[1]
    top, left = (max(floor((first - 1) * ratio), 0) for first, ratio in ((rows.start, down), (columns.start, across)))
    rows, columns = _extent(ink[top : ceil((rows.stop + 1) * down), left : ceil((columns.stop + 1) * across)])
    return slice(top + rows.start, top + rows.stop), slice(left + columns.start, left + columns.stop)


def _extent(ink: Grey) -> tuple[slice, slice]:
    """The rows and columns that hold ink."""
    found = ink > INK * ink.max()
    rows, columns = (np.flatnonzero(found.any(axis=axis)) for axis in (1, 0))
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)


def _place(mass: Grey, side: int) -> int:
    """Where something begins whose centre of mass is to lie at pixel ``side / 2``, as MNIST's does (14 of 0 … 27)."""
    centre = float((mass * np.arange(len(mass))).sum() / mass.sum())
    return min(max(round(side / 2 - centre), 0), side - len(mass))
