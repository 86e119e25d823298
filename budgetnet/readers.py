"""Images that people bring: IDX files, ``.npz`` archives, folders of class folders; each reader gives a DataSet."""

from __future__ import annotations

import gzip
import math
import struct
import warnings
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from budgetnet.dataset import DataSet, Split, checked_split, described, holdout_indices, one_line, times
from budgetnet.errors import DataError
from budgetnet.layers import Shape

IDX_IMAGES = 0x803  # unsigned byte, three dimensions
IDX_LABELS = 0x801  # unsigned byte, one dimension

NPZ_KEYS = (  # images and labels of the training set, images and labels of the test set
    ("x_train", "y_train", "x_test", "y_test"),
    ("train_images", "train_labels", "test_images", "test_labels"),
)

IMAGE_SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".pgm", ".ppm"}
ORIENTATION = 0x0112  # the EXIF tag
GRAY_MODES = {"1", "L", "LA", "I", "I;16", "F"}

# IDX files ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class RawFile:
    """A file's content and where it came from, for the messages."""

    content: bytes
    place: Path


def read_raw(path: Path) -> RawFile:
    """A file's content, unpacked if its name ends in ``.gz``."""
    try:
        content = path.read_bytes()
        return RawFile(gzip.decompress(content) if path.suffix == ".gz" else content, path)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: cannot be read: {one_line(error)}") from error


def idx_split(images: RawFile, labels: RawFile) -> Split:
    """A split from an IDX image file and an IDX label file (format: yann.lecun.com/exdb/mnist)."""
    pixels, truth = _parse_idx(images, IDX_IMAGES), _parse_idx(labels, IDX_LABELS)
    return checked_split(pixels.unsqueeze(1), truth.long(), str(images.place))


def _parse_idx(file: RawFile, magic: int) -> Tensor:
    header = 4 + 4 * (magic & 0xFF)  # the low byte of the magic number counts the dimensions, four bytes each
    found = int.from_bytes(file.content[:4], "big")
    if len(file.content) < header or found != magic:
        raise DataError(f"{file.place}: an IDX file must start with {magic:#010x}, but starts with {found:#010x}")
    shape = struct.unpack(f">{magic & 0xFF}I", file.content[4:header])
    if len(file.content) != header + math.prod(shape):
        raise DataError(
            f"{file.place}: {times(shape)} values need {header + math.prod(shape):,} bytes, "
            f"but the file has {len(file.content):,}"
        )
    return torch.from_numpy(np.frombuffer(file.content, np.uint8, offset=header).reshape(shape).copy())


def has_idx_files(path: Path) -> bool:
    return any(path.glob("*-images-idx3-ubyte*")) or any(path.glob("*-images.idx3-ubyte*"))


def from_idx_folder(folder: Path) -> DataSet:
    training = cache(lambda: idx_split(_idx_file(folder, "train-images"), _idx_file(folder, "train-labels")))
    test = cache(lambda: idx_split(_idx_file(folder, "t10k-images"), _idx_file(folder, "t10k-labels")))
    return described(str(folder), training, test)


def _idx_file(folder: Path, stem: str) -> RawFile:
    dims = "3" if stem.endswith("images") else "1"
    names = [f"{stem}{dash}idx{dims}-ubyte{end}" for dash in "-." for end in ("", ".gz")]
    for name in names:
        if (folder / name).is_file():
            return read_raw(folder / name)
    raise DataError(f"{folder}: a folder of IDX files must hold {names[0]} or {names[1]}, but has neither")


# .npz files -----------------------------------------------------------------------------------------------------------


def from_npz(path: Path) -> DataSet:
    keys = _npz_keys(path)
    for names in NPZ_KEYS:
        if set(names[:2]) <= keys:
            training, test = (cache(partial(_npz_split, path, *pair)) for pair in (names[:2], names[2:]))
            return described(str(path), training, test)
    if {"images", "labels"} <= keys:
        whole = cache(lambda: _npz_split(path, "images", "labels"))
        return described(str(path), cache(lambda: _holdout(whole(), test=False)), lambda: _holdout(whole(), test=True))
    raise DataError(
        f"{path}: an .npz must hold x_train, y_train, x_test, y_test (or train_images, …, or images and labels), "
        f"but holds {', '.join(sorted(keys)) or 'nothing'}"
    )


def _holdout(whole: Split, *, test: bool) -> Split:
    """The sixth that becomes the test set where the files name none, or the rest."""
    held = holdout_indices(whole.labels)
    return whole.take(held if test else np.setdiff1d(np.arange(len(whole)), held))


def _npz_keys(path: Path) -> set[str]:
    try:
        with np.load(path, allow_pickle=False) as archive:
            return set(archive.files)
    except (OSError, ValueError, AttributeError, zipfile.BadZipFile) as error:
        raise DataError(f"{path}: cannot be read as .npz: {one_line(error)}") from error


def _npz_split(path: Path, images: str, labels: str) -> Split:
    pixels, truth = _npz_array(path, images), _npz_array(path, labels)
    if pixels.dtype != np.uint8:
        raise DataError(f"{path}: {images}: images must be uint8 (0..255), but are {pixels.dtype}")
    if truth.ndim == 2 and truth.shape[1] == 1:
        truth = truth[:, 0]
    if truth.ndim != 1 or not np.issubdtype(truth.dtype, np.integer):
        raise DataError(
            f"{path}: {labels}: labels must be whole numbers, one an image, "
            f"but are {truth.dtype} of shape {times(truth.shape)}"
        )
    chw = torch.from_numpy(np.ascontiguousarray(channels_first(pixels, f"{path}: {images}")))
    return checked_split(chw, torch.from_numpy(truth.astype(np.int64)), f"{path}: {images}")


def _npz_array(path: Path, key: str) -> np.ndarray[Any, Any]:
    try:
        with np.load(path, allow_pickle=False) as archive:
            return np.asarray(archive[key])
    except KeyError as error:
        raise DataError(f"{path}: an array {key} is needed, but there is none") from error
    except (OSError, ValueError, EOFError, zlib.error, zipfile.BadZipFile) as error:
        raise DataError(f"{path}: {key}: cannot be read: {one_line(error)}") from error


def channels_first(pixels: np.ndarray[Any, Any], place: str) -> np.ndarray[Any, Any]:
    """(N, H, W), (N, H, W, C) or (N, C, H, W) → (N, C, H, W); C is 1 to 4, and last where both ends would do."""
    if pixels.ndim == 3:
        return pixels[:, None]
    if pixels.ndim == 4 and 1 <= pixels.shape[3] <= 4:
        return pixels.transpose(0, 3, 1, 2)
    if pixels.ndim == 4 and 1 <= pixels.shape[1] <= 4:
        return pixels
    raise DataError(f"{place}: images must be N×H×W, N×H×W×C or N×C×H×W with C up to 4, but are {times(pixels.shape)}")


# Class folders --------------------------------------------------------------------------------------------------------


def from_class_folders(root: Path, image_shape: Shape | None) -> DataSet:
    """``train/<class>/*`` and ``test/<class>/*``, or ``<class>/*``, of which a fixed sixth becomes the test set."""
    divided = (root / "train").is_dir()
    classes = _class_names(root / "train" if divided else root)
    training = _image_files(root / "train" if divided else root, classes)
    if divided:
        test: Callable[[], list[tuple[Path, int]]] = lambda: _image_files(root / "test", classes)  # noqa: E731
    else:
        held = set(holdout_indices(torch.tensor([label for _, label in training])).tolist())
        held_files = [file for i, file in enumerate(training) if i in held]
        training = [file for i, file in enumerate(training) if i not in held]
        test = lambda: held_files  # noqa: E731
    shape = tuple(image_shape) if image_shape else _common_shape([path for path, _ in training])
    return described(
        str(root),
        cache(lambda: _image_split(training, shape, root)),
        cache(lambda: _image_split(test(), shape, root)),
        classes=len(classes),
    )


def _class_names(folder: Path) -> list[str]:
    names = sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    if len(names) < 2:
        raise DataError(f"{folder}: needs at least 2 class folders (or IDX files), but has {len(names)}")
    return names


def _image_files(folder: Path, classes: list[str]) -> list[tuple[Path, int]]:
    """Every image file with its label, in the order of the names."""
    if not folder.is_dir():
        raise DataError(f"{folder}: must be a folder of class folders, but is not there")
    if extra := {entry.name for entry in folder.iterdir() if entry.is_dir()} - set(classes):
        raise DataError(f"{folder}: class folders must be those of training, but {sorted(extra)[0]} is not")
    files = []
    for label, name in enumerate(classes):
        of_class = sorted(p for p in (folder / name).glob("**/*") if p.suffix.lower() in IMAGE_SUFFIXES)
        files += [(path, label) for path in of_class]
    if not files:
        raise DataError(f"{folder}: class folders must hold images, but have none")
    return files


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


def upright(image: Any) -> Any:
    """The picture as it was taken: turned as its EXIF says, and with 8 bits a channel, which keep the whole range."""
    from PIL import Image, ImageOps

    image.load()
    image = ImageOps.exif_transpose(image)
    if image.mode[0] not in "IF":
        return image
    values = np.asarray(image, np.float32)  # modes of 16 bits ("I" too), or of floating point
    top = 65535 if image.mode[0] == "I" else 1 if values.max() <= 1 else 255
    return Image.fromarray(np.rint((values / top).clip(0, 1) * 255).astype(np.uint8))


def _common_shape(paths: Iterable[Path]) -> tuple[int, int, int]:
    """The commonest size; one channel if every file is grayscale, else three. Reads headers only."""
    sizes: Counter[tuple[int, int]] = Counter()
    gray = True
    for path in paths:
        with open_image(path) as image:
            turned = image.getexif().get(ORIENTATION, 1) >= 5  # on its side
            sizes[(image.width, image.height) if turned else (image.height, image.width)] += 1
            gray = gray and image.mode in GRAY_MODES
    height, width = max(sizes, key=lambda size: (sizes[size], size))
    return (1 if gray else 3), height, width


def _image_split(files: list[tuple[Path, int]], shape: tuple[int, ...], root: Path) -> Split:
    images = torch.empty((len(files), *shape), dtype=torch.uint8)
    for i, (path, _) in enumerate(files):
        images[i] = _pixels(path, shape)
    return checked_split(images, torch.tensor([label for _, label in files]), str(root))


def _pixels(path: Path, shape: tuple[int, ...]) -> Tensor:
    """One image as (C, H, W), resized bilinearly where its size differs."""
    if shape[0] not in (1, 3):
        raise DataError(f"{path}: images of a folder must have 1 or 3 channels, but {shape[0]} were asked for")
    with open_image(path) as image:
        converted = upright(image).convert("L" if shape[0] == 1 else "RGB")
    if (converted.height, converted.width) != shape[1:]:
        converted = converted.resize((shape[2], shape[1]), resample=2)  # PIL's Resampling.BILINEAR
    return torch.from_numpy(np.array(converted, np.uint8).reshape(shape[1], shape[2], shape[0]).transpose(2, 0, 1))
