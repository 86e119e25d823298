"""Pictures of any size made one array: opened as they were taken, brought to one shape, and what was done is said."""

from __future__ import annotations

import os
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from budgetnet.dataset import DataSet, Split, checked_split, described, holdout_indices, times
from budgetnet.errors import DataError, one_line
from budgetnet.layers import Shape

ORIENTATION = 0x0112  # the EXIF tag
GRAY_MODES = {"1", "L", "LA", "I", "I;16", "I;16B", "I;16L", "I;16N", "F"}
BILINEAR = 2  # PIL's Resampling.BILINEAR, which averages where it shrinks
LARGEST = 96  # pixels of the longer side, where nobody says the size

Size = tuple[int, int]  # height, width


@dataclass(frozen=True)
class Pictures:
    """Labelled pictures, opened one by one: ``opened(i)`` gives the i-th as PIL knows it, ``named(i)`` where it is."""

    place: str
    labels: tuple[int, ...]
    opened: Callable[[int], AbstractContextManager[Any]]
    named: Callable[[int], str]

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices: Sequence[int]) -> Pictures:
        """The pictures at ``indices``, in that order."""
        return Pictures(
            self.place,
            tuple(self.labels[index] for index in indices),
            lambda i: self.opened(indices[i]),
            lambda i: self.named(indices[i]),
        )

    @staticmethod
    def of_files(place: str, files: Sequence[tuple[Path, int]]) -> Pictures:
        """From paths and labels."""
        labels = tuple(label for _, label in files)
        return Pictures(place, labels, lambda i: open_image(files[i][0]), lambda i: str(files[i][0]))

    @staticmethod
    def joined(parts: Sequence[Pictures]) -> Pictures:
        """Several, one after the other."""
        if len(parts) == 1:
            return parts[0]
        where = [(part, index) for part in parts for index in range(len(part))]
        return Pictures(
            parts[0].place,
            tuple(label for part in parts for label in part.labels),
            lambda i: where[i][0].opened(where[i][1]),
            lambda i: where[i][0].named(where[i][1]),
        )


def from_pictures(
    name: str,
    training: Pictures,
    test: Callable[[], Pictures] | None,
    image_shape: Shape | None,
    class_names: tuple[str, ...] = (),
    notes: tuple[str, ...] = (),
) -> DataSet:
    """A data set of pictures, all as ``image_shape`` (C, H, W), by default as ``common_shape`` finds; those of the test
    part, by default a fixed sixth, stay shut until they are asked for. Raises DataError."""
    if test is None:
        held = holdout_indices(torch.tensor(training.labels, dtype=torch.int64)).tolist()
        shut = training.take(held)
        rest = training.take(sorted(set(range(len(training))) - set(held)))
        return from_pictures(name, rest, lambda: shut, image_shape, class_names, notes)
    shape = tuple(image_shape) if image_shape is not None else common_shape(training)
    split, told = _as_split(training, shape)
    return described(
        name,
        lambda: split,
        cache(lambda: _as_split(test(), shape)[0]),
        class_names=class_names,
        notes=tuple(f"{name}: {note}" for note in (*notes, *told)),
    )


def common_shape(pictures: Pictures) -> Shape:
    """The commonest size, made smaller in proportion where a side is longer than LARGEST; one channel if every picture
    is grayscale, else three. Reads headers, as far as the pictures are files."""
    sizes: Counter[Size] = Counter()
    gray = True
    for index in range(len(pictures)):
        with pictures.opened(index) as image:
            sizes[_size(image)] += 1
            gray = gray and image.mode in GRAY_MODES
    commonest = max(sizes, key=lambda size: (sizes[size], size))
    factor = min(1.0, LARGEST / max(commonest))
    height, width = (max(1, round(side * factor)) for side in commonest)
    return (1 if gray else 3), height, width


def _size(image: Any) -> Size:
    """Height and width as a viewer shows it."""
    turned = _orientation(image) in (5, 6, 7, 8)  # on its side
    return (image.width, image.height) if turned else (image.height, image.width)


def _orientation(image: Any) -> Any:
    """As the EXIF says; None where that is damaged, for it is the pixels that count."""
    try:
        return image.getexif().get(ORIENTATION)
    except Exception:  # Pillow raises whatever its parser met
        return None


def _as_split(pictures: Pictures, shape: Shape) -> tuple[Split, tuple[str, ...]]:
    """The pictures as an array, and what is to be said of how they were made alike."""
    if shape[0] not in (1, 3):
        first = pictures.named(0) if len(pictures) else pictures.place
        raise DataError(f"{first}: images of a folder must have 1 or 3 channels, but {shape[0]} were asked for")
    _check_room(len(pictures), shape, pictures.place)
    images = torch.empty((len(pictures), *shape), dtype=torch.uint8)
    sizes: Counter[Size] = Counter()
    clear = 0
    for index in range(len(pictures)):
        with pictures.opened(index) as image:
            sizes[_size(image)] += 1
            visible, page = opaque(upright(image))
            clear += page is not None
            images[index] = _pixels(visible, shape)
    split = checked_split(images, torch.tensor(pictures.labels, dtype=torch.int64), pictures.place)
    return split, (*_resizing(sizes, shape[1:]), *_transparency(clear, len(pictures)))


def _pixels(image: Any, shape: Shape) -> Tensor:
    """One image as (C, H, W), resized bilinearly where its size differs."""
    converted = image.convert("L" if shape[0] == 1 else "RGB")
    if (converted.height, converted.width) != shape[1:]:
        converted = converted.resize((shape[2], shape[1]), resample=BILINEAR)
    return torch.from_numpy(np.array(converted, np.uint8).reshape(shape[1], shape[2], shape[0]).transpose(2, 0, 1))


def _check_room(count: int, shape: Shape, place: str) -> None:
    """Raise DataError where the images need more than half of the memory: a search copies its part of them."""
    need = count * int(np.prod(shape))
    try:
        have = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # a system that does not tell
        return
    if 2 * need > have:
        raise DataError(
            f"{place}: {count:,} images of {times(shape)} take {need / 2**30:,.1f} GB, which must be at most half of "
            f"this machine's {have / 2**30:,.1f} GB; write a smaller input in the space, or bring fewer images"
        )


def _resizing(sizes: Counter[Size], wanted: Sequence[int]) -> tuple[str, ...]:
    """What is to be said of the sizes: nothing where all are as they should be."""
    others = sorted((size for size in sizes if size != tuple(wanted)), key=lambda size: (size[0] * size[1], size))
    if not others:
        return ()
    resized = sum(sizes[size] for size in others)
    ends = " … ".join(f"{height}×{width}" for height, width in dict.fromkeys((others[0], others[-1])))
    return (
        f"{resized:,} of {sizes.total():,} training images were resized from {ends} "
        f"to {times(wanted)} pixels (height × width)",
    )


def _transparency(clear: int, count: int) -> tuple[str, ...]:
    """What is to be said of transparent pictures."""
    if not clear:
        return ()
    return (f"{clear:,} of {count:,} training images are transparent: dark ink was laid on white, light ink on black",)


@contextmanager
def open_image(path: Path) -> Iterator[Any]:
    """A PIL image, closed at the end. Raises DataError for what is no picture, or too large to be one."""
    from PIL import Image

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's remarks on damaged metadata
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            with Image.open(path) as image:
                yield image
        except (
            OSError,
            ValueError,
            SyntaxError,
            Image.DecompressionBombError,
            Image.DecompressionBombWarning,
        ) as error:
            reason = getattr(error, "strerror", None) or one_line(error)
            raise DataError(f"{path}: cannot be read as an image: {reason}") from error


_TURNS = {
    2: "FLIP_LEFT_RIGHT",
    3: "ROTATE_180",
    4: "FLIP_TOP_BOTTOM",
    5: "TRANSPOSE",
    6: "ROTATE_270",
    7: "TRANSVERSE",
    8: "ROTATE_90",
}
"""EXIF's orientation → how it is undone. Pillow's exif_transpose also writes the EXIF anew, and fails on odd tags."""


def upright(image: Any) -> Any:
    """The picture as it was taken: turned as its EXIF says, and with 8 bits a channel, which keep the whole range."""
    from PIL import Image

    image.load()
    turn = _TURNS.get(_orientation(image))
    if turn is not None:
        image = image.transpose(Image.Transpose[turn])
    if image.mode[0] not in "IF":
        return image
    values = np.asarray(image, np.float32)  # modes of 16 bits ("I" too), or of floating point
    top = 65535 if image.mode[0] == "I" else 1 if values.max() <= 1 else 255
    return Image.fromarray(np.rint((values / top).clip(0, 1) * 255).astype(np.uint8))


def opaque(image: Any) -> tuple[Any, str | None]:
    """The picture without transparency, and the page that is seen where it was clear: white under dark ink, black under
    light ink; None where nothing was."""
    from PIL import Image

    if not image.has_transparency_data:
        return image, None
    picture = image.convert("RGBA")
    *_, alpha = (np.asarray(band, np.float32) for band in picture.split())
    if alpha.min() == 255:
        return picture.convert("RGB"), None
    brightness = float((np.asarray(picture.convert("L"), np.float32) * alpha).sum() / max(float(alpha.sum()), 1.0))
    page = "black" if brightness > 127 else "white"
    laid = Image.alpha_composite(Image.new("RGBA", picture.size, page), picture)
    return laid.convert("RGB"), page
