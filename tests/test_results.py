"""Records of training: numbers worked out by hand, and every broken record refused by its place."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from budgetnet.errors import ModelError
from budgetnet.results import Confirmation, EpochResult, Outcome, SeedRun
from tests.records import MACHINE, epoch, run


def test_numbers_by_hand() -> None:
    confirmation = Confirmation((run(0, 9900, 9950, 9940, 9942), run(1, 9901, 9939, 9960, 9946)))
    assert confirmation.finals == (0.9942, 0.9946)
    assert confirmation.mean == pytest.approx(0.9944)
    assert confirmation.std == pytest.approx(0.0004 / 2**0.5)  # two values: their distance / sqrt 2
    assert confirmation.interval is not None
    assert confirmation.interval.high - confirmation.mean == pytest.approx(12.7062 * 0.0002, rel=1e-4)  # t(0.975; 1)
    assert confirmation.lowest(3) == (0.9940, 0.9939)
    assert confirmation.lowest(99) == (0.9900, 0.9901)
    assert (confirmation.best_test, confirmation.best_train) == (0.9960, 0.98)
    assert confirmation.by_epoch()[:2] == pytest.approx((0.99005, 0.99445))
    held = confirmation.holds(0.994, last=3)
    assert (held.passes, held.n) == (1, 2)
    assert (round(held.interval.low, 4), round(held.interval.high, 4)) == (0.0945, 0.9055)  # ± z / (2 sqrt(2 + z²))


@pytest.mark.parametrize("target", [0.994, 99.4 / 100])  # the second is 0.9940000000000001
def test_a_target_is_reached_at_the_very_image(target: float) -> None:
    assert run(0, 9940).holds(target)
    assert not run(0, 9939).holds(target)


def test_one_seed_has_no_spread() -> None:
    confirmation = Confirmation((run(0, 9940),))
    assert (confirmation.std, confirmation.interval) == (None, None)


def test_json_round_trip() -> None:
    confirmation = Confirmation((run(3, 9900, 9950), run(1, 9901, 9939)))
    assert Confirmation.from_dict(json.loads(json.dumps(confirmation.to_dict()))) == confirmation


@pytest.mark.parametrize(
    ("runs", "message"),
    [
        ((), "at least one seed"),
        ((run(1, 5), run(1, 6)), "needs different seeds, but got 1, 1"),
        ((run(1, 5, 6), run(2, 6)), r"every seed needs the same number of epochs, but they have \[2, 1\]"),
        ((run(1, 5), run(2, 5, total=9)), r"the same number of test images, but they have \[9, 10000\]"),
    ],
)
def test_impossible_confirmations_are_refused(runs: tuple[SeedRun, ...], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        Confirmation(runs)


NO_OUTCOME = Outcome(1, 2, ())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SeedRun(1, (), NO_OUTCOME, MACHINE), r"seed 1 needs the epochs 1, 2, 3 …, but has \[\]"),
        (
            lambda: SeedRun(1, (epoch(2, 5, 5),), NO_OUTCOME, MACHINE),
            r"seed 1 needs the epochs 1, 2, 3 …, but has \[2\]",
        ),
        (
            lambda: SeedRun(1, (EpochResult(1, 0, 0, 0, 0.5, float("nan"), 1, 2, 0),), NO_OUTCOME, MACHINE),
            "seed 1: the loss of epoch 1 is not finite",
        ),
        (lambda: replace(run(1, 9_998), outcome=NO_OUTCOME), "the last epoch has 2 images wrong, but 0 are listed"),
    ],
)
def test_impossible_runs_are_refused(make: Callable[[], SeedRun], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        make()


def test_clean_training_accuracy_is_the_mean_over_seeds() -> None:
    confirmation = Confirmation((run(0, 9_990, clean=0.99), run(1, 9_990, clean=1.0)))
    assert confirmation.clean_train == pytest.approx(0.995)


def test_a_machine_in_words() -> None:
    words = "budgetnet 0.1.0, torch 2.11.0, numba 0.61.0, python 3.10.1, "
    assert str(MACHINE) == words + "1 thread of a processor"
    assert str(replace(MACHINE, device="H100", together=3)) == words + "H100, 3 seeds together"
    assert str(replace(MACHINE, precision="bfloat16")) == words + "1 thread of a processor, steps in bfloat16"


def test_the_precision_of_the_steps_is_recorded_where_it_is_not_float32() -> None:
    fast = replace(run(0, 9_998), machine=replace(MACHINE, precision="bfloat16"))
    assert "precision" not in run(0, 9_998).to_dict()["machine"]
    assert fast.to_dict()["machine"]["precision"] == "bfloat16"
    for each in (fast, run(0, 9_998)):
        assert SeedRun.from_dict(each.to_dict()) == each


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda run: run["outcome"].update(wrong=[[3, 1], [2, 1]]), r"outcome\.wrong must name every image once"),
        (lambda run: run["outcome"].update(wrong=[[2, 1], [2, 1]]), r"outcome\.wrong must name every image once"),
        (lambda run: run["outcome"].update(wrong=[[2]]), r"outcome\.wrong\[0\] must be \[index, class\], but is \[2\]"),
        (
            lambda run: run["outcome"].update(wrong=[[2, "a"]]),
            r"outcome\.wrong\[0\] must be a whole number, but is 'a'",
        ),
        (
            lambda run: run["outcome"].update(train_correct=60_001),
            "train_correct must be from 0 to train_total, 60,000",
        ),
        (lambda run: run["outcome"].pop("wrong"), "outcome must have the fields train_correct, train_total, wrong"),
        (lambda run: run["machine"].update(threads="1"), r"machine\.threads must be a whole number, but is '1'"),
        (lambda run: run["machine"].update(precision="int8"), "precision must be float32 or bfloat16, but is int8"),
        (lambda run: run["machine"].update(torch=2), r"machine\.torch must be a text, but is 2"),
        (lambda run: run.pop("machine"), r"runs\[0\] must have the fields seed, epochs, outcome, machine"),
    ],
)
def test_broken_runs_are_refused_by_place(change: Any, message: str) -> None:
    data = Confirmation((run(0, 9_998),)).to_dict()
    change(data["runs"][0])
    with pytest.raises(ModelError, match=message):
        Confirmation.from_dict(data)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: data.pop("runs"), "confirmation must have the fields runs"),
        (lambda data: data.update(runs=3), r"confirmation\.runs must be a list, but is 3"),
        (lambda data: data["runs"][0].update(seed="a"), r"runs\[0\]\.seed must be a whole number, but is 'a'"),
        (lambda data: data["runs"][0]["epochs"][0].pop("loss"), r"epochs\[0\] must have the fields epoch, "),
        (lambda data: data["runs"][0]["epochs"][0].update(correct=1.5), r"epochs\[0\]\.correct must be a whole number"),
        (lambda data: data["runs"][0]["epochs"][0].update(correct=9941), r"accuracy must be 9,941 / 10,000, but is"),
    ],
)
def test_broken_records_are_refused_by_place(change: Any, message: str) -> None:
    data = Confirmation((run(0, 9940),)).to_dict()
    change(data)
    with pytest.raises(ModelError, match=message):
        Confirmation.from_dict(data)
