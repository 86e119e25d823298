"""A picture of what the centre of a feature map sees: the field over the input, and how strongly each pixel counts."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from budgetnet.effective import MASS, EffectiveField
from budgetnet.files import replace_together

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FIELD, HELD = "#D55E00", "#0072B2"  # of the palette of Okabe and Ito, which colour-blind readers can tell apart
Box = tuple[tuple[float, float], ...]  # first and last pixel, down and across


def plot_field(
    path: Path,
    title: str,
    background: np.ndarray[Any, Any],
    field: Box,
    effective: EffectiveField | None = None,
) -> None:
    """Write the picture. ``background``: (height, width), shown in grey; ``field``: of the centre cell, unclipped.

    Raises ModelError where the file cannot be written.
    """
    from matplotlib.figure import Figure

    panels = 1 if effective is None else 2
    figure = Figure(figsize=(4.4 * panels + 0.4, 4.7), dpi=150, layout="constrained", facecolor="white")
    axes = figure.subplots(1, panels, squeeze=False)[0]
    figure.suptitle(title, fontsize=11)
    _theoretical(axes[0], background, field)
    if effective is not None:
        _measured(axes[1], figure, effective)
    buffer = BytesIO()
    figure.savefig(buffer, format=path.suffix[1:].lower(), metadata={"Date": None} if path.suffix == ".svg" else None)
    replace_together({path: buffer.getvalue()})


def _theoretical(axes: Axes, background: np.ndarray[Any, Any], field: Box) -> None:
    limits: dict[str, Any] = (
        {} if np.ptp(background) else {"vmin": 0.0, "vmax": 1.0}
    )  # of one grey, or as the images are normalised
    axes.imshow(background, cmap="gray_r", interpolation="nearest", **limits)
    height, width = background.shape
    _box(axes, ((0, height - 1), (0, width - 1)), "0.5", "input", dashes=True)
    _box(axes, field, FIELD, "receptive field")
    (top, bottom), (left, right) = field
    axes.plot((left + right) / 2, (top + bottom) / 2, "+", color=FIELD, markersize=9)
    margin = 0.04 * max(height, width) + 1
    axes.set_xlim(min(left, 0) - margin, max(right, width - 1) + margin)
    axes.set_ylim(max(bottom, height - 1) + margin, min(top, 0) - margin)
    axes.set_title(f"can see {bottom - top + 1:g} × {right - left + 1:g} pixels", fontsize=10)
    _labelled(axes)


def _measured(axes: Axes, figure: Any, effective: EffectiveField) -> None:
    shown = axes.imshow(100 * effective.strength, cmap="cividis", interpolation="nearest", vmin=0)
    _box(axes, effective.box(), HELD, f"{MASS:.0%} of the gradient", light=True)
    height, width = effective.size()
    axes.set_title(f"depends on {height} × {width} for {MASS:.0%}, n = {effective.images} images", fontsize=10)
    figure.colorbar(shown, ax=axes, label="% of the absolute gradient", shrink=0.8)
    _labelled(axes)


def _box(axes: Axes, box: Box, colour: str, label: str, *, dashes: bool = False, light: bool = False) -> None:
    from matplotlib.patches import Rectangle

    (top, bottom), (left, right) = box
    frame = Rectangle(
        (left - 0.5, top - 0.5),
        right - left + 1,
        bottom - top + 1,
        fill=False,
        edgecolor="white" if light else colour,
        linewidth=1 if dashes else 2,
        linestyle="--" if dashes else "-",
        label=label,
    )
    axes.add_patch(frame)


def _labelled(axes: Axes) -> None:
    axes.set_xlabel("column (pixels)")
    axes.set_ylabel("row (pixels)")
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=2, fontsize=8, frameon=True, facecolor="0.75")
