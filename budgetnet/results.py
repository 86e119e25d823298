"""What training gives: epochs, what the finished network makes of whole images, seeds, several seeds. Plain data.

Every record writes itself as JSON and reads itself back; a reader raises ModelError that names the field.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from math import isfinite
from typing import Any

from budgetnet.checked import check_fields, items, record, whole
from budgetnet.errors import ModelError
from budgetnet.statistics import Interval, mean, mean_interval, paired_p, rounding_error, std, wilson

LAST = 5  # epochs that must all reach the target
MOST_THREADS = 4096
FLOAT32, BFLOAT16 = "float32", "bfloat16"


@dataclass(frozen=True)
class EpochResult:
    """What one epoch gave. Accuracies are fractions; train_* are running figures on augmented images."""

    epoch: int  # counted from 1
    learning_rate: float  # of the epoch's last step
    train_loss: float
    train_accuracy: float
    accuracy: float  # of the evaluation split, as are the next three
    loss: float
    correct: int
    total: int
    seconds: float  # training and evaluation

    def to_dict(self) -> dict[str, Any]:
        return dict(vars(self))


@dataclass(frozen=True)
class Outcome:
    """What the weights of the last epoch make of every image as it is: not augmented, no dropout.

    wrong: the test images that are classified wrongly, as (index, class they are taken for), in order.
    """

    train_correct: int
    train_total: int
    wrong: tuple[tuple[int, int], ...]

    @property
    def train_accuracy(self) -> float:
        """Clean training accuracy, to be held against the test accuracy of the same weights."""
        return self.train_correct / self.train_total


@dataclass(frozen=True)
class Machine:
    """What trained a run. On the same one, a CPU repeats the run to the last bit."""

    budgetnet: str
    torch: str
    numba: str
    python: str
    processor: str
    device: str  # "cpu", "mps", or the name of a GPU
    threads: int
    together: int = 1  # seeds that shared every step
    precision: str = FLOAT32  # of the steps; evaluation is always in float32

    def __post_init__(self) -> None:
        if self.precision not in (FLOAT32, BFLOAT16):
            raise ModelError(f"precision must be {FLOAT32} or {BFLOAT16}, but is {self.precision}")
        if not 1 <= self.threads <= MOST_THREADS or self.together < 1:
            raise ModelError(
                f"threads must be from 1 to {MOST_THREADS:,} and together at least 1, "
                f"but are {self.threads:,} and {self.together:,}"
            )

    def __str__(self) -> str:
        threads = f"{self.threads} thread{'' if self.threads == 1 else 's'} of " if self.device == "cpu" else ""
        shared = f", {self.together} seeds together" if self.together > 1 else ""
        where = f"{threads}{self.processor if self.device == 'cpu' else self.device}{shared}"
        steps = [] if self.precision == FLOAT32 else [f"steps in {self.precision}"]
        versions = (f"{name} {getattr(self, name)}" for name in ("budgetnet", "torch", "numba", "python"))
        return ", ".join([*versions, where, *steps])

    def to_dict(self) -> dict[str, Any]:
        """JSON-able; the precision, younger than frozen models, only where it is not float32."""
        values = asdict(self)
        return {name: value for name, value in values.items() if (name, value) != ("precision", FLOAT32)}

    @staticmethod
    def from_dict(data: Any, place: str) -> Machine:
        """Inverse of ``to_dict``. Raises ModelError."""
        return record(Machine, place, {"precision": FLOAT32, **data} if isinstance(data, Mapping) else data)


@dataclass(frozen=True)
class SeedRun:
    """All epochs of one seed; accuracies are those of the test set."""

    seed: int
    epochs: tuple[EpochResult, ...]
    outcome: Outcome
    machine: Machine

    def __post_init__(self) -> None:
        numbers = [epoch.epoch for epoch in self.epochs]
        if not numbers or numbers != list(range(1, len(numbers) + 1)):
            raise ModelError(f"seed {self.seed} needs the epochs 1, 2, 3 …, but has {numbers}")
        for epoch in self.epochs:
            if not isfinite(epoch.loss + epoch.train_loss):
                raise ModelError(f"seed {self.seed}: the loss of epoch {epoch.epoch} is not finite")
        if len(self.outcome.wrong) != self.final.total - self.final.correct:
            raise ModelError(
                f"seed {self.seed}: the last epoch has {self.final.total - self.final.correct:,} images wrong, "
                f"but {len(self.outcome.wrong):,} are listed"
            )
        if self.outcome.wrong and self.outcome.wrong[-1][0] >= self.final.total:
            raise ModelError(
                f"seed {self.seed}: there are {self.final.total:,} test images, "
                f"but image {self.outcome.wrong[-1][0]:,} is listed as wrong"
            )

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

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return {
            "seed": self.seed,
            "epochs": [epoch.to_dict() for epoch in self.epochs],
            "outcome": {**vars(self.outcome), "wrong": [list(pair) for pair in self.outcome.wrong]},
            "machine": self.machine.to_dict(),
        }

    @staticmethod
    def from_dict(data: Any, place: str = "run") -> SeedRun:
        """Inverse of ``to_dict``; ``place`` is what an error calls it."""
        check_fields(SeedRun, place, data)
        return SeedRun(
            whole(f"{place}.seed", data["seed"]),
            tuple(
                _epoch(f"{place}.epochs[{n}]", epoch)
                for n, epoch in enumerate(items(f"{place}.epochs", data["epochs"]))
            ),
            _outcome(f"{place}.outcome", data["outcome"]),
            Machine.from_dict(data["machine"], f"{place}.machine"),
        )


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
class Trend:
    """The 95 % interval of a mean rise, and the p of Student's test that there is none."""

    interval: Interval
    p: float


@dataclass(frozen=True)
class Confirmation:
    """What several seeds gave, in the order in which they were asked for; the first one's weights are kept."""

    runs: tuple[SeedRun, ...]

    def __post_init__(self) -> None:
        if not self.runs:
            raise ModelError("a confirmation needs at least one seed, but got none")
        if len(set(self.seeds)) != len(self.runs):
            raise ModelError(f"a confirmation needs different seeds, but got {', '.join(map(str, self.seeds))}")
        lengths = [len(run.epochs) for run in self.runs]
        if len(set(lengths)) > 1:
            raise ModelError(f"every seed needs the same number of epochs, but they have {lengths}")
        totals = {epoch.total for run in self.runs for epoch in run.epochs}
        if len(totals) > 1:
            raise ModelError(f"every epoch needs the same number of test images, but they have {sorted(totals)}")

    @property
    def seeds(self) -> tuple[int, ...]:
        return tuple(run.seed for run in self.runs)

    @property
    def n(self) -> int:
        """Number of seeds."""
        return len(self.runs)

    @property
    def precision(self) -> str:
        """Of the steps of training; where seeds differ, each that there is."""
        return " and ".join(sorted({run.machine.precision for run in self.runs}))

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
        """95 % interval of the mean over seeds, by Student's t; None for one seed.

        However equal the seeds, an accuracy of whole images is only known to sqrt(1/12) of one.
        """
        return mean_interval(self.finals, least=rounding_error(self.images))

    @property
    def clean_train(self) -> float:
        """Mean over seeds of the clean training accuracy of the last epoch's weights."""
        return mean([run.outcome.train_accuracy for run in self.runs])

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

    def rises(self, last: int = LAST) -> tuple[float, ...]:
        """Of every seed, the test accuracy of the last epoch less that of the first of the last ones."""
        return tuple(run.accuracies[-1] - run.accuracies[-last:][0] for run in self.runs)

    def trend(self, last: int = LAST) -> Trend | None:
        """Mean rise over the last epochs, paired by seed; None for one seed.

        The same images are classified at both ends, so that only the seeds are left to chance, and rounding to images.
        """
        rises, least = self.rises(last), rounding_error(self.images, 2)
        interval, p = mean_interval(rises, least=least), paired_p(rises, least=least)
        return None if interval is None or p is None else Trend(interval, p)

    def by_epoch(self) -> tuple[float, ...]:
        """Mean test accuracy over seeds, an epoch each."""
        return tuple(mean(accuracies) for accuracies in zip(*(run.accuracies for run in self.runs), strict=True))

    def to_dict(self) -> dict[str, Any]:
        """JSON-able; every epoch of every seed."""
        return {"runs": [run.to_dict() for run in self.runs]}

    @staticmethod
    def from_dict(data: Any) -> Confirmation:
        """Inverse of ``to_dict``."""
        check_fields(Confirmation, "confirmation", data)
        runs = items("confirmation.runs", data["runs"])
        return Confirmation(tuple(SeedRun.from_dict(run, f"confirmation.runs[{n}]") for n, run in enumerate(runs)))


# --- reading ----------------------------------------------------------------------------------------------------------


def _epoch(place: str, data: Any) -> EpochResult:
    epoch = record(EpochResult, place, data)
    if epoch.total < 1:
        raise ModelError(f"{place}.total must be at least 1 image, but is {epoch.total:,}")
    if not 0 <= epoch.correct <= epoch.total:
        raise ModelError(f"{place}.correct must be from 0 to {epoch.total:,}, but is {epoch.correct:,}")
    if epoch.accuracy != epoch.correct / epoch.total:
        raise ModelError(f"{place}.accuracy must be {epoch.correct:,} / {epoch.total:,}, but is {epoch.accuracy!r}")
    return epoch


def _outcome(place: str, data: Any) -> Outcome:
    check_fields(Outcome, place, data)
    correct, total = (whole(f"{place}.{name}", data[name]) for name in ("train_correct", "train_total"))
    if not 0 <= correct <= total or total == 0:
        raise ModelError(f"{place}.train_correct must be from 0 to train_total, {total:,}, but is {correct:,}")
    wrong = []
    for n, pair in enumerate(items(f"{place}.wrong", data["wrong"])):
        if not isinstance(pair, list) or len(pair) != 2:
            raise ModelError(f"{place}.wrong[{n}] must be [index, class], but is {pair!r}")
        wrong.append((whole(f"{place}.wrong[{n}]", pair[0]), whole(f"{place}.wrong[{n}]", pair[1])))
    if [index for index, _ in wrong] != sorted({index for index, _ in wrong}):
        raise ModelError(f"{place}.wrong must name every image once and in order")
    return Outcome(correct, total, tuple(wrong))
