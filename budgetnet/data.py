"""Finding a data set: ``load("mnist")`` reads the embedded files; other specs name a torchvision set, a folder, a file.

Everything is lazy per file: a search calls ``search_splits`` and never opens a test image.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from budgetnet.dataset import DataSet, Split, checked_split, described, one_line, times
from budgetnet.errors import DataError
from budgetnet.files import cache_dir
from budgetnet.layers import Shape
from budgetnet.readers import (
    RawFile,
    channels_first,
    from_class_folders,
    from_idx_folder,
    from_npz,
    has_idx_files,
    idx_split,
    read_raw,
)

EMBEDDED = Path(__file__).parent / "mnist"
SHA256 = {  # of the raw files, not of the .gz
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}

TORCHVISION: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {  # name -> class, arguments to train, to test
    "fashion-mnist": ("FashionMNIST", {"train": True}, {"train": False}),
    "kmnist": ("KMNIST", {"train": True}, {"train": False}),
    "emnist": ("EMNIST", {"split": "balanced", "train": True}, {"split": "balanced", "train": False}),
    "cifar10": ("CIFAR10", {"train": True}, {"train": False}),
    "cifar100": ("CIFAR100", {"train": True}, {"train": False}),
    "svhn": ("SVHN", {"split": "train"}, {"split": "test"}),
    "usps": ("USPS", {"train": True}, {"train": False}),
}


def load(spec: str = "mnist", *, image_shape: Shape | None = None) -> DataSet:
    """The data set that ``spec`` names: ``mnist``, a torchvision name, a folder, or an ``.npz`` file.

    ``image_shape`` (C, H, W) is the size to which a folder's images are brought; of other sets it must be the size.
    Raises DataError for anything that cannot be read as such.
    """
    data = _load(spec, image_shape)
    if image_shape is not None and data.input_shape != tuple(image_shape):
        raise DataError(f"{spec}: images must be {times(image_shape)}, but are {times(data.input_shape)}")
    return data


def _load(spec: str, image_shape: Shape | None) -> DataSet:
    name, path = spec.lower().replace("_", "-"), Path(spec).expanduser()
    if name == "mnist":
        return _mnist()
    if name in TORCHVISION:
        return _from_torchvision(name)
    if path.is_dir():
        return from_idx_folder(path) if has_idx_files(path) else from_class_folders(path, image_shape)
    if path.is_file() and path.suffix == ".npz":
        return from_npz(path)
    known = ", ".join(["mnist", *TORCHVISION])
    raise DataError(f"{spec}: a data set must be one of {known}, a folder, or an .npz file; this is none")


# MNIST, embedded ------------------------------------------------------------------------------------------------------


def _mnist() -> DataSet:
    return DataSet(
        name="mnist",
        input_shape=(1, 28, 28),
        classes=10,
        mean=(0.1307,),
        std=(0.3081,),
        training=cache(lambda: idx_split(_embedded("train-images-idx3-ubyte"), _embedded("train-labels-idx1-ubyte"))),
        test=cache(lambda: idx_split(_embedded("t10k-images-idx3-ubyte"), _embedded("t10k-labels-idx1-ubyte"))),
    )


def _embedded(name: str) -> RawFile:
    """The raw bytes of an embedded file, from the cache if it is there, else unpacked, checked and cached."""
    cached = cache_dir() / "mnist" / name
    with suppress(OSError):
        if cached.stat().st_size == _unpacked_size(EMBEDDED / f"{name}.gz"):
            return RawFile(cached.read_bytes(), cached)
    raw = read_raw(EMBEDDED / f"{name}.gz")
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


# torchvision ----------------------------------------------------------------------------------------------------------


def _from_torchvision(name: str) -> DataSet:
    _, train, test = TORCHVISION[name]
    return described(
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
        raise DataError(f"{name}: download failed ({one_line(error)}); put {wanted}") from error
    labels = getattr(data, "targets", None)
    pixels = np.asarray(data.data)
    if name != "svhn":  # svhn is N×C×H×W already
        pixels = channels_first(pixels, name)
    truth = torch.as_tensor(np.asarray(data.labels if labels is None else labels), dtype=torch.int64)
    return checked_split(torch.from_numpy(np.ascontiguousarray(pixels)), truth, name)


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
