"""The sets of the catalogue, read through torchvision: a download is whole or not there; what is missing is said."""

from __future__ import annotations

import inspect
import os
import re
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache, partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from filelock import FileLock

from budgetnet.catalogue import SETS, Arguments, VisionSet
from budgetnet.dataset import DataSet, Split, checked_split, described, divided
from budgetnet.errors import DataError, one_line
from budgetnet.files import cache_dir
from budgetnet.images import Pictures, from_pictures
from budgetnet.layers import Shape
from budgetnet.readers import channels_first

LOCK = ".lock"  # all that a download leaves that fails
SILENCE = 20.0  # seconds that a server may be silent


def from_torchvision(name: str, image_shape: Shape | None) -> DataSet:
    """The set ``name`` of the catalogue, downloaded if it is not in the cache; the test part only once it is asked for.

    Pictures that are files are brought to ``image_shape`` (C, H, W). Raises DataError, which says what to put where.
    """
    item = SETS[name]
    made = [_made(name, arguments) for arguments in item.training]
    names = item.class_names or _class_names(made[0], item.first_label)
    parts = [_part(name, item, each) for each in made]
    pictures, test = [part for part in parts if isinstance(part, Pictures)], item.test
    if pictures:
        shut = None if test is None else lambda: _pictures(name, item, _made(name, test))
        return from_pictures(name, Pictures.joined(pictures), shut, image_shape, names)
    (whole,) = (part for part in parts if isinstance(part, Split))  # no set of arrays has more than one
    if test is None:
        return divided(name, lambda: whole, class_names=names)
    return described(name, lambda: whole, cache(lambda: _array(name, item, _made(name, test))), class_names=names)


def folder_of_sets() -> Path:
    return cache_dir() / "torchvision"


# Reading --------------------------------------------------------------------------------------------------------------


def _part(name: str, item: VisionSet, data: Any) -> Split | Pictures:
    """What torchvision has made: an array where it holds one, else pictures."""
    if isinstance(getattr(data, "data", None), np.ndarray | torch.Tensor):
        return _array(name, item, data)
    return _pictures(name, item, data)


def _array(name: str, item: VisionSet, data: Any) -> Split:
    truth = torch.as_tensor(np.asarray(data.targets if hasattr(data, "targets") else data.labels), dtype=torch.int64)
    if truth.ndim == 2:  # QMNIST tells more of a digit than its class, which comes first
        truth = truth[:, 0]
    pixels = channels_first(np.asarray(data.data), name)
    if item.sideways:
        pixels = pixels.swapaxes(2, 3)
    return checked_split(torch.from_numpy(np.ascontiguousarray(pixels)), truth - item.first_label, name)


def _pictures(name: str, item: VisionSet, data: Any) -> Pictures:
    pairs = [_item(data, index) for index in range(len(data))] if _has_loader(type(data)) else None
    labels = [label for _, label in pairs] if pairs else [_item(data, index)[1] for index in range(len(data))]
    if None in labels:
        raise DataError(f"{name}: every image must have a label, but {labels.count(None):,} have none; {_wanted(item)}")
    whole = [int(label) - item.first_label for label in labels]
    if pairs:
        files = sorted(zip((Path(path) for path, _ in pairs), whole, strict=True))  # not as the file system lists them
        return Pictures.of_files(name, files)
    return Pictures(name, tuple(whole), partial(_opened, data), lambda index: f"{name}[{index}]")


@contextmanager
def _opened(data: Any, index: int) -> Iterator[Any]:
    """An image of a set that opens its files itself."""
    yield _item(data, index)[0]


def _item(data: Any, index: int) -> tuple[Any, Any]:
    """An image and its label."""
    try:
        image, label = data[index]
    except (OSError, ValueError, SyntaxError) as error:
        raise DataError(f"{type(data).__name__}[{index}]: cannot be read as an image: {one_line(error)}") from error
    return image, label


def _class_names(data: Any, first_label: int) -> tuple[str, ...]:
    """What torchvision calls the classes; nothing where it has no names for them."""
    found: Any = next(
        (getattr(data, key) for key in ("classes", "categories", "all_categories") if hasattr(data, key)), []
    )
    return tuple(name if isinstance(name, str) else str(name[0]) for name in found[first_label:])


def _has_loader(factory: type) -> bool:
    """Whether a set can be told how to open a file, so that its paths come out unopened."""
    from torchvision.datasets import DatasetFolder

    return "loader" in inspect.signature(factory).parameters or issubclass(factory, DatasetFolder)


# Downloading ----------------------------------------------------------------------------------------------------------


def _made(name: str, arguments: Arguments) -> Any:
    """torchvision's own object for a part, whose files are in the cache, downloaded or laid there by hand."""
    import torchvision.datasets

    item = SETS[name]
    factory = getattr(torchvision.datasets, item.factory)
    options = dict(arguments)
    if _has_loader(factory):
        options["loader"] = str
    can_download, root = _can_download(factory), folder_of_sets() / item.root

    def made(where: Path, download: bool) -> Any:
        return factory(str(where), **options, **({"download": download} if can_download else {}))

    with _no_empty_folders(folder_of_sets() / item.place):
        with suppress(Exception):  # torchvision raises whatever urllib, tarfile or its own checks raise
            return made(root, False)
        try:
            with _one_at_a_time():
                with suppress(Exception):  # another process was faster
                    return made(root, False)
                with _staged(item) as stage, _impatient():
                    made(stage, True)
                return made(root, False)
        except Exception as error:
            raise DataError(f"{name}: cannot be downloaded ({_short(error)}); {_wanted(item)}") from error


@contextmanager
def _one_at_a_time() -> Iterator[None]:
    """Workers that want the same set do not download it side by side."""
    folder_of_sets().mkdir(parents=True, exist_ok=True)
    with FileLock(folder_of_sets() / LOCK):
        yield


def _short(error: Exception) -> str:
    """The first sentence of the reason, without the folder that is gone by now; of a mirror after another, the last."""
    reason = one_line(error).rpartition("got: ")[2].partition(". ")[0]
    return re.sub(r"\S*/\.download-[^/\s]*/?", "", reason).rstrip(".")


def _can_download(factory: type) -> bool:
    """EMNIST and QMNIST pass on what they do not name; ImageNet passes it on to one that downloads nothing."""
    return any("download" in inspect.signature(kind).parameters for kind in factory.__mro__ if kind is not object)


@contextmanager
def _no_empty_folders(path: Path) -> Iterator[None]:
    """Where something fails, folders on the way to ``path`` that were not there before are taken away again."""
    absent = [folder for folder in (path, *path.parents) if not folder.exists()]
    try:
        yield
    except BaseException:
        with suppress(OSError):
            for folder in absent:
                if folder.exists():
                    folder.rmdir()  # which takes empty ones only
        raise


@contextmanager
def _staged(item: VisionSet) -> Iterator[Path]:
    """A folder to download and unpack in, with the files that somebody has put in place; at the end all of it belongs
    to the cache, and nothing of it where it fails."""
    root = folder_of_sets() / item.root
    root.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=".download-", dir=root) as folder:
        stage = Path(folder)
        for file in filter(Path.is_file, (root / item.folder / file for file in item.files)):
            (stage / item.folder).mkdir(parents=True, exist_ok=True)
            _linked(file, stage / item.folder / file.name)
        yield stage
        _moved(stage, root)


def _linked(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # a file system without hard links
        shutil.copy2(source, target)


def _moved(source: Path, target: Path) -> None:
    """Move all that is in a folder into another one, file by file where that has a folder of the same name."""
    for entry in source.iterdir():
        if entry.is_dir() and (target / entry.name).is_dir():
            _moved(entry, target / entry.name)
        else:
            os.replace(entry, target / entry.name)


@contextmanager
def _impatient() -> Iterator[None]:
    """A server that says nothing for SILENCE seconds is taken for absent."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(SILENCE)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def _wanted(item: VisionSet) -> str:
    """What to put where by hand, and which page has it."""
    import torchvision.datasets

    about, _, _ = (getattr(torchvision.datasets, item.factory).__doc__ or "").partition("\n\n")
    page = re.search(r"<(https?://[^\s>]+)>", about)
    source = f" from {page[1]}" if page else ""
    files = f"{', '.join(item.files)}{source}{', as published or unpacked,' if item.or_unpacked else ''}"
    return f"put {files} into {folder_of_sets() / item.place}"
