"""Arrays that people bring: IDX files and ``.npz`` archives; each reader gives a DataSet."""

from __future__ import annotations

import gzip
import math
import struct
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from budgetnet.dataset import DataSet, Split, checked_split, described, divided, times
from budgetnet.errors import DataError, one_line

IDX_IMAGES = 0x803  # unsigned byte, three dimensions
IDX_LABELS = 0x801  # unsigned byte, one dimension

NPZ_KEYS = (("x_{}", "y_{}"), ("{}_images", "{}_labels"))  # images and labels of train, val and test
NPZ_WHOLE = (("images", "labels"), ("x", "y"))  # … of all, where nothing says which are for the test
PARTS = ("train", "val", "test")

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
    """``train-images-idx3-ubyte`` and so on, raw or ``.gz``; without test files a fixed sixth becomes the test set."""
    training = cache(lambda: idx_split(_idx_file(folder, "train-images"), _idx_file(folder, "train-labels")))
    if not any(folder.glob("t10k-*")) and not any(folder.glob("test-*")):
        return divided(str(folder), training)
    test = cache(lambda: idx_split(_idx_file(folder, "t10k-images"), _idx_file(folder, "t10k-labels")))
    return described(str(folder), training, test)


def _idx_file(folder: Path, stem: str) -> RawFile:
    dims = "3" if stem.endswith("images") else "1"
    stems = [stem, stem.replace("t10k", "test")]
    names = [f"{name}{dash}idx{dims}-ubyte{end}" for name in stems for dash in "-." for end in ("", ".gz")]
    for name in names:
        if (folder / name).is_file():
            return read_raw(folder / name)
    raise DataError(f"{folder}: a folder of IDX files must hold {names[0]} or {names[1]}, but has neither")


# .npz files -----------------------------------------------------------------------------------------------------------


def from_npz(path: Path) -> DataSet:
    """Arrays called as NPZ_KEYS or NPZ_WHOLE say, in upper or lower case. Those for validation join those for training,
    of which a search holds out its own; without test arrays a fixed sixth becomes the test set. Raises DataError."""
    held = _npz_keys(path)
    keys = {key.lower(): key for key in held}
    for pattern in NPZ_KEYS:
        parts = {part: tuple(keys.get(name, name) for name in (key.format(part) for key in pattern)) for part in PARTS}
        if not set(parts["train"]) <= held:
            continue
        named = [parts[part] for part in ("train", "val") if set(parts[part]) & held]
        training = cache(partial(_npz_parts, path, named))
        if not set(parts["test"]) & held:
            return divided(str(path), training)
        return described(str(path), training, cache(partial(_npz_parts, path, [parts["test"]])))
    for names in NPZ_WHOLE:
        if set(names) <= set(keys):
            return divided(str(path), cache(partial(_npz_parts, path, [tuple(keys[name] for name in names)])))
    raise DataError(
        f"{path}: an .npz must hold x_train, y_train, x_test, y_test (or train_images, …, or images and labels), "
        f"but holds {', '.join(sorted(held)) or 'nothing'}"
    )


def _npz_parts(path: Path, parts: Sequence[tuple[str, ...]]) -> Split:
    """The arrays of several parts, one after the other."""
    splits = [_npz_split(path, *names) for names in parts]
    shapes = [split.images.shape[1:] for split in splits]
    for names, shape in zip(parts, shapes, strict=True):
        if shape != shapes[0]:
            raise DataError(f"{path}: {names[0]}: images must be {times(shapes[0])}, but are {times(shape)}")
    return Split(torch.cat([split.images for split in splits]), torch.cat([split.labels for split in splits]))


def _npz_keys(path: Path) -> set[str]:
    try:
        with np.load(path, allow_pickle=False) as archive:
            return set(archive.files)
    except (OSError, EOFError, ValueError, AttributeError, TypeError, zipfile.BadZipFile) as error:
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
