"""Whether one network is better than another: over the seeds that both were trained from, and over the test images."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import cached_property

from budgetnet.errors import ModelError
from budgetnet.results import Confirmation
from budgetnet.statistics import Interval, mean, mean_interval, paired_p, rounding_error, seeds_needed, sign_flip_p, std

LEVEL = 0.05  # of a p-value, as the intervals are 95 %
LEAST = 3  # shared seeds; two whose differences happen to be equal seem to have no spread at all


@dataclass(frozen=True)
class Comparison:
    """The second network against the first.

    differences: test accuracy (a fraction) of the last epoch, second less first, a shared seed each. by_image: for
    every test image of which they are not the same, in how many shared seeds the second classifies it correctly, less
    the first.
    """

    seeds: tuple[int, ...]
    differences: tuple[float, ...]
    by_image: tuple[int, ...]
    images: int

    @property
    def least_spread(self) -> float:
        """Standard deviation that whole images alone give a difference: each side is rounded to one."""
        return rounding_error(self.images, 2)

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
    def more_first(self) -> int:
        """Test images that more networks of the first classify correctly; with one shared seed, only the first's."""
        return sum(difference < 0 for difference in self.by_image)

    @property
    def more_second(self) -> int:
        """Test images that more networks of the second classify correctly."""
        return sum(difference > 0 for difference in self.by_image)

    @cached_property
    def images_p(self) -> float:
        """Two-sided p of the exact paired test over images, all shared seeds together; McNemar's for one seed."""
        return sign_flip_p(self.by_image)

    @property
    def beyond_seeds(self) -> bool:
        """Whether other seeds would hardly turn the sign of the difference; fewer than three show too little."""
        return self.n >= LEAST and self.interval is not None and 0 not in self.interval

    @property
    def beyond_images(self) -> bool:
        """Whether other test images would hardly turn the sign of the difference, these networks given."""
        return self.images_p < LEVEL

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
    by_image: Counter[int] = Counter()
    for seed in seeds:
        by_image.update(index for index, _ in ours[seed].outcome.wrong)
        by_image.subtract(index for index, _ in theirs[seed].outcome.wrong)
    return Comparison(
        seeds,
        tuple((theirs[seed].final.correct - ours[seed].final.correct) / first.images for seed in seeds),
        tuple(by_image[index] for index in sorted(by_image) if by_image[index]),
        first.images,
    )
