"""The text block of a frozen model: what each rule says of which numbers, all worked out by hand."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from budgetnet.analysis import RULES, block, sentences
from budgetnet.errors import ModelError
from budgetnet.facts import Accuracies, Case, facts_of
from budgetnet.notation import parse
from budgetnet.recipe import Recipe
from budgetnet.results import Confirmation
from budgetnet.sentences import Sentence
from budgetnet.statistics import Interval
from tests.records import MACHINE, THREE, confirmation, evidence, run


def joined(text: str) -> str:
    return " ".join(text.split())


def test_block_by_hand() -> None:
    text = block(Case(evidence(aim=(Sentence("Only {unused} of {budget} params are left."),))))
    for line in [
        "Target: at least 99.4 % of the test images in every one of the last 5 of 6 epochs, with fewer than 8,000",
        "Only 626 of 8,000 params are left.",  # 8,000 - 7,374
        # 9952, 9949, 9955: mean 9952, deviations 0, 3, 3, so the variance is 18 / 2
        "Result: 99.52 ± 0.03 % (mean ± standard deviation of the last epoch over 3 seeds, 10,000 test images).",
        "    params       7,374 / 8,000",
        "    best train   98.00 % (running figure of an epoch",
        "    clean train  99.00 % (mean of the last weights, images as they are)",
        "    best test    99.55 % (chosen on test, so it flatters)",
        "    lowest       99.40 % in the last 5 epochs of any seed",
        "    held         3 of 3 seeds",
        "    seed 1       99.41 99.47 99.44 99.50 99.49 % (last 5 epochs)",
        "- The target held in 3 of 3 seeds (95 % Wilson interval of the share of seeds: 43.9 % to 100.0 %)",
        "is 99.45 to 99.59 %",  # 99.52 ± 4.3027 · 0.03 / sqrt(3) = 99.52 ± 0.0745
        "the last weights classify 99.00 % of the training and 99.52 % of the test images, which lie 0.52",
        # rises of 12, 8 and 13 images: 11 ± 4.3027 · 2.6458 / sqrt(3) = 11 ± 6.57; t = 7.2011, p = 1 - t / sqrt(2 + t²)
        "Still rising: mean test accuracy is 99.41 % at the first and 99.52 % at the last of the 5 epochs",
        "interval of the rise +0.04 to +0.18 points, paired by seed, p 0.019)",
        "no seed moved by more than 0.13 points",  # seed 2: 9942 to 9955
        "flatter it by 0.00 points",  # best 9952, 9950, 9955: mean 9952.33
        "uses 7,374 / 8,000 params, 92.2 % of the budget; 626 are left",
        "is 22 × 22 pixels, the image 28 × 28: no cell sees all of it",
        "    stage2.10  Conv2d 3 × 3         8 × 8     2    22",
        "    study       mnist-8000, trial 42, search seed 7, validation accuracy 99.21 %",
        "    input       pixels from 0 to 1, less 0.1307, over 0.3081",
        "    trained by  budgetnet 0.1.0, torch 2.11.0, numba 0.61.0, python 3.10.1, 1 thread of a processor",
    ]:
        assert joined(line) in joined(text), line
    assert max(map(len, text.split("\n"))) <= 116


def test_several_machines_are_named_with_their_seeds() -> None:
    runs = (run(0, 9_940), replace(run(1, 9_941), machine=replace(MACHINE, torch="2.15.0")), run(2, 9_942))
    text = joined(block(Case(evidence(Confirmation(runs)))))
    assert "budgetnet 0.1.0, torch 2.11.0, numba 0.61.0, python 3.10.1, 1 thread of a processor (seeds 0, 2); " in text
    assert "budgetnet 0.1.0, torch 2.15.0, numba 0.61.0, python 3.10.1, 1 thread of a processor (seeds 1)" in text


@given(st.lists(st.integers(0, 10_000), min_size=2, max_size=24), st.integers(1, 3), st.floats(0, 1), st.booleans())
def test_block_numbers_are_the_recorded_ones(correct: list[int], seeds: int, clean: float, ema: bool) -> None:
    length = max(1, len(correct) // seeds)
    runs = confirmation(*(tuple((correct * 3)[i * length : (i + 1) * length]) for i in range(seeds)), clean=clean)
    case = Case(evidence(runs, recipe=Recipe(ema=0.9 if ema else 0.0)))
    text = joined(block(case))
    facts = facts_of(case)
    written = Accuracies(10_000)
    assert str(facts["mean"]) == f"{100 * sum(runs.finals) / seeds:.2f} %"
    assert f"best test {100 * max(e.correct for r in runs.runs for e in r.epochs) / 10_000:.2f} %" in text
    assert f"held {sum(all(e.correct >= 9940 for e in r.epochs[-5:]) for r in runs.runs)} of {seeds} seed" in text
    for each in runs.runs:
        assert f"seed {each.seed} {' '.join(written.bare(e.correct / 10_000) for e in each.epochs[-5:])} %" in text
    known = set(re.findall(r"\d[\d,.]*", " ".join(map(str, facts.values()))))
    for sentence in sentences(case):
        assert {number.rstrip(".,") for number in re.findall(r"\d[\d,.]*", sentence)} <= {k.rstrip(".,") for k in known}


FIT = "on images as they are, the last weights classify"


@pytest.mark.parametrize(
    ("runs", "network", "options", "words"),
    [
        # one standard error at 99 % of 10,000 images is sqrt(0.99 · 0.01 / 10,000) = 0.0995 %
        (confirmation((9900,), clean=0.9915), "8", {}, f"No overfitting beyond noise: {FIT} 99.15 % of the training"),
        (
            confirmation((9900,), clean=0.9915),
            "8",
            {},
            "0.15 points apart, within two standard errors of 10,000 images",
        ),
        (confirmation((9900,), clean=0.9895), "8", {}, "No overfitting beyond noise"),
        (confirmation((9900,), clean=0.98), "8", {}, f"No overfitting: {FIT} 98.00 % of the training and 99.00 % of"),
        (confirmation((9900,), clean=0.98), "8", {}, "which lie 1.00 points higher, beyond two standard errors"),
        (confirmation((9900,), clean=0.9925), "8", {}, f"Mild overfitting: {FIT} 99.25 % of the training and 99.00 %"),
        (
            confirmation((9900,), clean=0.9925),
            "8",
            {},
            "beyond two standard errors of 10,000 images (0.10 points each)",
        ),
        (confirmation((9800,), clean=0.9899), "8", {}, "Mild overfitting"),
        (confirmation((9800,), clean=0.99), "8", {}, "Overfitting: on images as they are"),
        (confirmation((9800,), clean=0.99), "8", {}, "It underfits: even the training images stay below the target of"),
        # rises of 50, 49 and 51 images: 50 ± 4.3027 · 1 / sqrt(3) = 50 ± 2.5
        (
            confirmation((9900, 9950), (9900, 9949), (9900, 9951)),
            "8",
            {},
            "Still rising: mean test accuracy is 99.00 % at the first and 99.50 % at the last of the 2 epochs (95 % "
            "interval of the rise +0.48 to +0.52 points, paired by seed, p < 0.001).",
        ),
        (
            confirmation((9950, 9900), (9949, 9900), (9951, 9900)),
            "8",
            {},
            "Falling: mean test accuracy is 99.50 % at the first and 99.00 % at the last",
        ),
        # rises of 1, -1 and 3 images: 1 ± 4.3027 · 2 / sqrt(3) = 1 ± 5.0
        (
            confirmation((9900, 9901), (9900, 9899), (9900, 9903)),
            "8",
            {},
            "No trend beyond the noise between seeds: mean test accuracy is 99.00 % at the first and 99.01 % at the "
            "last of the 2 epochs (95 % interval of the rise -0.04 to +0.06 points, paired by seed, p 0.478)",
        ),
        (confirmation((9900, 9950)), "8", {}, "Unsteady: one seed moved by 0.50 points within"),
        (confirmation((9900, 9901)), "8", {}, "Of one seed, so no trend to be told from chance: mean"),
        (confirmation((9900, 9901)), "8", {}, "One seed says nothing about spread"),
        (confirmation((9940, 9940)), "8", {}, "from 1 seed nobody may conclude that it always does."),
        (confirmation((9940, 9940), (9939, 9940)), "8", {}, "held in 1 of 2 seeds (95 % Wilson interval of the share"),
        (
            confirmation((9939, 9940)),
            "8",
            {},
            "it is missed, and this network is no proof that the target can be held.",
        ),
        (
            confirmation((9900,)),
            "8 12 M c12 c12 14 16",
            {"budget": 7500},
            "98.3 % of the budget, nearly all of it; 126",
        ),
        (confirmation((9900,)), "8", {"budget": 100}, "The budget is broken: 178 / 100 params"),
        (confirmation((9900,)), "8 8 M 8 8 M 8", {}, "(2 × 2) is 24 × 24 pixels, the image 28 × 28: no cell sees"),
        # 26 ÷ 2 ÷ 2 ÷ 2 ÷ 2 = 1 cell; 3 + 1 + 2 + 4 + 8 = 18 pixels
        (
            confirmation((9900,)),
            "8 M M M M",
            {},
            "the image 28 × 28: it does not see all of it, and what lies outside",
        ),
        (
            confirmation((9900,)),
            "8 8 M 8 8 M 8 c8",
            {},
            "32 × 32 pixels, padding included, the image 28 × 28: 4 of the 4 cells see all of it.",
        ),
    ],
)
def test_every_rule_says_what_the_numbers_say(
    runs: Confirmation, network: str, options: dict[str, Any], words: str
) -> None:
    assert words in " ".join(sentences(Case(evidence(runs, parse(network), **options))))


def test_a_network_that_fits_its_training_images_does_not_underfit() -> None:
    assert "underfits" not in " ".join(sentences(Case(evidence(confirmation((9900,), clean=0.994)))))


# --- against the model before -----------------------------------------------------------------------------------------


def against(before: Confirmation, after: Confirmation) -> str:
    previous = replace(evidence(before), name="Model_0")
    return " ".join(sentences(Case(evidence(after), "Model_0", previous)))


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        # 50 images each: the least spread of whole images is 0.41, and 4.3027 · 0.41 / sqrt(3) = 1.01
        (
            ((9900,), (9902,), (9904,)),
            ((9950,), (9952,), (9954,)),
            "Over 3 shared seeds it ends 0.50 points above Model_0: larger than the noise between seeds (95 % "
            "interval +0.49 to +0.51 points, paired by seed, p < 0.001) and between images: 54 test images are "
            "classified correctly by more of its seeds, 0 by more of Model_0's (exact paired test over images, p < "
            "0.001).",
        ),
        (
            ((9950,), (9952,), (9954,)),
            ((9900,), (9902,), (9904,)),
            "0.50 points below Model_0: larger than the noise between seeds",
        ),
        # differences -40, 50: mean 5, deviation 63.6, half the interval 12.706 · 45 = 571.8 images
        (
            ((9900,), (9950,)),
            ((9860,), (10_000,)),
            "not distinguishable (95 % interval -5.67 to +5.77 points, paired by seed, p",
        ),
        (((9900,),), ((9950,), (9952,)), "not distinguishable, since a single seed shows no spread"),
        (
            ((9950,), (9950,), (9950,)),
            ((9952,), (9952,), (9952,)),
            "but other test images might reverse it: 2 test images are classified correctly by more of its seeds, 0 by",
        ),
        (((9950,), (9952,)), ((9950,), (9952,)), "it ends 0.00 points from Model_0: not distinguishable"),
    ],
)
def test_a_difference_is_named_only_beyond_noise(
    before: tuple[tuple[int, ...], ...], after: tuple[tuple[int, ...], ...], words: str
) -> None:
    assert words in against(confirmation(*before), confirmation(*after))


def test_what_changed_is_named() -> None:
    before = replace(evidence(THREE), name="Model_0")
    assert "Changed against Model_0: the same network; the same recipe." in sentences(
        Case(evidence(THREE), "Model_0", before)
    )
    after = evidence(THREE, parse("8"), Recipe(epochs=6, learning_rate=0.1, ema=0.999))
    assert (
        "Changed against Model_0: 8 (178 params) for 8 12 M c12 c12 14 16 (7,374); "
        "in the recipe learning_rate 0.05 → 0.1, ema 0 → 0.999."
    ) in sentences(Case(after, "Model_0", before))


@pytest.mark.parametrize(
    "other",
    [
        evidence(confirmation((50,), total=100)),
        evidence(THREE, data="fashion-mnist"),
        evidence(Confirmation((run(7, 9_900),))),
    ],
)
def test_models_of_other_images_or_seeds_are_not_compared(other: Any) -> None:
    text = " ".join(sentences(Case(evidence(), "Model_0", replace(other, name="Model_0"))))
    assert "Not comparable with Model_0, which was tested on other images or trained from other seeds." in text


def test_models_of_the_same_data_otherwise_spelled_are_compared() -> None:
    before = replace(evidence(THREE, data="MNIST"), name="Model_0")
    assert not any("Not comparable" in text for text in sentences(Case(evidence(THREE), "Model_0", before)))


# --- a person's sentences ---------------------------------------------------------------------------------------------


def test_a_persons_sentences_follow_ours_and_may_name_the_model_before() -> None:
    mine = (Sentence("It ends {difference} above {previous}.", "difference_low > 0"),)
    after = evidence(confirmation((9950,), (9952,)), analysis=mine)
    previous = replace(evidence(confirmation((9900,), (9902,))), name="Model_0")
    assert sentences(Case(after, "Model_0", previous))[-1] == "It ends 0.50 points above Model_0."
    with pytest.raises(ModelError) as caught:
        sentences(Case(replace(previous, provenance=after.provenance), "Model_1", replace(after, name="Model_1")))
    assert str(caught.value) == (
        "analysis[0]: 'It ends {difference} above {previous}.' claims difference_low > 0, but that is -0.0053668 and 0"
    )
    with pytest.raises(ModelError, match=r"^analysis\[0\]: there is no fact 'difference_low'; there are best_test, "):
        sentences(Case(after))


def test_no_rule_spells_out_a_digit() -> None:
    """``fill`` would refuse it; this names the rule."""
    for runs in (THREE, confirmation((9900, 9950)), confirmation((9950, 9900), clean=1.0)):
        for rule in RULES:
            template = rule(Case(evidence(runs), "Model_0", replace(evidence(), name="Model_0"))) or ""
            assert not re.search(r"\d", re.sub(r"\{\w+\}", "", template)), rule.__name__


@pytest.mark.parametrize(("images", "decimals"), [(100, 2), (10_000, 2), (10_001, 3), (26_032, 3), (1, 2)])
def test_accuracies_have_the_decimals_of_one_image(images: int, decimals: int) -> None:
    assert Accuracies(images).decimals == decimals


@pytest.mark.parametrize(
    ("low", "high", "words"),
    [
        (-0.0002, 0.0008, "-0.02 to +0.08 points"),
        (-0.000029, 0.000429, "-0.003 to +0.043 points"),
        (0.00002, 0.0005, "+0.002 to +0.050 points"),
        (0.0, 0.0005, "+0.00 to +0.05 points"),
        (-1e-12, 0.0005, "+0.00 to +0.05 points"),
    ],
)
def test_an_interval_shows_on_which_side_of_zero_it_ends(low: float, high: float, words: str) -> None:
    assert Accuracies(10_000).signed_interval(Interval(low, high)) == words
