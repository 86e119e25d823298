"""Numbers as words, each kind of them formatted in this one place."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from math import ceil, log10

from budgetnet.recipe import Recipe
from budgetnet.statistics import Interval


@dataclass(frozen=True)
class Accuracies:
    """How accuracies counted on ``images`` images are written: with as many decimals as one image is worth."""

    images: int

    @property
    def decimals(self) -> int:
        return max(2, ceil(log10(self.images)) - 2)

    def bare(self, fraction: float) -> str:
        """``99.41``."""
        return f"{100 * fraction:.{self.decimals}f}"

    def spread(self, std: float | None) -> str:
        """What follows a mean: `` ± 0.07``, nothing where a single run has no spread."""
        return "" if std is None else f" ± {self.bare(std)}"

    def percent(self, fraction: float) -> str:
        """``99.41 %``."""
        return f"{self.bare(fraction)} %"

    def interval(self, interval: Interval) -> str:
        """``99.41 to 99.52 %``, inside 0 to 100."""
        return f"{self.bare(max(interval.low, 0))} to {self.percent(min(interval.high, 1))}"

    def points(self, difference: float) -> str:
        """A difference without its sign: ``0.05 points``."""
        return f"{self.bare(abs(difference))} points"

    def signed(self, difference: float, decimals: int | None = None) -> str:
        """``+0.05``."""
        decimals = self.decimals if decimals is None else decimals
        return f"{round(100 * difference, decimals) + 0.0:+.{decimals}f}"  # never -0.00

    def signed_interval(self, interval: Interval) -> str:
        """``-0.02 to +0.08 points``; with so many more decimals as show on which side of zero an end lies."""
        ends = interval.low, interval.high
        finer = range(self.decimals, self.decimals + 3)
        decimals = next((d for d in finer if all(round(100 * end, d) or not end for end in ends)), None)
        return " to ".join(self.signed(end, decimals) for end in ends) + " points"


def count(value: int) -> str:
    """``7,964``."""
    return f"{value:,}"


def share(fraction: float) -> str:
    """A proportion of few runs or of a budget: ``72.2 %``."""
    return f"{100 * fraction:.1f} %"


def target_words(fraction: float) -> str:
    """A target with all its digits, for it is set and not measured: ``99.4 %``."""
    return f"{100 * fraction:.10g} %"


def probability(p: float) -> str:
    """``0.043``; ``< 0.001`` below that."""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def short(value: object) -> str:
    """A hyperparameter as a person reads it: four digits of a float."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def recipe_changes(first: Recipe, second: Recipe) -> str:
    """What the second recipe does otherwise: ``learning_rate 0.05 → 0.1, ema 0.0 → 0.999``."""
    old, new = asdict(first), asdict(second)
    return ", ".join(
        f"{name} {short(old[name]) or 'none'} → {short(new[name]) or 'none'}" for name in new if new[name] != old[name]
    )


def plural(n: int, noun: str) -> str:
    """``1 seed``, ``3 seeds``."""
    return f"{count(n)} {noun}{'' if n == 1 else 's'}"


def the_last(count: int) -> str:
    """``the last 5 epochs``."""
    return "the last epoch" if count == 1 else f"the last {count} epochs"
