"""Results as training would have recorded them, from nothing but numbers of correct images."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from budgetnet.architecture import Architecture
from budgetnet.evidence import Evidence, Provenance
from budgetnet.notation import parse
from budgetnet.recipe import Recipe
from budgetnet.results import Confirmation, EpochResult, Machine, Outcome, SeedRun

MACHINE = Machine("0.1.0", "2.11.0", "0.61.0", "3.10.1", "a processor", "cpu", 1)
TRAINING = 60_000


def epoch(number: int, correct: int, total: int = 10_000, train: float = 0.98) -> EpochResult:
    """Epoch ``number``, with so many test images correct; ``train`` is the running training accuracy."""
    return EpochResult(number, 0.01, 0.05, train, correct / total, 0.02, correct, total, 1.0)


def run(
    seed: int,
    *correct: int,
    total: int = 10_000,
    train: float = 0.98,
    clean: float = 0.99,
    first_wrong: int = 0,
) -> SeedRun:
    """A seed with so many test images correct in each epoch; those wrong at the end follow each other.

    clean: training accuracy of the last weights. first_wrong: index of the first image that is wrong at the end.
    """
    epochs = tuple(epoch(number, images, total, train) for number, images in enumerate(correct, 1))
    wrong = sorted((first_wrong + offset) % total for offset in range(total - (correct[-1] if correct else total)))
    outcome = Outcome(round(clean * TRAINING), TRAINING, tuple((index, 0) for index in wrong))
    return SeedRun(seed, epochs, outcome, MACHINE)


def confirmation(*seeds: tuple[int, ...], **options: Any) -> Confirmation:
    """Seeds 0, 1, 2 …, each with so many test images correct in each epoch."""
    return Confirmation(tuple(run(seed, *correct, **options) for seed, correct in enumerate(seeds)))


NETWORK = parse("8 12 M c12 c12 14 16")  # 7,374 params (BASELINES.md)
PROVENANCE = Provenance("mnist-8000", 42, 8000, 7, "mnist", 0.9921, (0.1307,), (0.3081,))


THREE = confirmation(
    (9800, 9940, 9945, 9950, 9948, 9952), (9810, 9941, 9947, 9944, 9950, 9949), (9790, 9942, 9946, 9950, 9951, 9955)
)


def evidence(
    runs: Confirmation = THREE, network: Architecture = NETWORK, recipe: Recipe | None = None, **origin: Any
) -> Evidence:
    return Evidence("Model_1", network, recipe or Recipe(epochs=6), runs, replace(PROVENANCE, **origin), "00")
