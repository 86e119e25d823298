"""Retrains a network over seeds fixed in advance, on all training images; the test set reports and chooses nothing."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from math import isfinite
from pathlib import Path
from typing import Any

from budgetnet.architecture import Architecture
from budgetnet.errors import ModelError, WorkerError
from budgetnet.executor import Executor
from budgetnet.jobs import EpochDone, Failed, Finished, Job, Stopped
from budgetnet.recipe import EpochResult, Recipe
from budgetnet.statistics import Interval, mean, mean_interval, std, wilson

LAST = 5  # epochs that must all reach the target
POLL = 1.0  # seconds between two looks for events, so that Ctrl-C is heard


@dataclass(frozen=True)
class SeedRun:
    """All epochs of one seed; accuracies are those of the test set."""

    seed: int
    epochs: tuple[EpochResult, ...]

    @property
    def accuracies(self) -> tuple[float, ...]:
        """Test accuracy of every epoch."""
        return tuple(epoch.accuracy for epoch in self.epochs)

    @property
    def final(self) -> EpochResult:
        """The last epoch: its weights are kept, its accuracy is the seed's result."""
        return self.epochs[-1]

    @property
    def best(self) -> EpochResult:
        """The epoch of highest test accuracy: chosen on test, so only to be reported as that."""
        return max(self.epochs, key=lambda epoch: epoch.accuracy)

    def last(self, count: int = LAST) -> tuple[EpochResult, ...]:
        """The last ``count`` epochs, or all of a shorter run."""
        return self.epochs[-count:]

    def lowest(self, last: int = LAST) -> float:
        """Lowest test accuracy of the last epochs."""
        return min(epoch.accuracy for epoch in self.last(last))

    def holds(self, target: float, last: int = LAST) -> bool:
        """Whether every one of the last epochs reached ``target`` (a fraction)."""
        return all(reaches(epoch, target) for epoch in self.last(last))


def reaches(epoch: EpochResult, target: float) -> bool:
    """Whether enough images are correct; a millionth of an image is forgiven, since 99.4 / 100 is not quite 0.994."""
    return epoch.correct >= target * epoch.total - 1e-6


@dataclass(frozen=True)
class Holds:
    """In how many of ``n`` seeds every one of the last epochs reached the target, with a 95 % Wilson interval."""

    passes: int
    n: int
    interval: Interval


@dataclass(frozen=True)
class Confirmation:
    """What several seeds gave, in the order in which they were asked for; the first one's weights are kept."""

    runs: tuple[SeedRun, ...]

    def __post_init__(self) -> None:
        if not self.runs:
            raise ModelError("a confirmation needs at least one seed, but got none")
        if len(set(self.seeds)) != len(self.runs):
            raise ModelError(f"a confirmation needs different seeds, but got {', '.join(map(str, self.seeds))}")
        for run in self.runs:
            numbers = [epoch.epoch for epoch in run.epochs]
            if not numbers or numbers != list(range(1, len(self.runs[0].epochs) + 1)):
                raise ModelError(f"every seed needs the epochs 1 … {len(self.runs[0].epochs)}, but {run.seed} differs")
            for epoch in run.epochs:
                if not isfinite(epoch.loss + epoch.train_loss):
                    raise ModelError(f"seed {run.seed}: the loss of epoch {epoch.epoch} is not finite")

    @property
    def seeds(self) -> tuple[int, ...]:
        return tuple(run.seed for run in self.runs)

    @property
    def n(self) -> int:
        """Number of seeds."""
        return len(self.runs)

    @property
    def epochs(self) -> int:
        """Epochs of every seed."""
        return len(self.runs[0].epochs)

    @property
    def images(self) -> int:
        """Test images."""
        return self.runs[0].final.total

    @property
    def finals(self) -> tuple[float, ...]:
        """Test accuracy of the last epoch, a seed each."""
        return tuple(run.final.accuracy for run in self.runs)

    @property
    def mean(self) -> float:
        """Mean test accuracy of the last epoch."""
        return mean(self.finals)

    @property
    def std(self) -> float | None:
        """Sample standard deviation of the last epoch's test accuracy; None for one seed."""
        return std(self.finals)

    @property
    def interval(self) -> Interval | None:
        """95 % interval of the mean over seeds, by Student's t; None for one seed."""
        return mean_interval(self.finals)

    @property
    def best_train(self) -> float:
        """Highest running training accuracy of any epoch and seed (on augmented images, with dropout)."""
        return max(epoch.train_accuracy for run in self.runs for epoch in run.epochs)

    @property
    def best_test(self) -> float:
        """Highest test accuracy of any epoch and seed: chosen on test."""
        return max(run.best.accuracy for run in self.runs)

    def lowest(self, last: int = LAST) -> tuple[float, ...]:
        """Lowest test accuracy of the last epochs, a seed each."""
        return tuple(run.lowest(last) for run in self.runs)

    def holds(self, target: float, last: int = LAST) -> Holds:
        """How many seeds reached ``target`` (a fraction) in every one of their last epochs."""
        passes = sum(run.holds(target, last) for run in self.runs)
        return Holds(passes, self.n, wilson(passes, self.n))

    def by_epoch(self) -> tuple[float, ...]:
        """Mean test accuracy over seeds, an epoch each."""
        return tuple(mean(accuracies) for accuracies in zip(*(run.accuracies for run in self.runs), strict=True))

    def to_dict(self) -> dict[str, Any]:
        """JSON-able; every epoch of every seed."""
        return {"runs": [{"seed": run.seed, "epochs": [epoch.to_dict() for epoch in run.epochs]} for run in self.runs]}

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> Confirmation:
        """Inverse of ``to_dict``. Raises ModelError that names the field."""
        runs = _items("confirmation", data, "runs")
        return Confirmation(tuple(_run(f"confirmation.runs[{index}]", run) for index, run in enumerate(runs)))


def _run(place: str, data: Any) -> SeedRun:
    epochs = _items(place, data, "epochs")
    seed = data.get("seed")
    if not isinstance(seed, int) or isinstance(seed, bool):
        raise ModelError(f"{place}.seed must be a whole number, but is {seed!r}")
    return SeedRun(seed, tuple(_epoch(f"{place}.epochs[{index}]", epoch) for index, epoch in enumerate(epochs)))


def _epoch(place: str, data: Any) -> EpochResult:
    known = {field.name: field.type for field in fields(EpochResult)}
    if not isinstance(data, Mapping) or set(data) != set(known):
        raise ModelError(f"{place} must have the fields {', '.join(known)}")
    for name, value in data.items():
        allowed = int if known[name] == "int" else (int, float)
        if isinstance(value, bool) or not isinstance(value, allowed):
            raise ModelError(f"{place}.{name} must be a number, but is {value!r}")
    if not 0 <= data["correct"] <= data["total"] or data["accuracy"] != data["correct"] / max(data["total"], 1):
        raise ModelError(
            f"{place}.accuracy must be {data['correct']:,} / {data['total']:,}, but is {data['accuracy']!r}"
        )
    return EpochResult(**data)


def _items(place: str, data: Any, name: str) -> list[Any]:
    if not isinstance(data, Mapping) or not isinstance(data.get(name), list):
        raise ModelError(f"{place}.{name} must be a list")
    items: list[Any] = data[name]
    return items


# --- running the seeds ------------------------------------------------------------------------------------------------


def confirm(
    executor: Executor,
    architecture: Architecture,
    recipe: Recipe,
    *,
    data: str,
    seeds: Sequence[int],
    weights: Path | None = None,
    done: Sequence[SeedRun] = (),
    on_epoch: Callable[[int, EpochResult], None] | None = None,
    on_run: Callable[[SeedRun], None] | None = None,
) -> Confirmation:
    """Train ``architecture`` once a seed on all training images and read the test set once an epoch, for the report.

    weights: file for the state dict of the first seed's last epoch. done: runs that need no repeating; the first seed
    is repeated all the same if its weights are asked for and not there. on_epoch(seed, result) and on_run(run) tell as
    it goes on. Raises WorkerError when a seed fails; the others are told to stop, and the executor is to be closed.
    """
    kept = {run.seed: run for run in done if run.seed in seeds and len(run.epochs) == recipe.epochs}
    if weights is not None and not weights.exists():
        kept.pop(seeds[0], None)
    missing = [seed for seed in seeds if seed not in kept]
    groups = [missing] if missing and executor.takes_seeds_together else [[seed] for seed in missing]
    jobs = [
        Job(
            index, architecture, recipe, data, "final", group[0],
            weights=str(weights) if weights is not None and group[0] == seeds[0] else None, beside=tuple(group[1:]),
        )
        for index, group in enumerate(groups)
    ]  # fmt: skip
    for run in _runs(executor, jobs, on_epoch or (lambda seed, result: None)):
        kept[run.seed] = run
        if on_run is not None:
            on_run(run)
    return Confirmation(tuple(kept[seed] for seed in seeds))


def _runs(executor: Executor, jobs: Sequence[Job], on_epoch: Callable[[int, EpochResult], None]) -> Iterator[SeedRun]:
    """Run the jobs, as many at once as there are slots, and yield every seed of each that ends."""
    waiting = deque(jobs)
    running: dict[int, Job] = {}
    epochs: dict[int, dict[int, EpochResult]] = {seed: {} for job in jobs for seed in job.seeds}
    try:
        while waiting or running:
            while waiting and len(running) < executor.slots:
                job = waiting.popleft()
                running[job.id] = job
                executor.submit(job)
            for event in executor.events(POLL):
                if event.job not in running:
                    continue
                job = running[event.job]
                if isinstance(event, EpochDone):
                    epochs[event.seed][event.result.epoch] = event.result
                    on_epoch(event.seed, event.result)
                elif isinstance(event, Failed | Stopped):
                    del running[job.id]
                    named = " ".join(map(str, job.seeds))
                    raise WorkerError(f"seed {named}: {event.reason if isinstance(event, Failed) else 'stopped'}")
                elif isinstance(event, Finished):
                    del running[job.id]
                    for seed in job.seeds:
                        yield SeedRun(seed, tuple(result for _, result in sorted(epochs[seed].items())))
    finally:
        for job_id in running:
            executor.stop(job_id)
