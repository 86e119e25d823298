"""One network against another: numbers worked out by hand, what no verdict may say, and the program's answer."""

from __future__ import annotations

import json
import math
import re
import shutil
from collections.abc import Callable
from itertools import product
from pathlib import Path
from random import Random

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from scipy.stats import binom, binomtest, ttest_rel

from budgetnet.aim import Aim
from budgetnet.build import build
from budgetnet.comparison import Comparison, compare
from budgetnet.coordinator import search
from budgetnet.errors import ModelError
from budgetnet.facts import Accuracies
from budgetnet.results import Confirmation, SeedRun
from budgetnet.study import Study, open_study
from budgetnet.verdicts import comparison_dict, comparison_lines, comparison_verdict, conclusion
from budgetnet.weights import save_weights
from budgetnet.winners import Order, Winner, freeze_winner
from tests.records import confirmation, run
from tests.test_cli import run as call_in_process
from tests.test_statistics import shares_of_signs
from tests.tiny import tiny_request

NAMES = ("A", "B")
WRITTEN = Accuracies(10_000)


def finals(*correct: int, first_wrong: int = 0) -> Confirmation:
    """Seeds 0, 1, 2 …, with so many of 10,000 test images correct at the end."""
    return confirmation(*((9_900, images) for images in correct), first_wrong=first_wrong)


def of_seeds(**correct: int) -> Confirmation:
    """Seeds by name: ``of_seeds(s3=9940)`` is seed 3."""
    return Confirmation(tuple(run(int(name[1:]), images) for name, images in correct.items()))


def verdict(first: Confirmation, second: Confirmation) -> str:
    return comparison_verdict(compare(first, second), NAMES, Accuracies(first.images))


def interval_of(found: Comparison) -> tuple[float, float]:
    assert found.interval is not None
    return found.interval.low, found.interval.high


# --- numbers by hand --------------------------------------------------------------------------------------------------

FIRST, SECOND = finals(9_940, 9_942, 9_944), finals(9_945, 9_944, 9_952, first_wrong=8)
# differences in images: 5, 2, 8, so their mean is 5 and their standard deviation sqrt((0 + 9 + 9) / 2) = 3


def test_gap_interval_and_p_by_hand() -> None:
    found = compare(FIRST, SECOND)
    assert (found.seeds, found.n) == ((0, 1, 2), 3)
    assert found.differences == pytest.approx((0.0005, 0.0002, 0.0008))
    assert found.gap == pytest.approx(0.0005)
    # t(0.975; 2) = 4.3027: 5 ± 4.3027 · 3 / sqrt(3) = 5 ± 7.4525 images
    assert interval_of(found) == pytest.approx((-0.00024525, 0.00124525), abs=1e-8)
    # t = 5 / (3 / sqrt 3) = 2.8868; at 2 degrees of freedom p = 1 - t / sqrt(2 + t²) = 1 - 2.8868 / 3.2146
    assert found.p == pytest.approx(0.10197, abs=1e-5)
    assert not found.beyond_seeds


def test_images_by_hand() -> None:
    # wrong are, of the first, 0 … 59, 0 … 57 and 0 … 55, of the second 8 … 62, 8 … 63 and 8 … 55: 0 … 7 the second has
    # right three times more, 60 … 62 the first twice and 58, 59 and 63 once more
    found = compare(FIRST, SECOND)
    assert found.by_image == (3,) * 8 + (-1, -1) + (-2,) * 3 + (-1,)
    assert (found.more_first, found.more_second) == (6, 8)
    sums = [sum(signed) for signed in product(*((size, -size) for size in found.by_image))]
    assert found.images_p == sum(abs(each) >= 15 for each in sums) / 2**14
    assert not found.beyond_images
    # one seed, 0 … 59 and 0 … 53: six that only the second has right, 2 / 2⁶
    found = compare(finals(9_940), finals(9_946))
    assert (found.more_first, found.more_second, found.images_p) == (0, 6, 0.03125)
    assert found.beyond_images


def test_images_on_which_the_seeds_contradict_each_other_count_for_neither() -> None:
    # the first's seeds are wrong on 0 … 9 and on 10 … 19, the second's the other way round
    first = Confirmation((run(0, 9_990, first_wrong=0), run(1, 9_990, first_wrong=10)))
    second = Confirmation((run(0, 9_990, first_wrong=10), run(1, 9_990, first_wrong=0)))
    found = compare(first, second)
    assert (found.by_image, found.images_p, found.beyond_images) == ((), 1.0, False)


def test_networks_that_differ_on_more_than_a_thousand_images_compare() -> None:
    # weak networks, or harder data: 3,000 wrong each, 600 of them only by one of the two
    found = compare(finals(7_000), finals(7_100, first_wrong=600))
    assert (found.more_first, found.more_second) == (500, 600)
    assert found.images_p == pytest.approx(binomtest(500, 1_100).pvalue, rel=0.01)


def test_the_lines_and_the_conclusion_by_hand() -> None:
    lines = comparison_lines(compare(FIRST, SECOND), NAMES, (FIRST, SECOND))
    assert lines[:5] == [
        "B less A: +0.05 points, 95 % interval -0.02 to +0.12 points, p 0.102",
        "  last epoch on test, paired over 3 shared seeds (0, 1, 2)",
        "  A: 99.42 ± 0.02 % (3 seeds)",
        "  B: 99.47 ± 0.04 % (3 seeds)",  # 9,947 on average, sqrt((4 + 9 + 25) / 2) = 4.4 images
        "images: 8 that more networks of B classify correctly, 6 of A; exact paired test over images, p 0.136",
    ]
    assert lines[5].startswith("conclusion: not distinguishable with n = 3: the interval holds 0")
    assert len(lines) == 6


def test_the_seeds_said_to_be_needed_are_the_fewest_that_meet_their_formula() -> None:
    # n >= ((t(0.975; n - 1) + t(0.8; n - 1)) · 3 / 5)²: at 4 that is (3.1824 + 0.9785)² · 0.36 = 6.2, at 5 it is
    # (2.7764 + 0.9410)² · 0.36 = 4.97
    assert compare(FIRST, SECOND).seeds_needed == 5
    assert verdict(FIRST, SECOND).endswith("; a difference of this size would take about 5 seeds in all to show")


def test_a_difference_beyond_the_seeds_is_called_better_or_worse() -> None:
    # differences 12, 10, 11 images: 11 ± 4.3027 · 1 / sqrt(3) = 11 ± 2.5; 15 images, p 2 / 2¹⁵
    low, high = finals(9_940, 9_942, 9_944), finals(9_952, 9_952, 9_955)
    found = compare(low, high)
    assert interval_of(found) == pytest.approx((0.00085158, 0.00134842), abs=1e-8)
    assert (found.beyond_seeds, found.beyond_images) == (True, True)
    words = "than {} by 0.11 points on these test images, and other test images would hardly change that"
    assert verdict(low, high) == f"B is better {words.format('A')}"
    assert verdict(high, low) == f"B is worse {words.format('A')}"


def test_a_difference_that_few_images_show_says_that_others_might_not() -> None:
    # the same four images in every seed: p = 2 / 2⁴, however many seeds there are
    low, high = finals(9_940, 9_940, 9_940), finals(9_944, 9_944, 9_944)
    found = compare(low, high)
    assert (found.beyond_seeds, found.beyond_images, found.images_p) == (True, False, 0.125)
    assert verdict(low, high) == (
        "B is better than A by 0.04 points on these test images, though the images on which they differ do not show "
        "it: other test images might turn it"
    )


def test_a_seed_whose_networks_show_the_opposite_is_one_of_twenty() -> None:
    # nineteen seeds are 20 to 22 images better, seed 0 is 20 worse on images that the others do not differ on
    low = finals(9_950, *[9_940] * 19)
    high = finals(9_930, *(9_960 + seed % 3 for seed in range(19)))
    found = compare(low, high)
    assert (found.more_first, found.more_second) == (10, 22)  # 60 … 69; 38 … 59
    assert found.beyond_seeds
    assert verdict(low, high).startswith("B is better than A by 0.19 points")


# --- which seeds are paired -------------------------------------------------------------------------------------------


def test_runs_are_paired_by_seed_in_whatever_order_they_are_kept() -> None:
    shuffled = Confirmation((SECOND.runs[2], SECOND.runs[0], SECOND.runs[1]))
    assert compare(FIRST, shuffled) == compare(FIRST, SECOND)
    assert compare(shuffled, FIRST).differences == tuple(-each for each in compare(FIRST, SECOND).differences)


def test_only_shared_seeds_count() -> None:
    found = compare(of_seeds(s0=9_000, s2=9_940, s3=9_950), of_seeds(s3=9_957, s1=1, s2=9_945))
    assert found.seeds == (2, 3)
    assert found.differences == pytest.approx((0.0005, 0.0007))
    assert (found.more_first, found.more_second) == (0, 12)  # 55 … 59 of seed 2, 43 … 49 of seed 3
    lines = comparison_lines(found, NAMES, (of_seeds(s0=9_000, s2=9_940, s3=9_950), of_seeds(s2=9_945, s3=9_957)))
    assert "paired over 2 shared seeds (2, 3)" in lines[1]
    assert lines[4].startswith("images: 12 that more networks of B classify correctly, 0 of A; ")


def test_no_shared_seeds_are_refused() -> None:
    with pytest.raises(ModelError, match=r"^a paired test needs shared seeds, but these are 0, 1 and 2, 3$"):
        compare(of_seeds(s0=9_940, s1=9_941), of_seeds(s2=9_940, s3=9_941))


def test_other_numbers_of_test_images_are_refused() -> None:
    with pytest.raises(ModelError, match=r"^only the same test images compare, but there are 10,000 and 300$"):
        compare(finals(9_940), confirmation((290,), total=300))


def test_a_single_shared_seed_distinguishes_nothing() -> None:
    far = compare(finals(9_000), of_seeds(s0=9_990, s1=9_990))
    assert (far.n, far.interval, far.p, far.beyond_seeds, far.seeds_needed) == (1, None, None, False, None)
    expected = "not distinguishable with n = 1: a single seed shows no spread"
    assert comparison_verdict(far, NAMES, WRITTEN) == expected
    lines = comparison_lines(far, NAMES, (finals(9_000), of_seeds(s0=9_990, s1=9_990)))
    assert lines[0] == "B less A: +9.90 points"
    assert "over 1 shared seed (0)" in lines[1]
    assert lines[2] == "  A: 90.00 % (1 seed)"


def test_equal_networks_have_no_difference() -> None:
    found = compare(FIRST, FIRST)
    assert (found.gap, found.p, found.by_image, found.images_p) == (0, 1, (), 1)
    # whole images spread by sqrt(1/6) = 0.408 of one: 4.3027 · 0.408 / sqrt(3) = 1.014 images
    assert interval_of(found) == pytest.approx((-0.0001014, 0.0001014), abs=1e-7)
    assert verdict(FIRST, FIRST) == "not distinguishable with n = 3: the interval holds 0"
    assert comparison_lines(found, NAMES, (FIRST, FIRST))[0].startswith("B less A: +0.00 points")


def test_differences_that_cancel_out_are_no_difference() -> None:
    # one image more, one less: rounding leaves a gap of -1e-16
    first, second = finals(9_930, 9_935), finals(9_931, 9_934)
    found = compare(first, second)
    assert found.gap == pytest.approx(0, abs=1e-12)
    assert found.p == pytest.approx(1, abs=1e-6)
    assert verdict(first, second) == "not distinguishable with n = 2: two seeds show too little of the spread"
    assert comparison_lines(found, NAMES, (first, second))[0].startswith("B less A: +0.00 points, ")
    assert comparison_lines(compare(second, first), NAMES, (second, first))[0].startswith("B less A: +0.00 points, ")


def test_a_constant_difference_has_the_spread_of_whole_images() -> None:
    found = compare(finals(9_940, 9_950, 9_930), finals(9_948, 9_958, 9_938))
    # 8 images, of which 1.014 may be rounding, as above: t = 8 sqrt(3) / 0.408 = 33.94, p = 1 - t / sqrt(2 + t²)
    assert interval_of(found) == pytest.approx((0.0006986, 0.0009014), abs=1e-7)
    assert found.p == pytest.approx(0.000866, abs=1e-6)
    assert found.beyond_seeds


def test_one_image_more_in_each_of_three_seeds_is_no_difference() -> None:
    found = compare(finals(9_940, 9_950, 9_930), finals(9_941, 9_951, 9_931))
    assert not found.beyond_seeds


# --- what holds for any two -------------------------------------------------------------------------------------------

IMAGES = 400


@st.composite
def pairs(draw: st.DrawFn) -> tuple[Confirmation, Confirmation]:
    """Two confirmations that share at least one seed; their difference may well be larger than its spread."""
    shared = sorted(draw(st.sets(st.integers(0, 9), min_size=1, max_size=6)))
    more = [sorted(draw(st.sets(st.integers(10 * side, 10 * side + 3), max_size=2))) for side in (1, 2)]
    shift = draw(st.integers(-60, 60))
    runs: tuple[list[SeedRun], list[SeedRun]] = ([], [])
    for side in (0, 1):
        for seed in [*shared, *more[side]]:
            correct = 200 + draw(st.integers(-6, 6)) + side * shift
            runs[side].append(run(seed, correct, total=IMAGES, first_wrong=draw(st.integers(0, IMAGES - 1))))
    return Confirmation(tuple(runs[0])), Confirmation(tuple(runs[1]))


@given(pairs())
def test_the_other_way_round_only_the_sign_turns(pair: tuple[Confirmation, Confirmation]) -> None:
    there, back = compare(*pair), compare(*reversed(pair))
    assert there.seeds == back.seeds
    assert there.differences == tuple(-difference for difference in back.differences)
    assert (there.gap, there.p, there.images_p) == (-back.gap, back.p, back.images_p)
    assert (there.more_first, there.more_second) == (back.more_second, back.more_first)
    assert (there.beyond_seeds, there.beyond_images) == (back.beyond_seeds, back.beyond_images)
    assert there.seeds_needed == back.seeds_needed
    if there.interval is not None:
        assert interval_of(there) == tuple(-end for end in reversed(interval_of(back)))
    turned = {"better": "worse", "worse": "better"}
    words = [comparison_verdict(found, NAMES, Accuracies(IMAGES)) for found in (there, back)]
    assert re.sub("better|worse", lambda word: turned[word[0]], words[0]) == words[1]


@given(pairs(), st.randoms(use_true_random=False))
def test_the_order_of_the_second_ones_seeds_is_of_no_account(
    pair: tuple[Confirmation, Confirmation], random: Random
) -> None:
    first, second = pair
    runs = list(second.runs)
    random.shuffle(runs)
    assert compare(first, Confirmation(tuple(runs))) == compare(first, second)


@given(pairs())
def test_the_paired_test_and_mcnemar_agree_with_scipy(pair: tuple[Confirmation, Confirmation]) -> None:
    found = compare(*pair)
    accuracies = [{run.seed: run.final.accuracy for run in side.runs} for side in pair]
    if found.n > 1 and len({round(IMAGES * difference) for difference in found.differences}) > 1:
        theirs = ttest_rel(*([side[seed] for seed in found.seeds] for side in reversed(accuracies)))
        interval = theirs.confidence_interval()
        assert found.p == pytest.approx(theirs.pvalue, abs=1e-9)
        assert interval_of(found) == pytest.approx((interval.low, interval.high), abs=1e-9)
    assert found.images_p == pytest.approx(shares_of_signs(list(found.by_image)), abs=1e-12)
    differ = found.more_first + found.more_second
    if found.n == 1:
        assert found.images_p == pytest.approx(binomtest(found.more_first, differ).pvalue if differ else 1.0)


@given(pairs())
@example((FIRST, SECOND))
@example((finals(9_940, 9_942, 9_944), finals(9_952, 9_952, 9_955)))
@example((finals(9_000), finals(9_990)))
def test_no_verdict_says_better_or_worse_where_the_interval_holds_0(pair: tuple[Confirmation, Confirmation]) -> None:
    found = compare(*pair)
    said = re.findall(r"\b(?:better|worse)\b", verdict(*pair))
    if found.n < 3 or found.interval is None or found.interval.low <= 0 <= found.interval.high:
        assert said == []
        assert verdict(*pair).startswith(f"not distinguishable with n = {found.n}: ")
    else:
        assert said == ["better" if found.gap > 0 else "worse"]
    data = comparison_dict(found, NAMES, pair)
    assert json.loads(json.dumps(data, allow_nan=False)) == data
    assert data["conclusion"] == verdict(*pair)
    assert comparison_lines(found, NAMES, pair)[-1] == f"conclusion: {data['conclusion']}"


# --- how often chance alone is taken for a difference -----------------------------------------------------------------

DRAWS = 1_000


def found_beyond_seeds(shift: int) -> int:
    """Of 1,000 comparisons over five seeds, how many find a difference; the second has ``shift`` more images right."""
    generator = np.random.default_rng(0)
    found = 0
    for _ in range(DRAWS):
        correct = np.rint(generator.normal(9_940, 8, size=(2, 5))).astype(int)  # images; seeds spread by 0.08 points
        first, second = ([int(images) + shift * side for images in correct[side]] for side in (0, 1))
        found += compare(finals(*first), finals(*second)).beyond_seeds
    return found


def test_between_equal_networks_one_comparison_in_twenty_finds_a_difference() -> None:
    low, high = binom.interval(0.9999, DRAWS, 0.05)  # 26 to 79
    assert low <= found_beyond_seeds(0) <= high


def test_between_networks_that_differ_more_do() -> None:
    # 20 images are 20 / (8 · sqrt 2) = 1.77 standard deviations of a difference: five pairs show it more often than not
    assert found_beyond_seeds(20) > DRAWS / 2


# --- what the seeds of one network allow ------------------------------------------------------------------------------


def seeds_with(lowest: int, passes: int, n: int = 10) -> Confirmation:
    """``n`` seeds that all end at 9,950; one of the last epochs of all but ``passes`` has ``lowest``."""
    return confirmation(*((9_950 if seed < passes else lowest, 9_950) for seed in range(n)))


def test_one_seed_allows_no_conclusion() -> None:
    for correct in (9_950, 9_000):
        words = conclusion(finals(correct), 0.994, 1)
        assert words == "one seed says nothing about the next: neither that the target holds nor that it fails"


def test_what_may_be_concluded_where_all_some_or_none_held() -> None:
    # Wilson for all or none of ten: z² / (10 + z²) = 3.8415 / 13.8415 = 27.8 %. One standard error of 99.50 % of 10,000
    # images: sqrt(0.995 · 0.005 / 10,000) = 0.07 points
    above = (
        "and the interval of the mean last epoch lies at or above 99.4 %; "
        "other test images would shift all of it by some 0.07 points; may not be said: "
    )
    assert conclusion(seeds_with(9_939, 10), 0.994, 2) == (
        f"may be said: it held in each of 10 seeds, {above}that it always does, for up to 27.8 % of all seeds might "
        "fail"
    )
    assert conclusion(seeds_with(9_939, 4), 0.994, 2) == (
        f"may be said: whether it holds depends on the seed (4 of 10 did), {above}that it holds, by pointing at a seed "
        "that did"
    )
    assert conclusion(seeds_with(9_939, 0), 0.994, 2) == (
        f"may be said: it held in none of 10 seeds, {above}that it never does, for up to 27.8 % of all seeds might hold"
    )


@pytest.mark.parametrize(
    ("correct", "where"),
    [
        ((9_943, 9_943), "at or above"),  # ± 12.7 · sqrt(1/12) / sqrt(2) = 2.6 images, however equal the seeds
        ((9_940, 9_940), "on both sides of"),
        ((9_940, 9_942), "on both sides of"),  # 9,941 ± 12.7 · 1
        ((9_952, 9_954, 9_953), "at or above"),  # 9,953 ± 2.5
        ((9_930, 9_931, 9_932), "below"),  # 9,931 ± 2.5
    ],
)
def test_where_the_mean_lies_is_said_of_its_whole_interval(correct: tuple[int, ...], where: str) -> None:
    assert f"mean last epoch lies {where} 99.4 %; other" in conclusion(finals(*correct), 0.994, 1)


@given(
    st.lists(st.tuples(st.integers(9_930, 9_950), st.integers(9_930, 9_950)), min_size=2, max_size=8),
    st.integers(9_930, 9_950),
)
def test_no_conclusion_says_that_it_holds_in_all_seeds_where_one_fails(
    seeds: list[tuple[int, int]], limit: int
) -> None:
    words = conclusion(confirmation(*seeds), limit / 10_000, 2)
    fails = [min(epochs) < limit for epochs in seeds]
    assert ("it held in each" in words) == (not any(fails))
    assert ("held in none" in words) == all(fails)
    assert ("depends on the seed" in words) == (any(fails) and not all(fails))
    assert words.count("may not be said: ") == 1


# --- the program ------------------------------------------------------------------------------------------------------

STUDY = "tiny-600"
A, B = ((9_900, 9_940), (9_901, 9_942), (9_902, 9_944)), ((9_900, 9_952), (9_901, 9_952), (9_902, 9_955))
# over three shared seeds B is 12, 10 and 11 images better: 11 ± 2.5; seed 0 differs on twelve, p 2 / 2¹²


class Desk:
    """A study of two finished trials, ``a`` and ``b``, in the working directory."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder, self.monkeypatch, self.capsys = folder, monkeypatch, capsys
        self.a, self.b = two_trials(open_study(STUDY))

    def compare(self, *arguments: str | int) -> tuple[int, str, str]:
        return call_in_process(self.monkeypatch, self.capsys, "compare", *map(str, arguments))

    def refused(self, *arguments: str | int) -> str:
        """The one line on standard error, of a comparison that cannot be made."""
        code, out, err = self.compare(*arguments)
        assert (code, out, err.count("\n"), err[:7]) == (2, "", 1, "error: ")
        return err[7:-1]


def two_trials(study: Study) -> list[int]:
    return sorted(record.number for record in study.leaderboard())


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory, small_mnist: Path) -> Path:
    """A folder with the study of a real search."""
    folder = tmp_path_factory.mktemp("searched")
    search(tiny_request(folder, small_mnist, trials=2, epochs=2))
    return folder


@pytest.fixture(scope="module")
def confirmed(tmp_path_factory: pytest.TempPathFactory, searched: Path) -> Path:
    """The same, both trials confirmed with numbers by hand, and the first frozen, untrained, as Model_1."""
    folder = tmp_path_factory.mktemp("confirmed")
    shutil.copytree(searched / "studies", folder / "studies")
    study = open_study(STUDY, root=folder / "studies")
    for trial, seeds in zip(two_trials(study), (A, B), strict=True):
        winner = Winner.of(study, trial)
        path = study.weights(trial, 0)
        path.parent.mkdir(exist_ok=True)
        save_weights(build(winner.architecture, 0).state_dict(), path, winner.architecture, ("mnist", "final"))
        for seed, correct in enumerate(seeds):
            study.keep_run(trial, run(seed, *correct))
    first = Winner.of(study, two_trials(study)[0])
    freeze_winner(first, first.confirmation(), Aim(), Order(folder / "model.py"))
    return folder


@pytest.fixture
def fresh(searched: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Desk:
    """Nothing is confirmed."""
    shutil.copytree(searched, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return Desk(tmp_path, monkeypatch, capsys)


@pytest.fixture
def desk(confirmed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Desk:
    """Both trials are confirmed, and trial ``a`` is frozen as Model_1."""
    shutil.copytree(confirmed, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return Desk(tmp_path, monkeypatch, capsys)


def test_two_trials(desk: Desk) -> None:
    code, out, err = desk.compare(desk.a, desk.b)
    a, b = f"trial {desk.a}", f"trial {desk.b}"
    assert (code, err) == (0, "")
    assert out.splitlines() == [
        f"{b} less {a}: +0.11 points, 95 % interval +0.09 to +0.13 points, p 0.003",
        "  last epoch on test, paired over 3 shared seeds (0, 1, 2)",
        f"  {a}: 99.42 ± 0.02 % (3 seeds)",
        f"  {b}: 99.53 ± 0.02 % (3 seeds)",
        f"images: 15 that more networks of {b} classify correctly, 0 of {a}; exact paired test over images, p < 0.001",
        f"conclusion: {b} is better than {a} by 0.11 points on these test images, and other test images would hardly "
        "change that",
    ]
    _, out, _ = desk.compare(desk.b, desk.a)
    assert f"conclusion: {a} is worse than {b} by 0.11 points" in out
    _, out, _ = desk.compare(desk.a, desk.a)
    assert "conclusion: not distinguishable with n = 3: the interval holds 0\n" in out


def test_a_trial_and_a_frozen_model_with_another_number_of_seeds(desk: Desk) -> None:
    open_study(STUDY).keep_run(desk.a, run(3, 9_903, 9_002))  # a seed that the model knows nothing of
    code, out, _ = desk.compare("Model_1", desk.b)
    b = f"trial {desk.b}"
    assert code == 0
    assert out.startswith(f"{b} less Model_1: +0.11 points, 95 % interval +0.09 to +0.13 points, p 0.003\n")
    assert "  Model_1: 99.42 ± 0.02 % (3 seeds)\n" in out
    assert f"conclusion: {b} is better than Model_1 by 0.11 points" in out
    assert out == desk.compare("Model_1", desk.b, "--models", "model.py")[1]
    assert f"over 3 shared seeds (0, 1, 2)\n  trial {desk.a}: 99.42 ±" in desk.compare(desk.a, "Model_1")[1]


def test_json_has_the_same_numbers(desk: Desk) -> None:
    code, out, err = desk.compare(desk.a, desk.b, "--json")
    data = json.loads(out)
    assert (code, err) == (0, "")
    assert data["differences"] == pytest.approx([0.0012, 0.0010, 0.0011])
    assert data["gap"] == pytest.approx(0.0011)
    assert data["means"] == pytest.approx([0.9942, 0.9953])
    # 11 ± 4.3027 / sqrt(3) images; t = 11 sqrt 3, p = 1 - t / sqrt(2 + t²) = 1 - 19.0526 / 19.1050
    assert data["interval"] == pytest.approx({"low": 0.00085158, "high": 0.00134842}, abs=1e-8)
    assert data["p"] == pytest.approx(1 - 11 * math.sqrt(3) / math.sqrt(2 + 363))
    assert (data["first"], data["second"]) == (f"trial {desk.a}", f"trial {desk.b}")
    assert (data["n"], data["seeds"], data["more_first"], data["more_second"]) == (3, [0, 1, 2], 0, 15)
    assert (data["images_p"], data["seeds_needed"]) == (2 / 2**15, None)
    assert desk.compare(desk.a, desk.b)[1].endswith(f"conclusion: {data['conclusion']}\n")


def test_a_trial_that_is_not_confirmed_is_answered_with_the_command_to_do_so(fresh: Desk) -> None:
    open_study(STUDY).keep_run(fresh.a, run(0, 9_900, 9_940))
    expected = f"trial {fresh.b} is not confirmed; do so with: budgetnet confirm --trial {fresh.b}"
    assert fresh.refused(fresh.a, fresh.b) == expected


def test_that_command_names_the_study_where_it_is_not_the_default(fresh: Desk) -> None:
    shutil.move(fresh.folder / "studies" / STUDY / "study.db", fresh.folder / "elsewhere.db")
    place = f"--study {STUDY} --storage sqlite:///elsewhere.db"
    words = fresh.refused(fresh.a, fresh.b, *place.split())
    assert words == f"trial {fresh.a} is not confirmed; do so with: budgetnet confirm {place} --trial {fresh.a}"


@pytest.mark.parametrize(
    ("second", "message"),
    [
        ("99", "trial 99: no such trial; study tiny-600 has trials 0 to "),
        ("Model_7", "there is no class 'Model_7': model.py has Model_1, Other; "),
        ("Other", "Other.json: cannot be read: No such file or directory"),
        ("", "there is no class ''"),
        ("../Model_1", "there is no class '../Model_1'"),
        ("./Model_1", "there is no class './Model_1'"),
        ("/etc/passwd", "there is no class '/etc/passwd'"),
        ("Model_1.json", "there is no class 'Model_1.json'"),
        ("model.py:Model_1", "there is no class 'model.py:Model_1'"),
        ("Model_1\nx", "there is no class 'Model_1\\nx'"),
        ("1.0", "there is no class '1.0'"),
        ("²", "there is no class '²'"),
        ("-1", "No such option"),
        pytest.param("9" * 5_000, "trial 9", id="a number of 5,000 digits"),
    ],
)
def test_what_is_no_trial_and_no_frozen_model_is_refused(desk: Desk, second: str, message: str) -> None:
    with Path("model.py").open("a") as file:
        file.write("\n\nclass Other:\n    pass\n")
    assert desk.refused(desk.a, second).startswith(message)


def test_a_file_without_models_or_that_is_not_there_is_refused(desk: Desk) -> None:
    assert desk.refused(desk.a, "Model_1", "--models", "nowhere.py") == "nowhere.py: there is no such file"
    Path("empty.py").write_text("")
    expected = "there is no class 'Model_1': empty.py has no classes"
    assert desk.refused(desk.a, "Model_1", "--models", "empty.py") == expected


def test_evidence_that_cannot_be_read_is_refused(desk: Desk) -> None:
    Path("Model_1.json").write_text("{")
    assert desk.refused("Model_1", desk.b).startswith("Model_1.json: evidence is not JSON: ")


def changed_data(text: str) -> str:
    record = json.loads(text)
    record["provenance"]["data"] = "mnist"
    return json.dumps(record)


def other_images(text: str) -> str:
    record = json.loads(text)
    runs = Confirmation((run(0, 290, total=300),))
    return json.dumps({**record, "confirmation": runs.to_dict()})


def other_seeds(text: str) -> str:
    record = json.loads(text)
    runs = Confirmation((run(7, 9_940), run(8, 9_940)))
    return json.dumps({**record, "confirmation": runs.to_dict()})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (changed_data, r"only the same data compares, but Model_1 is of mnist, trial \d of .*small\.npz"),
        (other_images, r"only the same test images compare, but there are 300 and 10,000"),
        (other_seeds, r"a paired test needs shared seeds, but these are 7, 8 and 0, 1, 2"),
    ],
)
def test_what_was_not_tested_alike_is_refused(desk: Desk, change: Callable[[str], str], message: str) -> None:
    evidence = Path("Model_1.json")
    evidence.write_text(change(evidence.read_text("utf-8")), "utf-8")
    assert re.fullmatch(message, desk.refused("Model_1", desk.b))
