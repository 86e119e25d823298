"""Mean, spread and intervals of a handful of runs, in pure Python; every interval names the paper it comes from. What
no other beats in two respects."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import erfc, exp, fsum, gcd, inf, lgamma, log, sqrt
from statistics import NormalDist

CONFIDENCE = 0.95
MOST_SEEDS = 100_000  # nobody will train more
MOST_BITS = 1_000_000  # of the largest number in an exact test: a quarter of a second


@dataclass(frozen=True, slots=True)
class Interval:
    """A confidence interval, both ends included."""

    low: float
    high: float

    def __contains__(self, value: float) -> bool:
        return self.low <= value <= self.high


def mean(values: Sequence[float]) -> float:
    """Arithmetic mean of at least one value."""
    if not values:
        raise ValueError("a mean needs at least one value, but got none")
    return fsum(values) / len(values)


def std(values: Sequence[float]) -> float | None:
    """Sample standard deviation (divided by n - 1); None for a single value, which has no spread."""
    if len(values) < 2:
        return None
    centre = mean(values)
    return sqrt(fsum((value - centre) ** 2 for value in values) / (len(values) - 1))


def rounding_error(images: int, counts: int = 1) -> float:
    """Standard deviation that whole images alone give a fraction of them, or a sum or difference of several counts."""
    return sqrt(counts / 12) / images


def binomial_error(fraction: float, n: int) -> float:
    """Standard error of a fraction that was counted on ``n`` independent images.

    None or all of them count as half an image: the usual formula would be sure of those.
    """
    share = min(max(fraction, 0.5 / n), 1 - 0.5 / n)
    return sqrt(share * (1 - share) / n)


def wilson(passes: int, n: int, confidence: float = CONFIDENCE) -> Interval:
    """Score interval of a proportion: honest for few runs, and at 0 or n passes, where the usual one has no width.

    E. B. Wilson, "Probable inference, the law of succession, and statistical inference", JASA 22 (1927), 209-212.
    """
    if not 0 <= passes <= n or n < 1:
        raise ValueError(f"passes must be between 0 and n, and n at least 1, but got {passes} of {n}")
    z = NormalDist().inv_cdf((1 + _checked(confidence)) / 2)
    share = passes / n
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    low = 0.0 if passes == 0 else centre - half  # exactly 0 and 1 there, but for rounding
    high = 1.0 if passes == n else centre + half
    return Interval(low, high)


def mean_interval(values: Sequence[float], confidence: float = CONFIDENCE, *, least: float = 0.0) -> Interval | None:
    """Interval of the mean of normally spread values, their variance unknown; None for a single value.

    least: a standard deviation below which the spread cannot be, however equal the values are.

    Student, "The probable error of a mean", Biometrika 6 (1908), 1-25.
    """
    spread = std(values)
    if spread is None:
        return None
    half = t_quantile((1 + _checked(confidence)) / 2, len(values) - 1) * max(spread, least) / sqrt(len(values))
    return Interval(mean(values) - half, mean(values) + half)


def prediction_interval(
    values: Sequence[float], confidence: float = CONFIDENCE, *, least: float = 0.0
) -> Interval | None:
    """Where one more value of the same normal spread, which is at ``least`` so large, will lie; None for one value."""
    spread = std(values)
    if spread is None:
        return None
    n, spread = len(values), max(spread, least)
    half = t_quantile((1 + _checked(confidence)) / 2, n - 1) * spread * sqrt(1 + 1 / n)
    return Interval(mean(values) - half, mean(values) + half)


def paired_p(differences: Sequence[float], *, least: float = 0.0) -> float | None:
    """Two-sided p of Student's paired test: how often chance alone gives a mean so far from 0; None for one value.

    least: as for ``mean_interval``.
    """
    spread = std(differences)
    if spread is None:
        return None
    spread = max(spread, least)
    if spread == 0:
        return float(mean(differences) == 0)
    t = abs(mean(differences)) / (spread / sqrt(len(differences)))
    return min(1.0, 2 * (1 - t_cdf(t, len(differences) - 1)))


def seeds_needed(gap: float, spread: float, power: float = 0.8, confidence: float = CONFIDENCE) -> int | None:
    """Pairs from which a paired test finds a true mean difference ``gap`` with the given power; None for no gap.

    The least n of ((t + t') s / gap)² <= n, t and t' the quantiles of confidence and power at n - 1 degrees of freedom.
    """
    if gap == 0 or spread == 0:
        return None

    def enough(n: int) -> bool:
        t = t_quantile((1 + _checked(confidence)) / 2, n - 1) + t_quantile(power, n - 1)
        return (t * spread / gap) ** 2 <= n

    high = 2
    while not enough(high):
        high *= 2
        if high > MOST_SEEDS:
            return None
    low = high // 2  # not enough, unless it is 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def sign_flip_p(differences: Sequence[int]) -> float:
    """Two-sided p that only chance gave paired differences their signs: the share of all signs with as extreme a sum.

    R. A. Fisher, "The Design of Experiments" (1935), section 21. Where every difference is 1 or -1 it is McNemar's
    exact test. Exact while the sums fit into ``MOST_BITS``; beyond, there are hundreds of differences, and the normal
    distribution of the same variance, corrected for steps, will do.
    """
    sizes = Counter(abs(difference) for difference in differences if difference)
    n, whole = sizes.total(), sum(size * times for size, times in sizes.items())
    rise = sum(difference for difference in differences if difference > 0)
    extreme = min(rise, whole - rise)
    if n * whole > MOST_BITS:
        variance = sum(size * size * times for size, times in sizes.items())
        return erfc(max(0, whole - 2 * extreme - gcd(*sizes)) / sqrt(2 * variance))
    width = n + 2  # bits of a coefficient: all of them together are 2^n
    ways = 1  # a polynomial; its coefficient of x^k: in how many of the 2^n signs the rises sum to k
    for size, times in sizes.items():
        ways *= (1 + (1 << size * width)) ** times
    low = ways & (1 << (extreme + 1) * width) - 1
    tail = low % ((1 << width) - 1)  # the sum of its digits to the base 2^width, as one casts out nines
    return min(1.0, 2 * tail / (1 << n))


def pareto_front(points: Sequence[tuple[float, float]]) -> list[int]:
    """Indices of the (cost, value) points that no other beats, the cheapest first.

    One point beats another where it costs no more and is worth no less, and one of both not equally. So points that are
    equal in both are on the front together, or not at all.
    """
    front: list[int] = []
    best = -inf
    for index in sorted(range(len(points)), key=lambda i: (points[i][0], -points[i][1], i)):
        value = points[index][1]
        if value > best or (front and points[index] == points[front[-1]]):
            front.append(index)
            best = value
    return front


def t_cdf(t: float, freedom: float) -> float:
    """Probability that Student's t with ``freedom`` degrees of freedom is at most ``t``.

    M. Abramowitz and I. A. Stegun, "Handbook of Mathematical Functions" (1964), 26.7.1 and 26.5.27.
    """
    tail = _incomplete_beta(freedom / (freedom + t * t), freedom / 2, 0.5) / 2
    return 1 - tail if t > 0 else tail


@lru_cache(maxsize=256)
def t_quantile(probability: float, freedom: float) -> float:
    """Inverse of ``t_cdf``, by bisection."""
    if not 0 < probability < 1 or freedom <= 0:
        raise ValueError(f"need 0 < probability < 1 and freedom > 0, but got {probability} and {freedom}")
    if probability < 0.5:
        return -t_quantile(1 - probability, freedom)
    high = 1.0
    while t_cdf(high, freedom) < probability:
        high *= 2
    return _bisect(lambda t: t_cdf(t, freedom) - probability, 0.0, high)


def _bisect(rising: Callable[[float], float], low: float, high: float) -> float:
    """Where a rising function crosses zero, to the last bit."""
    while low < (middle := (low + high) / 2) < high:
        if rising(middle) < 0:
            low = middle
        else:
            high = middle
    return middle


def _incomplete_beta(x: float, a: float, b: float) -> float:
    """Regularised incomplete beta function (Abramowitz and Stegun 26.5.8, evaluated by Lentz's method)."""
    if x <= 0 or x >= 1:
        return float(x >= 1)
    if x > (a + 1) / (a + b + 2):  # where the fraction converges slowly, its mirror image converges fast
        return 1 - _incomplete_beta(1 - x, b, a)
    front = exp(lgamma(a + b) - lgamma(a) - lgamma(b) + a * log(x) + b * log(1 - x)) / a
    c, d = 1.0, 1 / (1 - (a + b) * x / (a + 1))
    value = d
    for m in range(1, 1000):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        for term in (even, odd):
            d = 1 / (1 + term * d)
            c = 1 + term / c
            value *= c * d
        if abs(c * d - 1) < 1e-15:
            break
    return front * value


def _checked(confidence: float) -> float:
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must be between 0 and 1, but got {confidence}")
    return confidence
