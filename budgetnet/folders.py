"""A folder of class folders: what its classes are, which images they hold, and which of them are for the test."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from budgetnet.dataset import DataSet
from budgetnet.errors import DataError
from budgetnet.images import Pictures, from_pictures
from budgetnet.layers import Shape
from budgetnet.words import plural

JPEG = {".jpg", ".jpeg", ".jpe", ".jfif"}
IMAGE_SUFFIXES = JPEG | {".png", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".pgm", ".ppm", ".jp2", ".avif"}
OTHERS = {"test", "val", "valid", "validation", "dev", "eval"}  # parts beside train


def from_class_folders(root: Path, image_shape: Shape | None) -> DataSet:
    """``train/<class>/*`` and ``test/<class>/*``, or ``<class>/*``, of which a fixed sixth becomes the test set.

    What there is of a test set is looked at once, but not opened. Raises DataError.
    """
    divided = _is_divided(root)
    source = root / "train" if divided else root
    classes = _folders(source)
    if len(classes) < 2:
        raise DataError(f"{source}: needs at least 2 class folders (or IDX files), but has {len(classes)}")
    files, others = _image_files(source, classes)
    training = Pictures.of_files(str(root), files)
    if empty := sorted(set(range(len(classes))) - set(training.labels)):
        raise DataError(
            f"{source / classes[empty[0]]}: a class folder must hold images ({', '.join(sorted(IMAGE_SUFFIXES))}), "
            "but has none"
        )
    if divided and (root / "test").is_dir():
        _test_files(root / "test", classes)
    return from_pictures(
        str(root),
        training,
        (lambda: Pictures.of_files(str(root), _test_files(root / "test", classes))) if divided else None,
        image_shape,
        tuple(classes),
        (*_left_out(others), *(_unread(root) if divided else ())),
    )


def _is_divided(root: Path) -> bool:
    """Whether ``train`` is a part with classes of its own, and not a class of trains."""
    train = root / "train"
    beside = set(_folders(root)) - {"train"}
    return train.is_dir() and (bool(_folders(train)) or not beside or bool(beside & OTHERS))


def _left_out(others: Sequence[Path]) -> tuple[str, ...]:
    """What is to be said of files that are no images by their names."""
    if not others:
        return ()
    kinds = ", ".join(sorted({path.suffix.lower() or path.name for path in others})[:5])
    return (f"{plural(len(others), 'file')} left out, by the name no image ({kinds})",)


def _unread(root: Path) -> tuple[str, ...]:
    """What is to be said of the parts beside train/."""
    parts = set(_folders(root))
    others = sorted(OTHERS & parts - {"test"})
    told = [f"{part}/ is not read; a fixed sixth of train/ is for validation" for part in others]
    return tuple(told if "test" in parts else [*told, "there is no test/, which confirm and freeze will need"])


def _folders(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))


def _image_files(folder: Path, classes: list[str]) -> tuple[list[tuple[Path, int]], list[Path]]:
    """Every image file with its label, in the order of the names; and the files that are no images by their names."""
    files, others = [], []
    for label, name in enumerate(classes):
        for path in sorted((folder / name).glob("**/*")):
            if path.is_dir() or path.name.startswith("."):
                continue
            if path.suffix.lower() in IMAGE_SUFFIXES:
                _check_there(path)
                files.append((path, label))
            else:
                others.append(path)
    return files, others


def _check_there(path: Path) -> None:
    """Raise DataError for a link that leads nowhere and for an empty file, without opening anything."""
    try:
        size = path.stat().st_size
    except OSError as error:
        raise DataError(f"{path}: cannot be read as an image: {error.strerror}") from error
    if size == 0:
        raise DataError(f"{path}: cannot be read as an image: it is empty")


def _test_files(folder: Path, classes: list[str]) -> list[tuple[Path, int]]:
    if not folder.is_dir():
        raise DataError(f"{folder}: must be a folder of class folders, but is not there")
    if extra := set(_folders(folder)) - set(classes):
        raise DataError(f"{folder}: class folders must be those of training, but {sorted(extra)[0]} is not")
    files, _ = _image_files(folder, classes)
    if files:
        return files
    raise DataError(f"{folder}: class folders must hold images, but have none")
