"""Hard limits on what a network may cost, and the widths that use them up."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil

from budgetnet.architecture import Architecture
from budgetnet.cost import Cost, cost
from budgetnet.errors import BudgetError


@dataclass(frozen=True)
class Limits:
    """``budget``: params stay strictly below it. ``max_macs``, ``max_activations``: at most so many; None: no limit."""

    budget: int
    max_macs: int | None = None
    max_activations: int | None = None

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value is not None and value < 1:
                raise BudgetError(f"{name} must be at least 1, but got {name}={value}")

    def as_tuple(self) -> tuple[int, int | None, int | None]:
        """(budget, max_macs, max_activations)."""
        return self.budget, self.max_macs, self.max_activations

    def overshoot(self, spent: Cost) -> dict[str, int]:
        """By how much each limit is missed: the excess to shed, absent where a limit holds."""
        excess = {"params": spent.params - (self.budget - 1)}
        if self.max_macs is not None:
            excess["macs"] = spent.macs - self.max_macs
        if self.max_activations is not None:
            excess["peak_activations"] = spent.peak_activations - self.max_activations
        return {name: value for name, value in excess.items() if value > 0}

    def allow(self, spent: Cost) -> bool:
        """Whether every limit holds."""
        return not self.overshoot(spent)

    def filled(self, fill: float) -> Limits:
        """The same limits with only the share ``fill`` of the params budget."""
        return Limits(max(1, ceil(fill * self.budget)), self.max_macs, self.max_activations)


@dataclass(frozen=True)
class Width:
    """One free width of a network: the blocks that share it, its share of the whole, and the values it may take.

    Values are ``least``, ``least + step``, … up to ``most`` (None: no end).
    """

    blocks: tuple[int, ...]
    proportion: float
    step: int = 1
    least: int = 1
    most: int | None = None

    def at(self, scale: float) -> int:
        """The allowed value next to ``scale`` times the proportion."""
        steps = max(0, round((scale * self.proportion - self.least) / self.step))
        return self.capped(self.least + steps * self.step)

    def capped(self, value: int) -> int:
        """``value``, or the largest allowed value below it."""
        if self.most is None or value <= self.most:
            return value
        return self.least + (self.most - self.least) // self.step * self.step


def fit(template: Architecture, widths: Sequence[Width], limits: Limits) -> Architecture:
    """The largest network of the template's shape, its widths in the given proportions, that the limits allow.

    The common scale is pushed as far as it goes; then single widths grow by a step, the one that lags furthest behind
    its proportion first, until no width can grow without breaking a limit. Cost never falls when a width grows, so
    the result is maximal. Raises BudgetError when even the smallest widths are too much, ArchitectureError when the
    template is no network at all.
    """

    def allowed(values: Sequence[int]) -> bool:
        return limits.allow(cost(_apply(template, widths, values)))

    smallest = [width.at(0) for width in widths]
    if not allowed(smallest):
        least = cost(_apply(template, widths, smallest))
        raise BudgetError(f"the smallest network of this shape has {least.params:,} params and {least.macs:,} MACs")
    values = _largest_scale(widths, allowed)
    return _apply(template, widths, _top_up(widths, values, allowed))


def _apply(template: Architecture, widths: Sequence[Width], values: Sequence[int]) -> Architecture:
    by_block = {block: value for width, value in zip(widths, values, strict=True) for block in width.blocks}
    return template.with_widths([by_block[block] for block in range(len(by_block))])


def _largest_scale(widths: Sequence[Width], allowed: Callable[[Sequence[int]], bool]) -> list[int]:
    """Widths at the largest common scale that is allowed: doubling, then bisection to the last step."""

    def at(scale: float) -> list[int]:
        return [width.at(scale) for width in widths]

    low, high = 0.0, 1.0
    while allowed(at(high)) and at(high) != at(2 * high + 1e9):
        low, high = high, 2 * high
    if allowed(at(high)):
        return at(high)
    while at(low) != at(high) and high - low > 1e-9 * high:
        middle = (low + high) / 2
        low, high = (middle, high) if allowed(at(middle)) else (low, middle)
    return at(low)


def _top_up(widths: Sequence[Width], values: Sequence[int], allowed: Callable[[Sequence[int]], bool]) -> list[int]:
    """Grow single widths by one step, the one furthest behind its proportion first, until none can grow."""
    current = list(values)
    while True:
        for index in sorted(range(len(widths)), key=lambda i: current[i] / widths[i].proportion):
            grown = current.copy()
            grown[index] = widths[index].capped(current[index] + widths[index].step)
            if grown != current and allowed(grown):
                current = grown
                break
        else:
            return current
