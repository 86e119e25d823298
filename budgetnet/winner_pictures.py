"""Pictures of a confirmed trial: its seeds, what it confuses, the images that it gets wrong, its first filters."""

from __future__ import annotations

from collections import Counter
from math import ceil
from typing import Any

import numpy as np

from budgetnet.drawing import BLUE, INK, VERMILION, Picture, accuracy_axis, error, figure, legend_below, picture
from budgetnet.survey import Champion
from budgetnet.words import plural, target_words, the_last

SHOWN = 40  # misclassified images
DARK = 64  # mean pixel below which images are light strokes on black, and are shown as ink on paper
ACROSS = 10  # of them in a row


def champion_pictures(champion: Champion) -> list[Picture]:
    """What there is to draw of a confirmed trial, in the order of a report."""
    drawn = [seeds(champion), confusion(champion)]
    if champion.mistaken:
        drawn.append(misclassified(champion))
    if champion.filters is not None:
        drawn.append(filters(champion))
    return drawn


def seeds(champion: Champion) -> Picture:
    """Test accuracy of every seed by epoch, with their mean and a band from the worst to the best."""
    runs = champion.runs
    epochs = list(range(1, runs.epochs + 1))
    curves = np.array([[error(accuracy) for accuracy in run.accuracies] for run in runs.runs])
    with figure() as drawn:
        axes = drawn.subplots()
        axes.fill_between(epochs, curves.min(0), curves.max(0), color=BLUE, alpha=0.25, linewidth=0, label="all seeds")
        for curve in curves:
            axes.plot(epochs, curve, color=BLUE, linewidth=0.6, alpha=0.6)
        mean = [error(accuracy) for accuracy in runs.by_epoch()]
        axes.plot(epochs, mean, color=BLUE, linewidth=2.2, label=f"mean of {plural(runs.n, 'seed')}")
        last = min(champion.aim.last, runs.epochs)
        axes.plot(
            [runs.epochs - last + 0.5, runs.epochs + 0.5],
            [error(champion.aim.target)] * 2,
            color=VERMILION,
            linewidth=2,
            linestyle="--",
            label=f"target {target_words(champion.aim.target)} in {the_last(last)}",
        )
        axes.set_xlim(0.5, runs.epochs + 0.5)
        axes.set_xlabel("epoch")
        accuracy_axis(axes, "test accuracy", [champion.aim.target, *(a for run in runs.runs for a in run.accuracies)])
        legend_below(axes, 3)
        told = (
            f"Trial {champion.record.number}, trained again on all training images from {plural(runs.n, 'seed')}; "
            "thin lines are seeds, the band reaches from the worst to the best."
        )
        return picture(drawn, "seeds", "The winner over its seeds", told)


def confusion(champion: Champion) -> Picture:
    """How many test images of one class are taken for another, per seed."""
    counts = champion.confusion() / champion.runs.n
    classes = len(counts)
    wrong = counts.copy()
    np.fill_diagonal(wrong, 0)
    small = classes > 20
    with figure(6.0, 5.4) as drawn:
        axes = drawn.subplots()
        shown = axes.imshow(np.where(wrong > 0, wrong, np.nan), cmap="cividis", vmin=0, interpolation="nearest")
        drawn.colorbar(shown, ax=axes, label="test images per seed", shrink=0.8)
        if not small:
            for (row, column), value in np.ndenumerate(wrong):
                if value > 0:
                    colour = "black" if value > wrong.max() / 2 else "white"
                    axes.text(
                        column,
                        row,
                        f"{value:.0f}" if value >= 10 else f"{value:.2g}",
                        ha="center",
                        va="center",
                        fontsize=7,
                        color=colour,
                    )
            for index in range(classes):
                axes.text(index, index, "·", ha="center", va="center", color=INK)
            names = [champion.called(label) for label in range(classes)]
            upright = max(map(len, names)) <= 2
            axes.set_xticks(range(classes), names, rotation=0 if upright else 45, ha="center" if upright else "right")
            axes.set_yticks(range(classes), names)
        axes.set_xlabel("taken for")
        axes.set_ylabel("true class")
        axes.grid(visible=False)
        told = (
            f"Mistakes of the last epoch's weights on {champion.runs.images:,} test images, averaged over "
            f"{plural(champion.runs.n, 'seed')}: {wrong.sum():.1f} per seed. {_commonest(champion, wrong)}"
        )
        return picture(drawn, "confusion", "What is taken for what", told)


def _commonest(champion: Champion, wrong: np.ndarray[Any, Any]) -> str:
    if not wrong.any():
        return ""
    row, column = (int(index) for index in np.unravel_index(int(wrong.argmax()), wrong.shape))
    what = f"{champion.called(row)} taken for {champion.called(column)}"
    return f"The commonest: {what}, {wrong[row, column]:.1f} times."


def misclassified(champion: Champion) -> Picture:
    """The test images that most seeds get wrong."""
    order = sorted(champion.mistaken, key=lambda index: (-len(champion.mistaken[index]), index))[:SHOWN]
    rows = ceil(len(order) / ACROSS)
    images, labels = champion.test.images, champion.test.labels
    shades = "gray_r" if float(images.float().mean()) < DARK else "gray"
    with figure(7.6, 0.5 + 1.02 * rows) as drawn:
        axes = drawn.subplots(rows, ACROSS, squeeze=False)
        for place in axes.flat:
            place.axis("off")
        for place, index in zip(axes.flat, order, strict=False):
            guesses = champion.mistaken[index]
            place.imshow(_shown(images[index].numpy()), cmap=shades, interpolation="nearest", vmin=0, vmax=255)
            taken_for = Counter(guesses).most_common(1)[0][0]
            told = f"{champion.called(int(labels[index]))}→{champion.called(taken_for)}"
            count = f"{len(guesses)}/{champion.runs.n}"
            place.set_title(f"{told}  {count}" if len(told) < 6 else f"{told}\n{count}", fontsize=7, pad=2)
        always = sum(len(guesses) == champion.runs.n for guesses in champion.mistaken.values())
        told = (
            f"True class → what it is taken for, and in how many of {plural(champion.runs.n, 'seed')}. "
            f"{len(champion.mistaken):,} test images are wrong in some seed, {always:,} in every one; "
            f"shown are the {len(order)} that most seeds get wrong."
        )
        return picture(drawn, "misclassified", "Images that it gets wrong", told)


def _shown(image: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """(C, H, W) as matplotlib wants it: (H, W) of one channel, (H, W, 3) of three."""
    return image.transpose(1, 2, 0) if image.shape[0] == 3 else image[0]


def filters(champion: Champion) -> Picture:
    """Weights of the first convolution: a column a filter, a row a channel of the image."""
    assert champion.filters is not None
    weights = champion.filters.float().numpy()
    outputs, inputs = weights.shape[:2]
    across = min(outputs, 16)
    rows = ceil(outputs / across) * inputs
    limit = float(np.abs(weights).max()) or 1.0
    with figure(7.6, 0.6 + 0.55 * rows) as drawn:
        axes = drawn.subplots(rows, across, squeeze=False)
        for place in axes.flat:
            place.axis("off")
        shown: Any = None
        for number in range(outputs):
            for channel in range(inputs):
                place = axes[number // across * inputs + channel, number % across]
                shown = place.imshow(
                    weights[number, channel], cmap="PuOr", vmin=-limit, vmax=limit, interpolation="nearest"
                )
        drawn.colorbar(shown, ax=axes, label="weight", shrink=0.9)
        size = "×".join(map(str, weights.shape[2:]))
        told = (
            f"The {outputs} filters of {size} weights of the first convolution (seed {champion.runs.seeds[0]}), "
            "orange below 0, purple above."
        )
        return picture(drawn, "filters", "First-layer filters", told)
