"""Finding a data set: ``load("mnist")`` reads the embedded files; other specs name a torchvision set, a folder, a file.

Everything is lazy per file: a search calls ``search_splits`` and never opens a test image.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from contextlib import suppress
from difflib import get_close_matches
from functools import cache
from pathlib import Path

from budgetnet.catalogue import SETS, known_name
from budgetnet.dataset import DataSet, times
from budgetnet.errors import DataError
from budgetnet.files import cache_dir, expanded
from budgetnet.folders import from_class_folders
from budgetnet.layers import Shape
from budgetnet.readers import RawFile, from_idx_folder, from_npz, has_idx_files, idx_split, read_raw
from budgetnet.vision import from_torchvision

EMBEDDED = Path(__file__).parent / "mnist"
SHA256 = {  # of the raw files, not of the .gz
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}


def load(spec: str = "mnist", *, image_shape: Shape | None = None) -> DataSet:
    """The data set that ``spec`` names: ``mnist``, a torchvision name, a folder, or an ``.npz`` file.

    ``image_shape`` (C, H, W) is the size to which pictures in files are brought; arrays must have it already.
    Raises DataError for anything that cannot be read as such.
    """
    data = _load(spec, image_shape)
    if image_shape is not None and data.input_shape != tuple(image_shape):
        raise DataError(f"{spec}: images must be {times(image_shape)}, but are {times(data.input_shape)}")
    return data


def _load(spec: str, image_shape: Shape | None) -> DataSet:
    if not spec.strip():
        raise DataError("data: must name a data set, a folder or an .npz file, but is empty")
    name, path = known_name(spec), expanded(spec)
    if name == "mnist":
        return _mnist()
    if name is not None:
        return from_torchvision(name, image_shape)
    if path.is_dir():
        return from_idx_folder(path) if has_idx_files(path) else from_class_folders(path, image_shape)
    if path.is_file() and path.suffix == ".npz":
        return from_npz(path)
    if path.exists():
        raise DataError(f"{spec}: a file of images must be an .npz, but is none; pictures belong into class folders")
    if path.name != spec or path.suffix:
        seen_from = "" if path.is_absolute() else f", seen from {Path.cwd()}"
        raise DataError(f"{spec}: there is no such folder or file{seen_from}")
    known, hint = ", ".join(_families()), _alike(spec)
    raise DataError(f"{spec}: a data set must be one of {known}, a folder, or an .npz file; this is none{hint}")


def _families() -> list[str]:
    """The known names, without those that are a variant of another one: ``emnist``, but not ``emnist-letters``."""
    return [name for name in ("mnist", *SETS) if not any(name.startswith(f"{other}-") for other in SETS)]


def _alike(spec: str) -> str:
    """The known name that was perhaps meant."""
    close = get_close_matches(spec.lower(), ["mnist", *SETS], 1)
    return f" – did you mean {close[0]}?" if close else ""


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
