"""Statistics against tables of the literature and values worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from budgetnet.statistics import (
    MOST_BITS,
    binomial_error,
    mean,
    mean_interval,
    paired_p,
    prediction_interval,
    seeds_needed,
    sign_flip_p,
    std,
    t_cdf,
    t_quantile,
    wilson,
)


@pytest.mark.parametrize(
    ("passes", "n", "low", "high"),
    [
        (10, 10, 0.7225, 1.0),  # n / (n + z²) = 10 / 13.8415
        (0, 10, 0.0, 0.2775),  # z² / (n + z²): the mirror image
        (3, 3, 0.4385, 1.0),  # 3 / 6.8415
        (1, 1, 0.2065, 1.0),  # 1 / 4.8415
        (5, 10, 0.2366, 0.7634),  # 1/2 ± z / (2 sqrt(n + z²)) = 0.5 ± 1.95996 / 7.4408
        (81, 263, 0.2553, 0.3662),  # Newcombe, Statistics in Medicine 17 (1998), table I, method 3
        (15, 148, 0.0624, 0.1605),  # the same
        (1, 29, 0.0061, 0.1718),  # the same
    ],
)
def test_wilson_matches_published_intervals(passes: int, n: int, low: float, high: float) -> None:
    interval = wilson(passes, n)
    assert (round(interval.low, 4), round(interval.high, 4)) == (low, high)


def test_wilson_ends_are_exact_where_all_or_none_pass() -> None:
    assert wilson(7, 7).high == 1.0
    assert wilson(0, 7).low == 0.0


@given(st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_holds_the_share_and_mirrors(counts: tuple[int, int]) -> None:
    passes, n = counts
    interval, mirror = wilson(passes, n), wilson(n - passes, n)
    assert 0 <= interval.low <= passes / n <= interval.high <= 1
    assert interval.low == pytest.approx(1 - mirror.high, abs=1e-12)
    assert wilson(passes, n, 0.99).low <= interval.low


@pytest.mark.parametrize(("passes", "n"), [(-1, 3), (4, 3), (0, 0)])
def test_wilson_refuses_impossible_counts(passes: int, n: int) -> None:
    with pytest.raises(ValueError, match=f"but got {passes} of {n}"):
        wilson(passes, n)


def test_mean_and_standard_deviation() -> None:
    assert mean([2, 4, 4, 4, 5, 5, 7, 9]) == 5
    assert std([2, 4, 4, 4, 5, 5, 7, 9]) == pytest.approx((32 / 7) ** 0.5)  # squares: 9 1 1 1 0 0 4 16
    assert std([0.99]) is None
    with pytest.raises(ValueError, match="at least one value"):
        mean([])


@pytest.mark.parametrize(
    ("freedom", "quantile"),
    [(1, 12.7062), (2, 4.3027), (4, 2.7764), (9, 2.2622), (30, 2.0423), (120, 1.9799), (1e7, 1.9600)],
)
def test_t_quantile_matches_the_table(freedom: float, quantile: float) -> None:
    assert t_quantile(0.975, freedom) == pytest.approx(quantile, abs=5e-5)
    assert t_quantile(0.025, freedom) == -t_quantile(0.975, freedom)


@given(st.floats(-50, 50), st.floats(0.5, 200))
def test_t_cdf_is_a_distribution(t: float, freedom: float) -> None:
    assert t_cdf(t, freedom) + t_cdf(-t, freedom) == pytest.approx(1, abs=1e-12)
    assert t_cdf(t, freedom) <= t_cdf(t + 0.5, freedom) + 1e-15


def test_the_error_of_a_fraction_is_none_nowhere() -> None:
    assert binomial_error(0.995, 10_000) == pytest.approx(0.000705, abs=1e-6)
    assert [binomial_error(share, 20) for share in (0.0, 1.0)] == pytest.approx([(0.025 * 0.975 / 20) ** 0.5] * 2)
    assert binomial_error(1.0, 1) == 0.5


def test_mean_interval_by_hand() -> None:
    # mean 2, std 1, t(0.975; 2) = 4.3027: 2 ± 4.3027 / sqrt(3)
    interval = mean_interval([1, 2, 3])
    assert interval is not None
    assert (interval.low, interval.high) == pytest.approx((-0.4841, 4.4841), abs=1e-4)
    assert mean_interval([1]) is None


def test_prediction_interval_by_hand() -> None:
    # mean 2, std 1, t(0.975; 2) = 4.3027, one more value: sqrt(1 + 1/3)
    interval = prediction_interval([1, 2, 3])
    assert interval is not None
    assert interval.high == pytest.approx(2 + 4.3027 * (4 / 3) ** 0.5, abs=1e-4)
    assert prediction_interval([1]) is None


def test_paired_p_matches_the_table() -> None:
    # Student's own example (1908), hours of sleep gained by the second drug over the first in ten patients: t = 4.0621
    gained = [1.2, 2.4, 1.3, 1.3, 0.0, 1.0, 1.8, 0.8, 4.6, 1.4]
    p = paired_p(gained)
    assert p == pytest.approx(0.002833, abs=1e-6)
    assert paired_p([-x for x in gained]) == pytest.approx(0.002833, abs=1e-6)
    assert paired_p([0.0, 0.0]) == 1.0
    assert paired_p([0.5, 0.5]) == 0.0
    assert paired_p([0.5]) is None


@given(st.lists(st.floats(-1, 1), min_size=2, max_size=12))
def test_paired_p_agrees_with_the_interval(differences: list[float]) -> None:
    p, interval = paired_p(differences), mean_interval(differences)
    assert p is not None
    assert interval is not None
    if abs(p - 0.05) > 1e-6:
        assert (p < 0.05) == (0 not in interval)


@pytest.mark.parametrize(
    ("first", "second", "p"),
    [
        (0, 0, 1.0),
        (1, 0, 1.0),  # 2 · 1/2
        (5, 0, 0.0625),  # 2 / 2⁵
        (0, 6, 0.03125),
        (8, 2, 0.109375),  # 2 · (1 + 10 + 45) / 1024
        (5, 5, 1.0),
        (59, 6, pytest.approx(binomtest(6, 65).pvalue)),
    ],
)
def test_signs_of_differences_of_one_give_mcnemars_exact_test(first: int, second: int, p: float) -> None:
    assert sign_flip_p([-1] * first + [1] * second) == p
    assert sign_flip_p([-1] * second + [1] * first + [0] * 7) == p


def test_signs_by_hand() -> None:
    # 3, 2, -1: a sum of 4; of the eight signs only 6, 4, -4 and -6 are as far from 0
    assert sign_flip_p([3, 2, -1]) == 0.5


def shares_of_signs(differences: list[int]) -> float:
    """The same, image by image: the distribution of the sum of those that are given a plus."""
    chances = np.ones(1)
    for size in map(abs, differences):
        chances = (np.pad(chances, (0, size)) + np.pad(chances, (size, 0))) / 2
    low = min(sum(d for d in differences if d > 0), -sum(d for d in differences if d < 0))
    return min(1.0, 2 * float(chances[: low + 1].sum()))


@given(st.lists(st.integers(-10, 10), max_size=150))
def test_signs_agree_with_the_distribution_built_up_one_by_one(differences: list[int]) -> None:
    assert sign_flip_p(differences) == pytest.approx(shares_of_signs(differences), abs=1e-12)


@pytest.mark.parametrize(("up", "down"), [(566, 634), (540, 660), (956, 1044), (1446, 1554), (600, 600)])
def test_of_hundreds_of_signs_the_normal_distribution_says_the_same(up: int, down: int) -> None:
    assert (up + down) ** 2 > MOST_BITS
    assert sign_flip_p([1] * up + [-1] * down) == pytest.approx(binomtest(up, up + down).pvalue, rel=0.01)
    sizes = [1, 2, 3, 4] * (up // 4) + [-1, -2, -3, -4] * (down // 4)
    assert sign_flip_p(sizes) == pytest.approx(shares_of_signs(sizes), rel=0.02)


def test_seeds_needed_matches_published_sample_sizes() -> None:
    # Paired t-test, two-sided 5 %, power 80 %: 34 pairs for an effect of half a standard deviation, 15 for 0.8 (Cohen,
    # "Statistical Power Analysis", 1988, by the exact noncentral t); the quantiles used here are one or two off
    assert seeds_needed(0.5, 1.0) == pytest.approx(34, abs=1)
    assert seeds_needed(-0.8, 1.0) == pytest.approx(15, abs=1)
    assert seeds_needed(100.0, 1.0) == 2
    assert seeds_needed(0.0, 1.0) is None
    assert seeds_needed(1.0, 0.0) is None
    assert seeds_needed(1e-9, 1.0) is None
