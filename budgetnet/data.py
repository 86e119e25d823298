"""Data sets as uint8 tensors, and the one fixed, stratified split that every search and every report uses.

``load("mnist")`` reads the embedded files; other specs are a torchvision name, a folder of class folders, a folder of
IDX files, or an ``.npz``. Everything is lazy per file: a search calls ``search_splits`` and never opens a test image.
"""

from __future__ import annotations

import gzip
import hashlib
import math
import os
import re
import struct
import sys
import tempfile
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from budgetnet.errors import DataError

SPLIT_SEED = 8000  # part of every result ever reported: changing it changes which images validate
HOLDOUT = 6  # one image in six is held out: 10,000 of MNIST's 60,000

EMBEDDED = Path(__file__).parent / "mnist"
SHA256 = {  # of the raw files, not of the .gz
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}

IDX_IMAGES = 0x803  # unsigned byte, three dimensions
IDX_LABELS = 0x801  # unsigned byte, one dimension

TORCHVISION: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {  # name -> class, arguments to train, to test
    "fashion-mnist": ("FashionMNIST", {"train": True}, {"train": False}),
    "kmnist": ("KMNIST", {"train": True}, {"train": False}),
    "emnist": ("EMNIST", {"split": "balanced", "train": True}, {"split": "balanced", "train": False}),
    "cifar10": ("CIFAR10", {"train": True}, {"train": False}),
    "cifar100": ("CIFAR100", {"train": True}, {"train": False}),
    "svhn": ("SVHN", {"split": "train"}, {"split": "test"}),
    "usps": ("USPS", {"train": True}, {"train": False}),
}

NPZ_KEYS = (  # images and labels of the training set, images and labels of the test set
    ("x_train", "y_train", "x_test", "y_test"),
    ("train_images", "train_labels", "test_images", "test_labels"),
)

IMAGE_SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".pgm", ".ppm"}
GRAY_MODES = {"1", "L", "LA", "I", "I;16", "F"}


@dataclass(frozen=True, eq=False)
class Split:
    """Images and their labels: uint8 ``(N, C, H, W)`` and int64 ``(N,)``, on one device."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return self.labels.numel()

    def to(self, device: str | torch.device) -> Split:
        return Split(self.images.to(device), self.labels.to(device))

    def take(self, indices: Sequence[int] | np.ndarray[Any, Any] | Tensor) -> Split:
        """The images at ``indices``, in that order."""
        index = torch.as_tensor(indices, dtype=torch.int64, device=self.labels.device)
        return Split(self.images[index], self.labels[index])


@dataclass(frozen=True)
class DataSet:
    """A data set by description; its files are read when a split is asked for, and then once.

    ``input_shape`` is (C, H, W); ``mean`` and ``std`` are per channel, of the training images scaled to 0..1.
    """

    name: str
    input_shape: tuple[int, int, int]
    classes: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    training: Callable[[], Split] = field(repr=False, compare=False)
    test: Callable[[], Split] = field(repr=False, compare=False)
    limits: tuple[int, int] | None = None

    def search_splits(self) -> tuple[Split, Split]:
        """(train, validation): the training files, split 5 : 1 in every class, always the same way; test stays shut."""
        whole = self.training()
        validation = holdout_indices(whole.labels)
        train = np.setdiff1d(np.arange(len(whole)), validation)
        return self._limit(whole.take(train), whole.take(validation))

    def final_splits(self) -> tuple[Split, Split]:
        """(all training images, test images): for results that are reported, never for a choice."""
        training, test = self.training(), self.test()
        if int(test.labels.max()) >= self.classes:
            raise DataError(
                f"{self.name}: test labels must be below {self.classes}, but one is {int(test.labels.max())}"
            )
        return self._limit(training, test)

    def limited(self, n_train: int, n_eval: int) -> DataSet:
        """The same data set with at most ``n_train`` and ``n_eval`` images, stratified: for quick tries and tests."""
        return replace(self, limits=(n_train, n_eval))

    def _limit(self, training: Split, evaluation: Split) -> tuple[Split, Split]:
        if self.limits is None:
            return training, evaluation
        n_train, n_eval = self.limits
        return (
            training.take(stratified_indices(training.labels, n_train)),
            evaluation.take(stratified_indices(evaluation.labels, n_eval)),
        )


def load(spec: str = "mnist", *, image_shape: tuple[int, int, int] | None = None) -> DataSet:
    """The data set that ``spec`` names: ``mnist``, a torchvision name, a folder, or an ``.npz`` file.

    ``image_shape`` (C, H, W) is the size to which a folder's images are brought; of other sets it must be the size.
    Raises DataError for anything that cannot be read as such.
    """
    data = _load(spec, image_shape)
    if image_shape is not None and data.input_shape != tuple(image_shape):
        raise DataError(f"{spec}: images must be {_times(image_shape)}, but are {_times(data.input_shape)}")
    return data


def _load(spec: str, image_shape: tuple[int, int, int] | None) -> DataSet:
    name, path = spec.lower().replace("_", "-"), Path(spec).expanduser()
    if name == "mnist":
        return _mnist()
    if name in TORCHVISION:
        return _from_torchvision(name)
    if path.is_dir():
        return _from_idx_folder(path) if _has_idx_files(path) else _from_class_folders(path, image_shape)
    if path.is_file() and path.suffix == ".npz":
        return _from_npz(path)
    known = ", ".join(["mnist", *TORCHVISION])
    raise DataError(f"{spec}: a data set must be one of {known}, a folder, or an .npz file; this is none")


# The split ------------------------------------------------------------------------------------------------------------


def holdout_indices(labels: Tensor) -> np.ndarray[Any, Any]:
    """Sorted indices of the sixth that is held out, stratified; for MNIST exactly 10,000."""
    return stratified_indices(labels, round(len(labels) / HOLDOUT))


def stratified_indices(labels: Tensor, count: int, seed: int = SPLIT_SEED) -> np.ndarray[Any, Any]:
    """Sorted indices of ``count`` images (all, if there are fewer), every class in its share to within one image.

    Reproducible for ever: each class sorts its images by the raw 64-bit stream of NumPy's PCG64, seeded by
    ``(seed, class)``. NumPy keeps the streams of its bit generators fixed, but not ``Generator.permutation`` (NEP 19).
    """
    classes = labels.cpu().numpy()
    members = {int(label): np.flatnonzero(classes == label) for label in np.unique(classes)}
    quota = _apportion({label: len(of) for label, of in members.items()}, min(count, len(classes)))
    chosen = [of[_fixed_order(len(of), (seed, label))[: quota[label]]] for label, of in members.items()]
    return np.sort(np.concatenate(chosen))


def _fixed_order(n: int, seed: tuple[int, int]) -> np.ndarray[Any, Any]:
    return np.argsort(np.random.PCG64(list(seed)).random_raw(n), kind="stable")


def _apportion(sizes: dict[int, int], seats: int) -> dict[int, int]:
    """``seats`` over the classes in proportion to ``sizes``, by largest remainder; ties go to the lower class."""
    total = sum(sizes.values())
    quota = {label: seats * size // total for label, size in sizes.items()}
    by_remainder = sorted(sizes, key=lambda label: (-(seats * sizes[label] % total), label))
    for label in by_remainder[: seats - sum(quota.values())]:
        quota[label] += 1
    return quota


# MNIST, embedded ------------------------------------------------------------------------------------------------------


def _mnist() -> DataSet:
    return DataSet(
        name="mnist",
        input_shape=(1, 28, 28),
        classes=10,
        mean=(0.1307,),
        std=(0.3081,),
        training=cache(lambda: _idx_split(_embedded("train-images-idx3-ubyte"), _embedded("train-labels-idx1-ubyte"))),
        test=cache(lambda: _idx_split(_embedded("t10k-images-idx3-ubyte"), _embedded("t10k-labels-idx1-ubyte"))),
    )


def cache_dir() -> Path:
    """Where unpacked and downloaded data goes: BUDGETNET_CACHE, else the platform's cache directory."""
    if own := os.environ.get("BUDGETNET_CACHE"):
        return Path(own).expanduser()
    home = Path.home()
    if sys.platform == "darwin":
        return home / "Library" / "Caches" / "budgetnet"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or home / "AppData" / "Local") / "budgetnet" / "cache"
    return Path(os.environ.get("XDG_CACHE_HOME") or home / ".cache") / "budgetnet"


def _embedded(name: str) -> _Named:
    """The raw bytes of an embedded file, from the cache if it is there, else unpacked, checked and cached."""
    cached = cache_dir() / "mnist" / name
    with suppress(OSError):
        if cached.stat().st_size == _unpacked_size(EMBEDDED / f"{name}.gz"):
            return _Named(cached.read_bytes(), cached)
    raw = _read(EMBEDDED / f"{name}.gz")
    found = hashlib.sha256(raw.content).hexdigest()
    if found != SHA256[name]:
        raise DataError(f"{raw.place}: SHA-256 of the unpacked file must be {SHA256[name]}, but is {found}")
    with suppress(OSError):  # a cache that cannot be written costs a second at the next start, nothing else
        _write_atomically(cached, raw.content)
    return raw


def _unpacked_size(path: Path) -> int:
    """Bytes in a gzip file's content, from its last four bytes (RFC 1952, ISIZE)."""
    with path.open("rb") as file:
        file.seek(-4, os.SEEK_END)
        return int.from_bytes(file.read(4), "little")


def _write_atomically(path: Path, content: bytes) -> None:
    """Write beside and rename, so that workers that start together never read half a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        os.replace(temporary, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary)
        raise


# IDX files ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Named:
    """A file's content and where it came from, for the messages."""

    content: bytes
    place: Path


def _read(path: Path) -> _Named:
    """A file's content, unpacked if its name ends in ``.gz``."""
    try:
        content = path.read_bytes()
        return _Named(gzip.decompress(content) if path.suffix == ".gz" else content, path)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: cannot be read: {_one_line(error)}") from error


def _idx_split(images: _Named, labels: _Named) -> Split:
    """A split from an IDX image file and an IDX label file (format: yann.lecun.com/exdb/mnist)."""
    pixels, truth = _parse_idx(images, IDX_IMAGES), _parse_idx(labels, IDX_LABELS)
    return _checked_split(pixels.unsqueeze(1), truth.long(), str(images.place))


def _parse_idx(file: _Named, magic: int) -> Tensor:
    header = 4 + 4 * (magic & 0xFF)  # the low byte of the magic number counts the dimensions, four bytes each
    found = int.from_bytes(file.content[:4], "big")
    if len(file.content) < header or found != magic:
        raise DataError(f"{file.place}: an IDX file must start with {magic:#010x}, but starts with {found:#010x}")
    shape = struct.unpack(f">{magic & 0xFF}I", file.content[4:header])
    if len(file.content) != header + math.prod(shape):
        raise DataError(
            f"{file.place}: {_times(shape)} values need {header + math.prod(shape):,} bytes, "
            f"but the file has {len(file.content):,}"
        )
    return torch.from_numpy(np.frombuffer(file.content, np.uint8, offset=header).reshape(shape).copy())


def _has_idx_files(path: Path) -> bool:
    return any(path.glob("*-images-idx3-ubyte*")) or any(path.glob("*-images.idx3-ubyte*"))


def _from_idx_folder(folder: Path) -> DataSet:
    training = cache(lambda: _idx_split(_idx_file(folder, "train-images"), _idx_file(folder, "train-labels")))
    test = cache(lambda: _idx_split(_idx_file(folder, "t10k-images"), _idx_file(folder, "t10k-labels")))
    return _described(str(folder), training, test)


def _idx_file(folder: Path, stem: str) -> _Named:
    dims = "3" if stem.endswith("images") else "1"
    names = [f"{stem}{dash}idx{dims}-ubyte{end}" for dash in "-." for end in ("", ".gz")]
    for name in names:
        if (folder / name).is_file():
            return _read(folder / name)
    raise DataError(f"{folder}: a folder of IDX files must hold {names[0]} or {names[1]}, but has neither")


# .npz files -----------------------------------------------------------------------------------------------------------


def _from_npz(path: Path) -> DataSet:
    keys = _npz_keys(path)
    for names in NPZ_KEYS:
        if set(names[:2]) <= keys:
            training, test = (cache(partial(_npz_split, path, *pair)) for pair in (names[:2], names[2:]))
            return _described(str(path), training, test)
    if {"images", "labels"} <= keys:
        whole = cache(lambda: _npz_split(path, "images", "labels"))
        return _described(str(path), cache(lambda: _holdout(whole(), test=False)), lambda: _holdout(whole(), test=True))
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
        raise DataError(f"{path}: cannot be read as .npz: {_one_line(error)}") from error


def _npz_split(path: Path, images: str, labels: str) -> Split:
    pixels, truth = _npz_array(path, images), _npz_array(path, labels)
    if pixels.dtype != np.uint8:
        raise DataError(f"{path}: {images}: images must be uint8 (0..255), but are {pixels.dtype}")
    if truth.ndim == 2 and truth.shape[1] == 1:
        truth = truth[:, 0]
    if truth.ndim != 1 or not np.issubdtype(truth.dtype, np.integer):
        raise DataError(
            f"{path}: {labels}: labels must be whole numbers, one an image, "
            f"but are {truth.dtype} of shape {_times(truth.shape)}"
        )
    chw = torch.from_numpy(np.ascontiguousarray(_channels_first(pixels, f"{path}: {images}")))
    return _checked_split(chw, torch.from_numpy(truth.astype(np.int64)), f"{path}: {images}")


def _npz_array(path: Path, key: str) -> np.ndarray[Any, Any]:
    try:
        with np.load(path, allow_pickle=False) as archive:
            return np.asarray(archive[key])
    except KeyError as error:
        raise DataError(f"{path}: an array {key} is needed, but there is none") from error
    except (OSError, ValueError, EOFError, zlib.error, zipfile.BadZipFile) as error:
        raise DataError(f"{path}: {key}: cannot be read: {_one_line(error)}") from error


def _channels_first(pixels: np.ndarray[Any, Any], place: str) -> np.ndarray[Any, Any]:
    """(N, H, W), (N, H, W, C) or (N, C, H, W) → (N, C, H, W); C is 1 to 4, and last where both ends would do."""
    if pixels.ndim == 3:
        return pixels[:, None]
    if pixels.ndim == 4 and 1 <= pixels.shape[3] <= 4:
        return pixels.transpose(0, 3, 1, 2)
    if pixels.ndim == 4 and 1 <= pixels.shape[1] <= 4:
        return pixels
    raise DataError(f"{place}: images must be N×H×W, N×H×W×C or N×C×H×W with C up to 4, but are {_times(pixels.shape)}")


# Class folders --------------------------------------------------------------------------------------------------------


def _from_class_folders(root: Path, image_shape: tuple[int, int, int] | None) -> DataSet:
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
    return _described(
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


def _open_image(path: Path) -> Any:
    from PIL import Image

    try:
        return Image.open(path)
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read as an image: {_one_line(error)}") from error


def _common_shape(paths: Iterable[Path]) -> tuple[int, int, int]:
    """The commonest size; one channel if every file is grayscale, else three. Reads headers only."""
    sizes: Counter[tuple[int, int]] = Counter()
    gray = True
    for path in paths:
        with _open_image(path) as image:
            sizes[(image.height, image.width)] += 1
            gray = gray and image.mode in GRAY_MODES
    height, width = max(sizes, key=lambda size: (sizes[size], size))
    return (1 if gray else 3), height, width


def _image_split(files: list[tuple[Path, int]], shape: tuple[int, ...], root: Path) -> Split:
    images = torch.empty((len(files), *shape), dtype=torch.uint8)
    for i, (path, _) in enumerate(files):
        images[i] = _pixels(path, shape)
    return _checked_split(images, torch.tensor([label for _, label in files]), str(root))


def _pixels(path: Path, shape: tuple[int, ...]) -> Tensor:
    """One image as (C, H, W), resized bilinearly where its size differs."""
    if shape[0] not in (1, 3):
        raise DataError(f"{path}: images of a folder must have 1 or 3 channels, but {shape[0]} were asked for")
    with _open_image(path) as image:
        try:
            converted = image.convert("L" if shape[0] == 1 else "RGB")
        except (OSError, ValueError, SyntaxError) as error:
            raise DataError(f"{path}: cannot be read as an image: {_one_line(error)}") from error
    if (converted.height, converted.width) != shape[1:]:
        converted = converted.resize((shape[2], shape[1]), resample=2)  # PIL's Resampling.BILINEAR
    return torch.from_numpy(np.array(converted, np.uint8).reshape(shape[1], shape[2], shape[0]).transpose(2, 0, 1))


# torchvision ----------------------------------------------------------------------------------------------------------


def _from_torchvision(name: str) -> DataSet:
    _, train, test = TORCHVISION[name]
    return _described(
        name, cache(lambda: _torchvision_split(name, train)), cache(lambda: _torchvision_split(name, test))
    )


def _torchvision_split(name: str, arguments: dict[str, Any]) -> Split:
    """One part of a torchvision set, downloaded into the cache if it is not there."""
    import torchvision.datasets

    factory = getattr(torchvision.datasets, TORCHVISION[name][0])
    root = cache_dir() / "torchvision"
    try:
        root.mkdir(parents=True, exist_ok=True)
        data = factory(str(root), download=True, **arguments)
    except Exception as error:  # torchvision raises whatever urllib, tarfile or its own checks raise
        wanted = _wanted_files(factory, root)
        raise DataError(f"{name}: download failed ({_one_line(error)}); put {wanted}") from error
    labels = getattr(data, "targets", None)
    pixels = np.asarray(data.data)
    if name != "svhn":  # svhn is N×C×H×W already
        pixels = _channels_first(pixels, name)
    truth = torch.as_tensor(np.asarray(data.labels if labels is None else labels), dtype=torch.int64)
    return _checked_split(torch.from_numpy(np.ascontiguousarray(pixels)), truth, name)


def _wanted_files(factory: Any, root: Path) -> str:
    """What to put where by hand, as torchvision expects it."""
    if hasattr(factory, "resources"):  # the MNIST family
        names = ", ".join(resource[0].rsplit("/", 1)[-1] for resource in factory.resources)
        return f"{names} into {root / factory.__name__ / 'raw'}"
    listing = getattr(factory, "filename", None) or getattr(factory, "url", None)
    if listing is None:
        parts = getattr(factory, "split_list", {})
        listing = ", ".join(str(part[1] if len(part) > 1 else part[0]).rsplit("/", 1)[-1] for part in parts.values())
    return f"{str(listing).rsplit('/', 1)[-1]} into {root}"


# Common ---------------------------------------------------------------------------------------------------------------


def _described(
    name: str, training: Callable[[], Split], test: Callable[[], Split], *, classes: int | None = None
) -> DataSet:
    """A DataSet whose shape, classes, mean and std are read off its training images."""
    split = training()
    mean, std = _moments(split.images)
    channels, height, width = split.images.shape[1:]
    count = classes or int(split.labels.max()) + 1
    if count < 2:
        raise DataError(f"{name}: needs at least 2 classes, but has {count}")
    return DataSet(name, (channels, height, width), count, mean, std, training, test)


def _moments(images: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel, pixels scaled to 0..1; exact, by counting the 256 values."""
    value = torch.arange(256, dtype=torch.float64) / 255
    means, stds = [], []
    for channel in range(images.shape[1]):
        share = torch.bincount(images[:, channel].flatten(), minlength=256).double()
        share /= share.sum()
        mean = float(share @ value)
        means.append(mean)
        std = math.sqrt(float(share @ (value - mean) ** 2))
        stds.append(std if std > 1e-9 else 1.0)  # a constant channel is only centred
    return tuple(means), tuple(stds)


def _checked_split(images: Tensor, labels: Tensor, place: str) -> Split:
    if len(images) != len(labels):
        raise DataError(f"{place}: images and labels must be equally many, but are {len(images):,} and {len(labels):,}")
    if images.numel() == 0:
        raise DataError(f"{place}: must hold at least one image, but its shape is {_times(images.shape)}")
    if int(labels.min()) < 0:
        raise DataError(f"{place}: labels must be 0 or more, but one is {int(labels.min())}")
    return Split(images, labels)


def _times(shape: Iterable[int]) -> str:
    return "×".join(str(n) for n in shape) or "a single value"


def _one_line(error: BaseException) -> str:
    return re.sub(r"\s+", " ", str(error)).strip()[:200] or type(error).__name__
