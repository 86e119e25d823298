"""Hard limits on what a network may cost, and the widths that use them up."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil, inf

from budgetnet.architecture import Architecture
from budgetnet.cost import Cost, cost_by_width
from budgetnet.errors import BudgetError
from budgetnet.pieces import MOST_CHANNELS


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
        return (
            spent.params < self.budget
            and (self.max_macs is None or spent.macs <= self.max_macs)
            and (self.max_activations is None or spent.peak_activations <= self.max_activations)
        )

    def filled(self, fill: float) -> Limits:
        """The same limits with only the share ``fill`` of the params budget."""
        return Limits(max(1, ceil(fill * self.budget)), self.max_macs, self.max_activations)


@dataclass(frozen=True)
class Width:
    """One free width of a network: the blocks that share it, its share of the whole, and the values it may take.

    Values are ``least``, ``least + step``, … up to ``most`` (None: what an architecture allows).
    """

    blocks: tuple[int, ...]
    proportion: float
    step: int = 1
    least: int = 1
    most: int | None = None

    def __post_init__(self) -> None:
        if not 0 < self.proportion < inf:
            raise BudgetError(f"a width needs a proportion above 0, but got proportion={self.proportion}")
        if self.step < 1 or self.least < 1 or self.top < self.least:
            raise BudgetError(
                f"a width goes up from at least 1, but got least={self.least}, step={self.step}, most={self.most}"
            )

    @property
    def top(self) -> int:
        """The largest allowed value."""
        most = MOST_CHANNELS if self.most is None else min(self.most, MOST_CHANNELS)
        return self.least + (most - self.least) // self.step * self.step

    def at(self, scale: float) -> int:
        """The allowed value next to ``scale`` times the proportion."""
        steps = max(0, round((scale * self.proportion - self.least) / self.step))
        return self.capped(self.least + steps * self.step)

    def capped(self, value: int) -> int:
        """``value``, or the largest allowed value if it is above that."""
        return min(value, self.top)


def fit(template: Architecture, widths: Sequence[Width], limits: Limits) -> Architecture:
    """The largest network of the template's shape, its widths in the given proportions, that the limits allow.

    The common scale is pushed as far as it goes; then single widths grow by a step, the one that lags furthest behind
    its proportion first, until no width can grow without breaking a limit. Blocks that no ``Width`` names keep theirs.
    Raises BudgetError when even the smallest widths are too much, ArchitectureError when the template is no network.
    """
    spent, given = cost_by_width(template), template.widths

    def by_block(values: Sequence[int]) -> list[int]:
        all_widths = list(given)
        for width, value in zip(widths, values, strict=True):
            for block in width.blocks:
                all_widths[block] = value
        return all_widths

    def allowed(values: Sequence[int]) -> bool:
        return limits.allow(spent(by_block(values)))

    smallest = _at(widths, 0)
    if not allowed(smallest):
        raise BudgetError(_too_much(spent(by_block(smallest)), limits))
    return template.with_widths(by_block(_top_up(widths, _largest_scale(widths, allowed), allowed)))


def _too_much(least: Cost, limits: Limits) -> str:
    over = limits.overshoot(least)
    missed = " and ".join(f"{excess:,} {UNITS[name]} too many" for name, excess in over.items())
    return f"the smallest network of this shape has {least.params:,} params and {least.macs:,} MACs, {missed}"


UNITS = {"params": "params", "macs": "MACs", "peak_activations": "activations"}


def _largest_scale(widths: Sequence[Width], allowed: Callable[[Sequence[int]], bool]) -> list[int]:
    """Widths at the largest common scale that is allowed: doubling, then bisection until one step is left to decide."""
    low, high = _bracket(widths, allowed)
    below, above = _at(widths, low), _at(widths, high)
    while len(_crossings(widths, below, above)) > 1 and high - low > 1e-9 * high:
        middle = (low + high) / 2
        values = _at(widths, middle)
        if values == below or (values != above and allowed(values)):
            low, below = middle, values
        else:
            high, above = middle, values
    return below


def _bracket(widths: Sequence[Width], allowed: Callable[[Sequence[int]], bool]) -> tuple[float, float]:
    """A scale that is allowed, and one that is not – or the same twice, when every width has reached its most."""
    low, high = 0.0, 1.0
    while allowed(values := _at(widths, high)):
        if values == [width.top for width in widths]:
            return high, high
        low, high = high, 2 * high
    return low, high


def _at(widths: Sequence[Width], scale: float) -> list[int]:
    return [width.at(scale) for width in widths]


def _crossings(widths: Sequence[Width], below: Sequence[int], above: Sequence[int]) -> set[float]:
    """The scales between two sets of values at which some width takes its first or its last step."""
    return {
        (value + width.step / 2) / width.proportion
        for width, low, high in zip(widths, below, above, strict=True)
        if low != high
        for value in (low, high - width.step)
    }


def _top_up(widths: Sequence[Width], values: Sequence[int], allowed: Callable[[Sequence[int]], bool]) -> list[int]:
    """Grow single widths by one step, the one furthest behind its proportion first, until none can grow.

    A width that was refused is asked again at the end, for growing can make room: a residual block whose width comes to
    equal its input's loses its shortcut.
    """
    current, grew = list(values), True
    while grew:
        grew, waiting = False, list(range(len(widths)))
        while waiting:
            index = min(waiting, key=lambda i: current[i] / widths[i].proportion)
            grown = current.copy()
            grown[index] = widths[index].capped(current[index] + widths[index].step)
            if grown != current and allowed(grown):
                current, grew = grown, True
            else:
                waiting.remove(index)
    return current
