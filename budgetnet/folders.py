"""A folder of class folders: what its classes are, which images they hold, and which of them are for the test."""

from __future__ import annotations

from pathlib import Path

from budgetnet.dataset import DataSet
from budgetnet.errors import DataError
from budgetnet.images import Pictures, from_pictures
from budgetnet.layers import Shape

IMAGE_SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".pgm", ".ppm"}


def from_class_folders(root: Path, image_shape: Shape | None) -> DataSet:
    """``train/<class>/*`` and ``test/<class>/*``, or ``<class>/*``, of which a fixed sixth becomes the test set."""
    divided = (root / "train").is_dir()
    source = root / "train" if divided else root
    classes = _folders(source)
    if len(classes) < 2:
        raise DataError(f"{source}: needs at least 2 class folders (or IDX files), but has {len(classes)}")
    training = Pictures.of_files(str(root), _image_files(source, classes))
    if empty := sorted(set(range(len(classes))) - set(training.labels)):
        raise DataError(
            f"{source / classes[empty[0]]}: a class folder must hold images ({', '.join(sorted(IMAGE_SUFFIXES))}), "
            "but has none"
        )
    return from_pictures(
        str(root),
        training,
        (lambda: Pictures.of_files(str(root), _test_files(root / "test", classes))) if divided else None,
        image_shape,
        tuple(classes),
    )


def _folders(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))


def _image_files(folder: Path, classes: list[str]) -> list[tuple[Path, int]]:
    """Every image file with its label, in the order of the names."""
    files = []
    for label, name in enumerate(classes):
        found = (folder / name).glob("**/*")
        of_class = sorted(p for p in found if p.suffix.lower() in IMAGE_SUFFIXES and not p.name.startswith("."))
        files += [(path, label) for path in of_class]
    return files


def _test_files(folder: Path, classes: list[str]) -> list[tuple[Path, int]]:
    if not folder.is_dir():
        raise DataError(f"{folder}: must be a folder of class folders, but is not there")
    if extra := set(_folders(folder)) - set(classes):
        raise DataError(f"{folder}: class folders must be those of training, but {sorted(extra)[0]} is not")
    if files := _image_files(folder, classes):
        return files
    raise DataError(f"{folder}: class folders must hold images, but have none")
