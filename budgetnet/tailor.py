"""A search space, or one network, made to measure for a data set: what was left open follows the data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from budgetnet.architecture import Architecture
from budgetnet.dataset import HOLDOUT, DataSet, times
from budgetnet.dimension import Dimension
from budgetnet.errors import DataError
from budgetnet.recipe import Recipe
from budgetnet.space import SearchSpace

FEWEST = HOLDOUT  # training images of which one is for validation
STEPS = 8  # an epoch has at least so many steps, as far as …
SMALLEST_BATCH = 16  # … batches need not be smaller than this for it


def followed(space: SearchSpace, data: DataSet) -> SearchSpace:
    """The space with the data's input and classes where it leaves them open; then it asks for no receptive field and no
    last map that are larger than the image. Raises DataError where it is written for something else."""
    for what, found, wanted in (
        ("images of shape", data.input_shape, space.input),
        ("classes", data.classes, space.classes),
    ):
        if wanted is not None and found != wanted:
            raise DataError(f"data {data.name}: has {what} {found}, but the space {space.name} is for {wanted}")
    least = space.require
    if space.input is None:
        side = min(data.input_shape[1:])
        least = least.model_copy(
            update={name: min(side, getattr(least, name)) for name in ("receptive_field", "final_map")}
        )
    return space.model_copy(update={"input": data.input_shape, "classes": data.classes, "require": least})


def check_enough(data: DataSet) -> None:
    """Raise DataError unless there are images to train on and to validate with."""
    count = len(data.training())
    if count < FEWEST:
        raise DataError(f"{data.name}: training needs at least {FEWEST} images, but there are {count}")


def with_smaller_batches(space: SearchSpace, data: DataSet, images: int | None) -> tuple[SearchSpace, tuple[str, ...]]:
    """The space without batch sizes that are too large for the data; a note, if it had some. ``images``: train on at
    most so many."""
    trained = _trained_in_search(data)
    taken = trained if images is None else min(images, trained)
    largest = largest_batch(taken)
    batches = space.recipe.get("batch_size", Dimension((Recipe.batch_size,)))
    smaller = _at_most(batches, largest)
    if smaller == batches:
        return space, ()
    recipe = {**space.recipe, "batch_size": smaller}
    starts = tuple({name: value for name, value in start.items() if name != "batch_size"} for start in space.start)
    return space.model_copy(update={"recipe": recipe, "start": starts}), (_batches(data, largest, taken),)


def _trained_in_search(data: DataSet) -> int:
    """How many images are left to train on where some validate."""
    count = len(data.training())
    return max(1, count - round(count / HOLDOUT))


def _batches(data: DataSet, largest: int, images: int) -> str:
    return f"{data.name}: batches of at most {largest} images, because there are only {images:,} to train on"


def largest_batch(images: int) -> int:
    """A power of two: STEPS of it make an epoch, unless it would be below SMALLEST_BATCH; never more than there are."""
    wanted = min(images, max(SMALLEST_BATCH, images // STEPS))
    return int(2 ** (wanted.bit_length() - 1))


def _at_most(batches: Dimension, largest: int) -> Dimension:
    """The batch sizes that are not too large; the largest that is not, where all are."""
    if batches.choices:
        kept = tuple(size for size in batches.choices if isinstance(size, int) and size <= largest)
        return Dimension(kept or (largest,))
    if batches.high <= largest:
        return batches
    step = int(batches.step or 1)
    high = batches.low + (largest - batches.low) // step * step
    return Dimension((largest,)) if high <= batches.low else replace(batches, high=high)


def dressed(architecture: Architecture, written: Mapping[str, bool], data: DataSet) -> Architecture:
    """One network with the data's input and classes where these are not written. Raises DataError where they are, and
    are others."""
    network = architecture
    if not written["input"]:
        network = replace(network, input_shape=data.input_shape)
    if not written["classes"]:
        network = replace(network, head=replace(network.head, classes=data.classes))
    for what, found, wanted in (
        ("images", times(data.input_shape), times(network.input_shape)),
        ("classes", data.classes, network.head.classes),
    ):
        if found != wanted:
            raise DataError(f"data {data.name}: has {found} {what}, but the network is for {wanted}")
    return network


def with_fitting_batch(recipe: Recipe, data: DataSet, *, final: bool) -> tuple[Recipe, tuple[str, ...]]:
    """A recipe whose batch size nobody wrote, with one that is not too large for the data; a note, if it was."""
    taken = len(data.training()) if final else _trained_in_search(data)
    largest = largest_batch(taken)
    if recipe.batch_size <= largest:
        return recipe, ()
    return replace(recipe, batch_size=largest), (_batches(data, largest, taken),)
