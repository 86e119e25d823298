"""A picture that somebody brings, made like the training images: its size, its channels, dark or light ground."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from budgetnet.dataset import one_line
from budgetnet.errors import DataError
from budgetnet.layers import Shape
from budgetnet.readers import open_image

SIDE, DIGIT = 28, 20  # MNIST's digits were scaled to fit a box of 20 × 20 pixels, then centred by mass in 28 × 28
BILINEAR = 2  # PIL's Resampling.BILINEAR
INK = 0.25  # of the brightest pixel: what counts as part of a digit

Grey = np.ndarray[Any, np.dtype[np.float32]]


@dataclass(frozen=True)
class Picture:
    """Pixels, uint8 (C, H, W), and what was done to the file to get them."""

    pixels: Tensor
    notes: tuple[str, ...]


def read_picture(path: Path, shape: Shape, mean: tuple[float, ...], *, digit: bool = False) -> Picture:
    """The file as ``shape`` (C, H, W); light on dark if the training set's ``mean`` is dark, and the other way round.

    digit: prepared as MNIST was, unless it has its size already: cropped to the ink, scaled to 20 pixels, centred.
    Raises DataError when the file is no picture.
    """
    channels, height, width = shape
    if channels not in (1, 3):
        raise DataError(f"{path}: a picture has 1 or 3 channels, but the network wants {channels}")
    with open_image(path) as file:
        image, notes = _opaque(file, path)
    size = f"{image.height} × {image.width} pixels"
    if channels == 3:
        if (image.height, image.width) != (height, width):
            image = image.resize((width, height), resample=BILINEAR)
            notes.append(f"resized from {size}")
        return Picture(
            torch.from_numpy(np.array(image.convert("RGB"), np.uint8).transpose(2, 0, 1).copy()), tuple(notes)
        )
    pixels = np.asarray(image.convert("L"), dtype=np.float32) / np.float32(255)
    if (_ground(pixels) > 0.5) != (mean[0] > 0.5):
        pixels = 1 - pixels
        notes.append(f"inverted: the training images are {'dark on light' if mean[0] > 0.5 else 'light on dark'}")
    if pixels.shape != (height, width):
        pixels = _like_mnist(pixels, height, width) if digit else _resized(pixels, height, width)
        notes.append(f"{'cropped to its ink and centred, as MNIST was,' if digit else 'resized'} from {size}")
    return Picture(torch.from_numpy(np.rint(pixels.clip(0, 1) * 255).astype(np.uint8))[None], tuple(notes))


def _opaque(file: Any, path: Path) -> tuple[Any, list[str]]:
    """The picture without transparency: what is clear shows a white page."""
    from PIL import Image

    try:
        file.load()
        if not file.has_transparency_data:
            return file.copy(), []
        picture = file.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture).convert("RGB"), [
            "laid on white"
        ]
    except (OSError, ValueError, SyntaxError) as error:
        raise DataError(f"{path}: cannot be read as an image: {one_line(error)}") from None


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
    rows, columns = (np.flatnonzero((ink > INK * top).any(axis=axis)) for axis in (1, 0))
    cut = ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] / top
    scale = DIGIT / SIDE * min(height, width) / max(cut.shape)
    small = _resized(cut, *(max(1, round(side * scale)) for side in cut.shape))
    placed = np.zeros((height, width), np.float32)
    first, left = (_place(small.sum(axis=1 - axis), side) for axis, side in enumerate((height, width)))
    placed[first : first + small.shape[0], left : left + small.shape[1]] = small
    return placed


def _place(mass: Grey, side: int) -> int:
    """Where something begins whose centre of mass is to lie in the middle of ``side`` pixels."""
    centre = float((mass * np.arange(len(mass))).sum() / mass.sum())
    return min(max(round((side - 1) / 2 - centre), 0), side - len(mass))
