"""A data set as uint8 tensors, and the one fixed, stratified split that every search and every report uses."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from budgetnet.errors import DataError

SPLIT_SEED = 8000  # part of every result ever reported: changing it changes which images validate
MOST_CLASSES = 100_000  # far more than any known set has; a label beyond it is a number of something else
HOLDOUT = 6  # one image in six is held out: 10,000 of MNIST's 60,000


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

    def fingerprint(self) -> Fingerprint:
        """What tells these images, as they are read, from any others."""
        digest = hashlib.sha256(repr(tuple(self.images.shape)).encode())
        for part in (self.images, self.labels):
            digest.update(part.cpu().contiguous().numpy().data)
        return Fingerprint(len(self), digest.hexdigest())


@dataclass(frozen=True)
class Fingerprint:
    """How many images there are, and the SHA-256 of their shape, pixels and labels."""

    count: int
    sha256: str


@dataclass(frozen=True)
class DataSet:
    """A data set by description; its files are read when a split is asked for, and then once.

    ``input_shape`` is (C, H, W); ``mean`` and ``std`` are per channel, of the training images scaled to 0..1.
    ``class_names``: of all classes, where the data has names for them. ``notes``: what a person should know of how the
    images came to be as they are, a line each; commands print them.
    """

    name: str
    input_shape: tuple[int, int, int]
    classes: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    training: Callable[[], Split] = field(repr=False, compare=False)
    test: Callable[[], Split] = field(repr=False, compare=False)
    limits: tuple[int, int] | None = None
    class_names: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

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
        if tuple(test.images.shape[1:]) != self.input_shape:
            raise DataError(
                f"{self.name}: test images must be {times(self.input_shape)} as those of training, "
                f"but are {times(test.images.shape[1:])}"
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


# What readers share -------------------------------------------------------------------------------------------------


def described(
    name: str,
    training: Callable[[], Split],
    test: Callable[[], Split],
    *,
    class_names: tuple[str, ...] = (),
    notes: tuple[str, ...] = (),
) -> DataSet:
    """A DataSet whose shape, classes, mean and std are read off its training images."""
    split = training()
    mean, std = _moments(split.images)
    channels, height, width = split.images.shape[1:]
    labels = int(split.labels.max()) + 1
    count = len(class_names) or labels
    if count < 2:
        raise DataError(f"{name}: needs at least 2 classes, but has {count}")
    if labels > count:
        raise DataError(f"{name}: labels must be below {count}, the number of names, but one is {labels - 1}")
    if labels > MOST_CLASSES:
        raise DataError(f"{name}: labels must be below {MOST_CLASSES:,}, but one is {labels - 1:,}")
    shape, notes = (channels, height, width), (*notes, *_unseen(name, split.labels, count, class_names))
    return DataSet(name, shape, count, mean, std, training, test, class_names=class_names, notes=notes)


def _unseen(name: str, labels: Tensor, count: int, class_names: Sequence[str]) -> tuple[str, ...]:
    """What is to be said of classes without a training image: nothing where there are none."""
    missing = np.flatnonzero(torch.bincount(labels, minlength=count).numpy() == 0).tolist()
    if not missing:
        return ()
    told = ", ".join(class_names[label] if class_names else str(label) for label in missing[:5])
    more = " …" if len(missing) > 5 else ""
    return (f"{name}: {count - len(missing):,} of {count:,} classes have training images, but not {told}{more}",)


def divided(name: str, whole: Callable[[], Split], *, class_names: tuple[str, ...] = ()) -> DataSet:
    """A data set that names no test images: a fixed sixth of it, stratified, is the test set."""
    training, test = (cache(partial(_held_out, whole, test)) for test in (False, True))
    return described(name, training, test, class_names=class_names)


def _held_out(whole: Callable[[], Split], test: bool) -> Split:
    """The sixth, or the rest."""
    split = whole()
    held = holdout_indices(split.labels)
    return split.take(held if test else np.setdiff1d(np.arange(len(split)), held))


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


def checked_split(images: Tensor, labels: Tensor, place: str) -> Split:
    if len(images) != len(labels):
        raise DataError(f"{place}: images and labels must be equally many, but are {len(images):,} and {len(labels):,}")
    if images.numel() == 0:
        raise DataError(f"{place}: must hold at least one image, but its shape is {times(images.shape)}")
    if int(labels.min()) < 0:
        raise DataError(f"{place}: labels must be 0 or more, but one is {int(labels.min())}")
    return Split(images, labels)


def times(shape: Iterable[int]) -> str:
    return "×".join(str(n) for n in shape) or "a single value"
