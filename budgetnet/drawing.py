"""How our pictures are drawn: SVG whose ink follows the page's theme, a palette for colour-blind readers, fair axes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import StringIO
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's palette for colour-blind readers, less what fades on white, with a blue that does not fade on black.
BLUE, ORANGE, GREEN, VERMILION, PURPLE, GREY = "#1F83C9", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#8C8C8C"
INK = "#010203"  # becomes the text colour of the page
THEME = "svg{color:#1f2328}@media (prefers-color-scheme:dark){svg{color:#e6edf3}}"
DECADES = (1, 0.1, 0.01, 0.001, 0.0001)
STEPS = ((0.1, 0.2, 0.5, 0.9), (0.1, 0.15, 0.2, 0.3, 0.5, 0.7, 0.9))  # of a decade of error: coarse and fine ticks
LEAST_ERROR = 5e-5  # what a perfect accuracy is drawn as: half an image of 10,000

STYLE: Any = {
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": INK,
    "axes.titlecolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "grid.color": INK,
    "grid.alpha": 0.15,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.facecolor": "none",
    "figure.facecolor": "none",
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "font.size": 10,
    "font.family": "DejaVu Sans",
    "svg.fonttype": "path",
}


@dataclass(frozen=True)
class Picture:
    """A finished picture. name: of its file; title: what it shows; told: the same in words, for those who cannot see
    it and for below it; svg: the file's text."""

    name: str
    title: str
    told: str
    svg: str

    @property
    def inline(self) -> str:
        """As an element of an HTML page: without prolog, told aloud as one picture."""
        label = self.title.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;")
        return self.svg[self.svg.index("<svg") :].replace("<svg", f'<svg role="img" aria-label="{label}"', 1)


@contextmanager
def figure(width: float = 7.2, height: float = 4.2) -> Iterator[Figure]:
    """An empty figure of so many inches in our style; to be turned into a picture before the block ends."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(STYLE):
        yield Figure(figsize=(width, height), layout="constrained")


def picture(drawn: Figure, name: str, title: str, told: str) -> Picture:
    """The figure as SVG, the same bytes for the same content."""
    import matplotlib

    out = StringIO()
    with matplotlib.rc_context({"svg.hashsalt": name}):
        drawn.savefig(out, format="svg", metadata={"Date": None, "Creator": None})
    svg = out.getvalue().replace(INK, "currentColor")
    svg = re.sub(r"<metadata>.*?</metadata>\s*", "", svg, flags=re.DOTALL)
    svg = re.sub(r"<style type=\"text/css\">", f'<style type="text/css">{THEME}', svg, count=1)
    return Picture(name, title, told, "\n".join(line.rstrip() for line in svg.splitlines()) + "\n")


def error(accuracy: float) -> float:
    """What an accuracy is drawn at."""
    return max(1 - accuracy, LEAST_ERROR)


def accuracy_axis(axes: Axes, what: str, accuracies: Iterable[float]) -> None:
    """The vertical axis, which reads accuracy and is the logarithm of the error, so it needs no arbitrary start.

    Points are drawn at ``error(accuracy)``. ``accuracies``: all that the axis must hold.
    """
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    errors = [error(accuracy) for accuracy in accuracies] or [0.01]
    least, most = min(errors) / 1.15, max(errors) * 1.15
    axes.set_yscale("log")
    axes.set_ylim(most, least)
    axes.yaxis.set_major_locator(FixedLocator(_ticks(least, most)))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * (1 - value):.5g}"))
    axes.set_ylabel(f"{what} (%), scale: log of the error")


def _ticks(least: float, most: float) -> list[float]:
    """Round errors between two; at least two of them, three where finer steps give three."""
    found: list[float] = []
    for steps in STEPS:
        found = [decade * step for decade in DECADES for step in steps if step < 0.9 or decade == 1]
        if sum(least <= tick <= most for tick in found) > 2:
            break
    inside = [tick for tick in found if least <= tick <= most]
    return inside if len(inside) > 1 else [least, most]


def legend_below(axes: Axes, columns: int = 2) -> None:
    """A legend that hides nothing."""
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.15), ncols=columns)
