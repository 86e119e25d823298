"""Whether one network is better than another: over the seeds that both were trained from, and over the test images."""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

from budgetnet.errors import ModelError
from budgetnet.results import Confirmation
from budgetnet.statistics import Interval, mcnemar, mean, mean_interval, paired_p, seeds_needed, std

LEVEL = 0.05  # of a p-value, as the intervals are 95 %
LEAST = 3  # shared seeds; two whose differences happen to be equal seem to have no spread at all


@dataclass(frozen=True)
class Comparison:
    """The second network against the first.

    differences: test accuracy (a fraction) of the last epoch, second less first, a shared seed each. only_first,
    only_second: test images that only one of the two networks of the first shared seed classifies correctly.
    """

    seeds: tuple[int, ...]
    differences: tuple[float, ...]
    only_first: int
    only_second: int
    images: int

    @property
    def least_spread(self) -> float:
        """Standard deviation that whole images alone give a difference: each side is rounded to one (1/12 + 1/12)."""
        return sqrt(1 / 6) / self.images

    @property
    def n(self) -> int:
        """Shared seeds."""
        return len(self.seeds)

    @property
    def gap(self) -> float:
        """Mean difference."""
        return mean(self.differences)

    @property
    def interval(self) -> Interval | None:
        """95 % interval of the mean difference, by Student's paired test; None for one seed."""
        return mean_interval(self.differences, least=self.least_spread)

    @property
    def p(self) -> float | None:
        """Two-sided p of the same test; None for one seed."""
        return paired_p(self.differences, least=self.least_spread)

    @property
    def images_p(self) -> float:
        """Two-sided p of McNemar's exact test on the images of the first shared seed."""
        return mcnemar(self.only_first, self.only_second)

    @property
    def beyond_seeds(self) -> bool:
        """Whether other seeds would hardly turn the sign of the difference; fewer than three show too little."""
        return self.n >= LEAST and self.interval is not None and 0 not in self.interval

    @property
    def beyond_images(self) -> bool:
        """Whether the images of the first shared seed say the same, and others would hardly turn that."""
        same_side = (self.only_second - self.only_first) * self.gap > 0
        return same_side and self.images_p < LEVEL

    @property
    def seeds_needed(self) -> int | None:
        """Shared seeds that would show a true difference of this size in four cases of five; None if not to be told."""
        if self.n < LEAST:
            return None
        needed = seeds_needed(self.gap, max(std(self.differences) or 0.0, self.least_spread))
        return None if needed is None else max(needed, self.n + 1)


def compare(first: Confirmation, second: Confirmation) -> Comparison:
    """Pair two confirmations of the same test images by their seeds. Raises ModelError where they share none."""
    if first.images != second.images:
        raise ModelError(f"only the same test images compare, but there are {first.images:,} and {second.images:,}")
    ours, theirs = ({run.seed: run for run in runs.runs} for runs in (first, second))
    seeds = tuple(sorted(ours.keys() & theirs.keys()))
    if not seeds:
        raise ModelError(
            f"a paired test needs shared seeds, but these are {', '.join(map(str, first.seeds))} "
            f"and {', '.join(map(str, second.seeds))}"
        )
    wrong, also_wrong = ({index for index, _ in runs[seeds[0]].outcome.wrong} for runs in (ours, theirs))
    return Comparison(
        seeds,
        tuple((theirs[seed].final.correct - ours[seed].final.correct) / first.images for seed in seeds),
        only_first=len(also_wrong - wrong),
        only_second=len(wrong - also_wrong),
        images=first.images,
    )
