"""From a finished trial of a study to seeds that confirm it, kept with the study, and on to a frozen model."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from shlex import join

from budgetnet.aim import Aim
from budgetnet.architecture import Architecture
from budgetnet.catalogue import known_name, same_data, same_images
from budgetnet.comparison import Comparison, compare
from budgetnet.confirm import confirm
from budgetnet.data import load
from budgetnet.errors import ModelError, SentenceError, StudyError
from budgetnet.evidence import Provenance, read_evidence
from budgetnet.executor import Executor
from budgetnet.files import clear_staging
from budgetnet.freeze import Frozen, evidence_path, freeze
from budgetnet.lock import locked
from budgetnet.modelfile import ModelFile, check_name, free_name
from budgetnet.place import options_of
from budgetnet.recipe import Recipe
from budgetnet.results import BFLOAT16, FLOAT32, Confirmation, EpochResult, SeedRun
from budgetnet.source import class_source, needs_residual
from budgetnet.study import Study, TrialRecord, storage_errors

MAX_SEEDS = 1000
SEEDS = 3  # of a freeze where nothing is confirmed yet


@dataclass(frozen=True)
class Winner:
    """A finished trial and what its search made of it, or one that was added: it has no value."""

    study: Study
    trial: int
    architecture: Architecture
    recipe: Recipe
    value: float | None
    chosen: str | None = None  # precision of the steps of a confirmation; by default that of the seeds that are kept

    @staticmethod
    def of(study: Study, trial: int) -> Winner:
        """Raises StudyError unless the trial is there, and finished or added."""
        record = study.record(trial)
        if record.state not in ("finished", "added"):
            reason = f" ({record.reason})" if record.reason else ""
            raise StudyError(f"trial {trial}: it must be a finished trial, but it is {record.state}{reason}")
        return _complete(study, record)

    @property
    def data(self) -> str:
        return self.study.settings.data

    def runs(self) -> dict[int, SeedRun]:
        """What is kept of its confirmation, in the precision that was chosen if one was, by seed."""
        return {
            run.seed: run
            for run in self.study.runs(self.trial)
            if len(run.epochs) == self.recipe.epochs and self.chosen in (None, run.machine.precision)
        }

    @property
    def precision(self) -> str:
        """Of the steps of its confirmation: one for all seeds."""
        kept = {run.machine.precision for run in self.runs().values()}
        return self.chosen or (kept.pop() if kept else FLOAT32)

    def in_precision(self, chosen: str) -> Winner:
        """The same, to be confirmed in this precision: seeds in bfloat16 give way to float32.

        Raises StudyError where bfloat16 would have to take the place of float32.
        """
        for run in self.runs().values():
            if (run.machine.precision, chosen) == (FLOAT32, BFLOAT16):
                raise StudyError(
                    f"trial {self.trial}: its seeds must all be trained in one precision, "
                    f"but seed {run.seed} was trained in {run.machine.precision} and {chosen} is asked for"
                )
        return replace(self, chosen=chosen)

    def giving_way(self) -> list[int]:
        """The seeds that are kept in bfloat16 and count no more once the first in float32 has ended."""
        return sorted({run.seed for run in self.study.runs(self.trial)} - set(self.runs()))

    def confirmation(self) -> Confirmation:
        """All seeds that are kept. Raises StudyError when there are none."""
        runs = self.runs()
        if not runs:
            command = join(["budgetnet", "confirm", *options_of(self.study.where), "--trial", str(self.trial)])
            raise StudyError(f"trial {self.trial} is not confirmed; do so with: {command}")
        return Confirmation(tuple(runs.values()))

    def missing(self, seeds: Sequence[int]) -> list[int]:
        """The seeds still to be trained; the first also where its weights are gone."""
        have = set(self.runs())
        if not self.study.has_weights(self.trial, seeds[0]):
            have.discard(seeds[0])
        return [seed for seed in seeds if seed not in have]


def _complete(study: Study, record: TrialRecord) -> Winner:
    if record.architecture is None or record.recipe is None or (record.value is None) != (record.state == "added"):
        raise StudyError(f"trial {record.number}: its record is incomplete")
    return Winner(study, record.number, record.architecture, record.recipe, record.value)


def seeds_of(count: int) -> range:
    """Seeds 0 … ``count`` - 1, fixed in advance. Raises StudyError."""
    if not 1 <= count <= MAX_SEEDS:
        raise StudyError(f"--seeds must be between 1 and {MAX_SEEDS:,}, but got {count}")
    return range(count)


def seeds_to_freeze(winner: Winner, count: int | None) -> range:
    """Seeds 0 … ``count`` - 1; by default as many as are confirmed without a gap, or three where none is."""
    if count is not None:
        return seeds_of(count)
    runs = winner.runs()
    unbroken = next(seed for seed in range(len(runs) + 1) if seed not in runs)
    return range(unbroken or SEEDS)


def confirm_winner(
    winner: Winner,
    seeds: Sequence[int],
    executor: Executor,
    on_epoch: Callable[[int, EpochResult], None] | None = None,
    on_lost: Callable[[Sequence[int], str], None] | None = None,
) -> Confirmation:
    """Train a winner on all training images, once a seed; what is kept of it is not repeated, what ends is kept.

    A seed that was interrupted goes on after the last whole epoch that was kept, where machine, threads, software and
    precision (on a GPU also the seeds that train as one) are the same.
    The steps have the precision of the seeds that are kept, or the one that ``in_precision`` chose. Raises
    BudgetnetError, at once where the images have changed; seeds that ended before stay with the study.
    """
    if not winner.missing(seeds):
        return _kept(winner, seeds)
    weights = winner.study.weights(winner.trial, seeds[0])
    with locked(winner.study.where):
        missing, runs = winner.missing(seeds), winner.runs()  # somebody else may have trained since
        _recognise(winner)
        with storage_errors(winner.study.where):
            weights.parent.mkdir(parents=True, exist_ok=True)
            if not winner.study.has_weights(winner.trial, seeds[0]):
                weights.unlink(missing_ok=True)  # of a run that did not end, or not those that were kept
        clear_staging(weights.parent)
        for seed in runs.keys() - set(missing):  # of a process that was killed as it ended
            winner.study.unfinished_seed(winner.trial, seed).forget()
        return confirm(
            executor,
            winner.architecture,
            winner.recipe,
            data=winner.data,
            seeds=seeds,
            weights=weights,
            unfinished=partial(winner.study.unfinished_seed, winner.trial),
            done=[run for seed, run in runs.items() if seed not in missing],
            bf16=winner.precision == BFLOAT16,
            on_epoch=on_epoch,
            on_run=lambda run: winner.study.keep_run(winner.trial, run),
            on_lost=on_lost,
        )


def _recognise(winner: Winner) -> None:
    """Raise StudyError where somebody's own images are no longer those of the study."""
    if known_name(winner.data) is None:
        data = load(winner.data, image_shape=winner.architecture.input_shape)
        winner.study.recognise(training=data.training().fingerprint(), test=data.test().fingerprint())


def _kept(winner: Winner, seeds: Sequence[int]) -> Confirmation:
    runs = winner.runs()
    return Confirmation(tuple(runs[seed] for seed in seeds))


@dataclass(frozen=True)
class Order:
    """How to freeze: the file, the class's name (by default the next), and whether one that exists is replaced."""

    out: Path = Path("model.py")
    name: str | None = None
    force: bool = False

    def check(self, architecture: Architecture) -> None:
        """Raise ModelError when the order cannot be met for a network – before anything is trained."""
        out = self.out.resolve()
        folder = out.parent
        if not folder.is_dir():
            raise ModelError(f"--out {self.out}: there is no folder {folder}")
        if not os.access(folder, os.W_OK) or (self.out.exists() and not os.access(self.out, os.W_OK)):
            raise ModelError(f"--out {self.out}: no permission to write there")
        name = free_name(out, self.name, force=self.force)
        ModelFile.read(out).with_class(name, class_source(architecture, name), residual=needs_residual(architecture))


def provenance(winner: Winner, aim: Aim) -> Provenance:
    """Where a winner is from, and what it was to reach.

    Raises DataError where its data cannot be read, and StudyError where somebody's own images have changed.
    """
    settings, images = winner.study.settings, ""
    data = load(settings.data, image_shape=winner.architecture.input_shape)
    if known_name(settings.data) is None:
        test = data.test().fingerprint()
        winner.study.check_images(training=data.training().fingerprint(), test=test)
        images = test.sha256
    return Provenance(
        study=winner.study.where.name,
        trial=winner.trial,
        budget=settings.budget,
        search_seed=settings.seed,
        data=settings.data,
        validation_accuracy=winner.value,
        mean=data.mean,
        std=data.std,
        target=aim.target,
        last=aim.last,
        aim=aim.why,
        analysis=aim.analysis,
        class_names=data.class_names,
        test_images=images,
    )


def freeze_winner(winner: Winner, confirmation: Confirmation, aim: Aim, order: Order) -> Frozen:
    """Write a confirmed winner as a class, with weights and evidence. On a BudgetnetError no file has changed."""
    try:
        return freeze(
            winner.architecture,
            winner.recipe,
            confirmation,
            provenance(winner, aim),
            winner.study.weights(winner.trial, confirmation.seeds[0]),
            out=order.out,
            name=order.name,
            force=order.force,
        )
    except SentenceError as error:
        raise ModelError(f"{aim.place}: {error}") from None


@dataclass(frozen=True)
class Contender:
    """One side of a comparison: a confirmed trial or a frozen model, and the data that it was tested on.

    ``test_images``: what tells somebody's own from others, where it was kept.
    """

    name: str
    data: str
    confirmation: Confirmation
    test_images: str = ""


def trial_contender(study: Study, trial: int) -> Contender:
    """Raises StudyError unless the trial is confirmed."""
    winner = Winner.of(study, trial)
    return Contender(f"trial {trial}", winner.data, winner.confirmation(), study.images("test"))


def model_contender(path: Path, name: str) -> Contender:
    """A frozen model of a file, from its evidence. Raises ModelError."""
    evidence = read_evidence(evidence_path(path, check_name(name)))
    origin = evidence.provenance
    return Contender(name, origin.data, evidence.confirmation, origin.test_images)


def compare_contenders(first: Contender, second: Contender) -> Comparison:
    """Raises ModelError where the two were not tested on the same images, or share no seeds."""
    if not same_data(first.data, second.data):
        raise ModelError(
            f"only the same data compares, but {first.name} is of {first.data}, {second.name} of {second.data}"
        )
    if not same_images(first.test_images, second.test_images):
        raise ModelError(
            f"only the same test images compare, but those of {first.data} have changed between {first.name} and "
            f"{second.name}"
        )
    return compare(first.confirmation, second.confirmation)
