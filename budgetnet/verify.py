"""Rechecks what a frozen model claims from what is on disk: text, code, cost, receptive field, weights, answers."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from budgetnet.audit import fvcore_counts
from budgetnet.build import build
from budgetnet.data import load as load_data
from budgetnet.errors import FOREIGN, ModelError, WorkerError, reason
from budgetnet.evidence import Evidence, read_evidence
from budgetnet.freeze import evidence_path, frozen_source, weights_path
from budgetnet.jobs import EpochDone, Failed, Job, SeedDone, machine, run_job
from budgetnet.modelfile import ModelFile
from budgetnet.models import load
from budgetnet.results import BFLOAT16, Confirmation, EpochResult
from budgetnet.source import RESIDUAL, needs_residual
from budgetnet.standalone import answers, answers_alone
from budgetnet.statistics import Interval, binomial_error, prediction_interval
from budgetnet.tabulate import receptive_field
from budgetnet.train import predict, ties, wrong_of
from budgetnet.weights import load_weights, read_weights
from budgetnet.words import Accuracies

SURELY = 0.99  # confidence with which another machine's run lies in the spread of the recorded seeds


@dataclass(frozen=True)
class Claim:
    """One thing that a frozen model says of itself, and whether it is so; ``found`` is what there is instead."""

    what: str
    holds: bool
    found: str = ""

    def __post_init__(self) -> None:
        if self.holds:
            object.__setattr__(self, "found", "")


def verify(path: Path, name: str, *, retrain: bool = False) -> Iterator[Claim]:
    """Check one model of a file, the cheap claims first. Runs the file's code.

    The answers are those of the first seed's last epoch, evaluated on as many threads as it was trained on; another
    processor may turn a near-tie. ``retrain`` trains that seed again. Raises ModelError when there is no such class,
    or no evidence of it.
    """
    file, record = ModelFile.read(path), evidence_path(path, name)
    if name not in file.classes:
        raise ModelError(f"{path}: there is no class {name}")
    if not record.exists():
        raise ModelError(f"{record}: cannot be read: No such file or directory")
    try:
        evidence = read_evidence(record)
    except ModelError as error:
        yield Claim("the evidence can be read", False, str(error))
        return
    yield _claim("code and text are what the evidence gives", lambda: _other_text(file, evidence))
    try:
        model = load(name, models=path)
    except ModelError as error:
        yield Claim("the class can be made", False, str(error))
        return
    yield from _structure(model, evidence)
    weights = weights_path(path, name)
    given = _claim("the weights are those that were frozen", lambda: _load(model, weights, evidence))
    yield given
    if not given.holds:
        return
    yield from _images(model, evidence)
    yield _claim(
        "alone, without budgetnet, it answers bit for bit like the network in the evidence",
        lambda: _other_answers(path, weights, evidence),
    )
    if retrain:
        yield from _retrained(evidence)


def _claim(what: str, difference: Callable[[], str]) -> Claim:
    """The claim holds if ``difference`` finds none; what it raises, be it the file's own code, is what was found."""
    try:
        found = difference()
    except FOREIGN as error:
        found = reason(error)
    return Claim(what, not found, found)


# --- text and code ----------------------------------------------------------------------------------------------------


def _other_text(file: ModelFile, evidence: Evidence) -> str:
    """The first line that is not as it should be."""
    there = file.source_of(evidence.name).strip().splitlines()
    wanted = frozen_source(evidence, file).strip().splitlines()
    for number, (line, should) in enumerate(zip(there, wanted, strict=False), 1):
        if line.rstrip() != should.rstrip():
            return f"line {number} of the class reads {line.strip()!r}, but should read {should.strip()!r}"
    if len(there) != len(wanted):
        return f"the class has {len(there)} lines, but should have {len(wanted)}"
    if needs_residual(evidence.architecture):
        residual = ast.dump(ast.parse(file.source_of("Residual")))
        if residual != ast.dump(ast.parse(RESIDUAL)):
            return "Residual is not the class that budgetnet writes"
    return ""


# --- cost and receptive field -----------------------------------------------------------------------------------------


def _structure(model: nn.Module, evidence: Evidence) -> Iterator[Claim]:
    cost, shape = evidence.cost, evidence.architecture.input_shape

    def other_counts() -> str:
        params, macs = fvcore_counts(model, shape)
        same = (params, macs) == (cost.params, cost.macs)
        return "" if same else f"{params:,} params and {macs:,} MACs"

    def other_table() -> str:
        traced, recorded = receptive_field(model, shape), receptive_field(evidence.architecture)
        for row, should in zip(traced.rows, recorded.rows, strict=False):
            if replace(row, name="") != replace(should, name=""):
                return f"{row.name} is {row.type} to {row.output}, jump {row.jump}, sees {row.receptive_field}"
        same = len(traced.rows) == len(recorded.rows) and traced.peak_activations == recorded.peak_activations
        return "" if same else f"{len(traced.rows)} layers with {traced.peak_activations:,} activations at the peak"

    yield _claim(f"fvcore counts {cost.params:,} params and {cost.macs:,} MACs", other_counts)
    seen = "×".join(map(str, receptive_field(evidence.architecture).receptive_field))
    what = (
        f"traced layer by layer, a cell of the last map sees {seen} pixels, and {cost.peak_activations:,} activations"
    )
    yield _claim(f"{what} are held at the peak", other_table)


# --- weights and images -----------------------------------------------------------------------------------------------


def _load(model: nn.Module, weights: Path, evidence: Evidence) -> str:
    load_weights(model, read_weights(weights, evidence.weights_sha256), evidence.name, weights)
    return ""


def _images(model: nn.Module, evidence: Evidence) -> Iterator[Claim]:
    """The test images one by one, the training images by number; only where two classes tie may a processor differ."""
    run = evidence.confirmation.runs[0]
    try:
        training, test = answers_of(model, evidence)
    except FOREIGN as error:  # the file's own code runs in there
        yield Claim("the images can be classified", False, reason(error))
        return
    differ = test.unlike(run.outcome.wrong)
    correct = test.total - len(test.wrong)
    yield Claim(
        f"it classifies {run.final.correct:,} of {run.final.total:,} test images correctly, and the others as recorded",
        not differ and test.total == run.final.total,
        f"{correct:,} of {test.total:,} correct, {differ:,} answers differ",
    )
    correct, recorded = training.total - len(training.wrong), run.outcome.train_correct
    yield Claim(
        f"it classifies {recorded:,} of {run.outcome.train_total:,} training images correctly",
        abs(correct - recorded) <= len(training.ties) and training.total == run.outcome.train_total,
        f"{correct:,} of {training.total:,}",
    )


@dataclass(frozen=True, eq=False)
class Answers:
    """What a model makes of a split. ``wrong``: (index, class) of the images that it gets wrong; ``ties``: the images
    that are as good as tied, and between which two classes; none if there are so many that the model is at fault."""

    labels: Tensor
    wrong: tuple[tuple[int, int], ...]
    ties: Mapping[int, frozenset[int]]

    @property
    def total(self) -> int:
        return len(self.labels)

    def unlike(self, recorded: Sequence[tuple[int, int]]) -> int:
        """How many images are recorded as another class than found, and not as the other one of a tie."""
        found, said = dict(self.wrong), dict(recorded)
        return sum(not self._may_be(index, said, found) for index in found.keys() | said.keys())

    def _may_be(self, index: int, said: Mapping[int, int], found: Mapping[int, int]) -> bool:
        if index >= self.total:
            return False
        label = int(self.labels[index])
        classes = frozenset({said.get(index, label), found.get(index, label)})
        return len(classes) == 1 or classes == self.ties.get(index, frozenset())


def answers_of(model: nn.Module, evidence: Evidence) -> tuple[Answers, Answers]:
    """Of the training and of the test images, on as many threads as the evidence was recorded with."""
    data = load_data(evidence.provenance.data, image_shape=evidence.architecture.input_shape)
    origin = evidence.provenance
    found = []
    with threads(evidence.confirmation.runs[0].machine.threads):
        for split in data.final_splits():
            outputs = predict(model, split, origin.mean, origin.std)
            found.append(Answers(split.labels, wrong_of(outputs, split), ties(outputs)))
    return found[0], found[1]


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Let torch compute on so many threads for the time being: sums in another order differ in the last bit."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _other_answers(path: Path, weights: Path, evidence: Evidence) -> str:
    network, shape = build(evidence.architecture), evidence.architecture.input_shape
    load_weights(network, read_weights(weights, evidence.weights_sha256), evidence.name, weights)
    with threads(1):
        expected = answers(network, shape)
    alone = answers_alone(path, evidence.name, weights, shape)
    return "" if alone == expected else "other answers"


# --- training again ---------------------------------------------------------------------------------------------------


def _retrained(evidence: Evidence) -> Iterator[Claim]:
    """The first seed again: to the bit where the machine is the same, else within the spread of the recorded seeds."""
    run = evidence.confirmation.runs[0]
    device = "cpu" if run.machine.device == "cpu" or not torch.cuda.is_available() else "cuda"
    with threads(run.machine.threads):
        here = replace(machine(device), together=run.machine.together, precision=run.machine.precision)
        same = device == "cpu" and here == run.machine
        what = f"trained again from seed {run.seed}, "
        try:
            epochs, wrong = _train_again(evidence, device)
        except WorkerError as error:
            yield Claim(f"{what}it ends", False, str(error))
            return
    if len(epochs) != len(run.epochs):
        yield Claim(f"{what}it takes {len(run.epochs)} epochs", False, f"{len(epochs)} epochs")
        return
    if same:
        equal = [_lasting(epoch) for epoch in epochs] == [_lasting(epoch) for epoch in run.epochs]
        parted = next(
            (new.epoch for new, old in zip(epochs, run.epochs, strict=False) if _lasting(new) != _lasting(old)), 0
        )
        found = f"parts in epoch {parted}" if parted else "other answers at the end"
        yield Claim(f"{what}every epoch is the same to the last bit", equal and wrong == run.outcome.wrong, found)
        return
    written, last = Accuracies(evidence.confirmation.images), epochs[-1].accuracy
    likely = _likely(evidence.confirmation)
    ends = f"{written.bare(likely.low)} to {written.percent(likely.high)}"
    where = "on a GPU, whose bits may differ" if here == run.machine else "on another machine than it was frozen on"
    yield Claim(
        f"{what}{where}, it ends within the spread of its seeds, {ends}",
        last in likely,
        written.percent(last),
    )


def _train_again(evidence: Evidence, device: str) -> tuple[list[EpochResult], tuple[tuple[int, int], ...]]:
    runs = evidence.confirmation.runs
    beside = tuple(run.seed for run in runs[1:]) if runs[0].machine.together > 1 and device == "cuda" else ()
    bf16 = runs[0].machine.precision == BFLOAT16
    data = evidence.provenance.data
    job = Job(0, evidence.architecture, evidence.recipe, data, "final", runs[0].seed, beside=beside, bf16=bf16)
    epochs: list[EpochResult] = []
    wrong: tuple[tuple[int, int], ...] = ()
    for event in run_job(job, device, lambda: False):
        if isinstance(event, Failed):
            raise WorkerError(event.reason)
        if isinstance(event, EpochDone) and event.seed == job.seed:
            epochs.append(event.result)
        if isinstance(event, SeedDone) and event.seed == job.seed:
            wrong = event.outcome.wrong
    return epochs, wrong


def _lasting(epoch: EpochResult) -> EpochResult:
    """An epoch without the time that it took."""
    return replace(epoch, seconds=0.0)


def _likely(runs: Confirmation) -> Interval:
    """Where one more seed would end: by the spread of the seeds, or, of a single one, by that of so many images."""
    error = binomial_error(runs.mean, runs.images)
    likely = prediction_interval(runs.finals, SURELY, least=error) or Interval(
        runs.mean - 4 * error, runs.mean + 4 * error
    )
    return Interval(max(likely.low, 0.0), min(likely.high, 1.0))
